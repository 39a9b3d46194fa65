"""What long work reports while it runs. The library never prints: a Listener does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Progress:
    """After a step: means since the last evaluation."""

    step: int
    total_steps: int
    epoch: float
    loss: float
    accuracy: float
    tokens_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Evaluation:
    """One row of history.csv, and the sample that goes with it."""

    step: int
    epoch: float
    seconds: float
    learning_rate: float
    loss: float
    accuracy: float
    val_loss: float | None
    val_perplexity: float | None
    tokens_per_second: float
    best: bool
    sample: str
    metrics: dict[str, float] = field(default_factory=dict)
    """What else was found on the validation set, by name."""
    loss_per: str = "token"
    """What the losses are means of."""


class Listener:
    """Receives what happens in long work. Here every method does nothing; override what you need.

    Example:
        >>> import minigpt_tf as mg
        >>> class Notes(mg.Listener):
        ...     def notice(self, text):
        ...         print("note:", text)
        >>> Notes().notice("the context is now 40")
        note: the context is now 40
    """

    def notice(self, text: str) -> None:
        """Something a person should know."""

    def preparation(self, what: str, done: int, total: int) -> None:
        """Outside of training steps, often: which work, and how far it is.

        Args:
            what: The work, such as "encoding" or "scoring".
            done: How much of it is done, in units of the work: bytes, characters, windows.
            total: How much there is to do; 0: unknown.
        """

    def progress(self, progress: Progress) -> None:
        """After every training step."""

    def weights(self, step: int, weights: Mapping[str, "np.ndarray"]) -> None:
        """At every evaluation, for measures of one's own: the model's weights, not to be changed.

        The library computes nothing from them; `inference.engine.Engine` takes them as they are.
        """

    def evaluation(self, evaluation: Evaluation) -> None:
        """After every evaluation."""


SILENT = Listener()
"""The default: does nothing."""


class NoticeLog(Listener):
    """Keeps the notices, each once, and passes everything on to another Listener.

    Example:
        >>> from minigpt_tf.events import NoticeLog
        >>> log = NoticeLog()
        >>> log.notice("the text is short")
        >>> log.notice("the text is short")
        >>> log.notices
        ['the text is short']
    """

    def __init__(self, listener: Listener = SILENT) -> None:
        """
        Args:
            listener: Gets every event, and each notice the first time.
        """
        self.listener, self.notices = listener, list[str]()

    def notice(self, text: str) -> None:
        """Keeps a notice that is new, and passes it on."""
        if text not in self.notices:
            self.notices.append(text)
            self.listener.notice(text)

    def preparation(self, what: str, done: int, total: int) -> None:
        """Passes it on."""
        self.listener.preparation(what, done, total)

    def progress(self, progress: Progress) -> None:
        """Passes it on."""
        self.listener.progress(progress)

    def weights(self, step: int, weights: Mapping[str, "np.ndarray"]) -> None:
        """Passes them on."""
        self.listener.weights(step, weights)

    def evaluation(self, evaluation: Evaluation) -> None:
        """Passes it on."""
        self.listener.evaluation(evaluation)
