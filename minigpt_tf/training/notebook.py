"""A Listener that shows a run in a notebook: a line of progress, samples, the curve of the loss."""

import sys
from typing import Any

from ..console import ConsoleListener, plain_bar
from ..events import Evaluation, Listener
from .history import loss_picture


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook: Jupyter, Colab, VS Code.

    IPython in a terminal is not: its shell has no kernel.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def listener_for(verbose: bool | None) -> Listener:
    """The listener for a run: a silent one, the terminal's, or the notebook's if this is one.

    Args:
        verbose: whether progress is shown (unset: in a notebook).
    """
    notebook = in_notebook()
    if not (notebook if verbose is None else verbose):
        return Listener()
    return NotebookListener() if notebook else ConsoleListener()


class NotebookListener(ConsoleListener):
    """Shows three outputs that change in place: a line of progress, the lines of a ConsoleListener
    for notices and evaluations with their samples, and the curve of the loss so far."""

    def __init__(self) -> None:
        super().__init__()
        self.terminal = True  # a line can be rewritten
        self.lines: list[str] = []
        self.history: list[Evaluation] = []
        self._progress, self._text, self._curve = _Display(), _Display(), _Display()

    def evaluation(self, evaluation: Evaluation) -> None:
        """Adds the figures and the sample, and draws the curve anew."""
        super().evaluation(evaluation)
        self.history.append(evaluation)
        picture = loss_picture(self.history)
        self._curve.show({"image/png": picture, "text/plain": "the loss over the steps"})

    def clear(self) -> None:
        """Nothing: the line of progress is an output of its own."""

    def _rewrite(self, text: str, done: int = 0, total: int = 0) -> None:
        self._progress.show({"text/plain": plain_bar(done, total) + text})

    def _line(self, text: str) -> None:
        if not self._progress.shown:  # it keeps its place above the lines
            self._rewrite("starting ...")
        self.lines.append(text)
        self._text.show({"text/plain": "\n".join(self.lines)})


class _Display:
    """One output of a cell, which can be replaced."""

    def __init__(self) -> None:
        self._handle: Any = None

    @property
    def shown(self) -> bool:
        return self._handle is not None

    def show(self, content: dict[str, Any]) -> None:
        """Shows the content, by its MIME types, in the place of what was shown before."""
        from IPython.display import display

        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)
