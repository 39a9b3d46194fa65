"""A Listener that writes to a terminal, or plainly to a file."""

import sys
import time
from typing import TextIO

from .events import Evaluation, Listener, Progress


def as_duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _bar(done: int, total: int) -> str:
    filled = 20 * done // total
    return f"[{'=' * filled}{' ' * (20 - filled)}]"


class ConsoleListener(Listener):
    """A progress line that rewrites itself on a terminal, and a paragraph for each evaluation."""

    SECONDS_BETWEEN_UPDATES = 0.2
    SECONDS_BETWEEN_LINES = 10

    def __init__(self, stream: TextIO | None = None) -> None:
        """`stream`: where to write (unset: standard output)."""
        self.stream = stream or sys.stdout
        self.terminal = self.stream.isatty()
        self.width = 0
        self.updated = time.monotonic()
        self.preparing, self.began = "", self.updated

    def notice(self, text: str) -> None:
        self._line(f"note: {text}")

    def preparation(self, what: str, done: int, total: int) -> None:
        """As `progress`, with what is being done; nothing of what is done at once."""
        now = time.monotonic()
        if what != self.preparing:
            self.preparing, self.began = what, now
        if done == total > 0:
            self.clear()
        elif total == 0:  # it may be long before the next call
            if self.terminal:
                self._rewrite(f"{what} ...")
        elif self._is_time():
            seconds_left = (now - self.began) * (total - done) / max(1, done)
            self._update(
                f"{_bar(done, total)} {what}  {done / max(1, total):.0%}  "
                f"ETA {as_duration(seconds_left)}"
            )

    def progress(self, progress: Progress) -> None:
        """Rewrites the progress line; in a file, adds one now and then."""
        if self._is_time() or progress.step == progress.total_steps:
            self._update(self._describe(progress))

    def _is_time(self) -> bool:
        pause = self.SECONDS_BETWEEN_UPDATES if self.terminal else self.SECONDS_BETWEEN_LINES
        return time.monotonic() - self.updated >= pause

    def _update(self, text: str) -> None:
        self.updated = time.monotonic()
        if self.terminal:
            self._rewrite(text)
        else:
            self._line(text)

    def _rewrite(self, text: str) -> None:
        self.stream.write("\r" + text.ljust(self.width))
        self.stream.flush()
        self.width = len(text)

    def _describe(self, progress: Progress) -> str:
        return (
            f"{_bar(progress.step, progress.total_steps)} "
            f"step {progress.step:,}/{progress.total_steps:,}  epoch {progress.epoch:.2f}  "
            f"loss {progress.loss:.3f}  accuracy {progress.accuracy:.1%}  "
            f"{progress.tokens_per_second:,.0f} tokens/s  ETA {as_duration(progress.seconds_left)}"
        )

    def evaluation(self, evaluation: Evaluation) -> None:
        """The figures in one line, the sample in the next."""
        text = (
            f"step {evaluation.step:,}  epoch {evaluation.epoch:.2f}  "
            f"{as_duration(evaluation.seconds)}  loss {evaluation.loss:.4f}  "
            f"accuracy {evaluation.accuracy:.1%}"
        )
        if evaluation.val_loss is not None:
            text += f"  validation loss {evaluation.val_loss:.4f}"
        if evaluation.val_perplexity is not None:
            text += f"  perplexity {evaluation.val_perplexity:,.1f}"
        for name, value in evaluation.metrics.items():
            text += f"  {name} {value:.4f}"
        if evaluation.tokens_per_second:
            text += f"  {evaluation.tokens_per_second:,.0f} tokens/s"
        self._line(text)
        self._line(f"    {evaluation.sample!r}")

    def clear(self) -> None:
        """Takes the progress line away, for something else to be written."""
        if self.width:
            self.stream.write("\r" + " " * self.width + "\r")
            self.stream.flush()
            self.width = 0

    def _line(self, text: str) -> None:
        self.clear()
        self.stream.write(text + "\n")
        self.stream.flush()
