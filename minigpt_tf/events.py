"""What long work reports while it runs. The library never prints: a Listener does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Progress:
    """After a step: means since the last evaluation.

    Args:
        step: Steps so far, of the whole run.
        total_steps: Steps of the whole run.
        epoch: Passes over the training windows so far.
        loss: Mean loss, in nats.
        accuracy: Fraction of targets that were the most likely token.
        tokens_per_second: Of training, without evaluations.
        seconds_left: Estimated, for the rest of the run.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.Progress(50, 200, 0.25, 3.1, 0.3, 9000.0, 60.0).step
        50
    """

    step: int
    total_steps: int
    epoch: float
    loss: float
    accuracy: float
    tokens_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Evaluation:
    """One row of history.csv, and the sample that belongs to it.

    Args:
        step: Steps so far.
        epoch: Passes over the training windows so far.
        seconds: Of training so far.
        learning_rate: At this step.
        loss: Mean training loss since the last evaluation, in nats.
        accuracy: Fraction of training targets that were the most likely token.
        val_loss: Mean loss on the validation split, in nats; None without one.
        val_perplexity: exp(val_loss), if that is a loss per token.
        tokens_per_second: Of training since the last evaluation.
        best: Whether the loss was never lower.
        sample: What the model generates.
        metrics: Other figures of the validation split, by name.
        loss_per: What the losses are means of.
        gradient_norm: Mean length of the whole gradient since the last evaluation, before clipping;
            None in runs of earlier versions.

    Example:
        >>> import minigpt_tf as mg
        >>> class Best(mg.Listener):
        ...     def evaluation(self, evaluation: mg.Evaluation) -> None:
        ...         if evaluation.best:
        ...             print(f"step {evaluation.step}: {evaluation.val_loss:.2f}")
        >>> row = mg.Evaluation(9, 1.0, 2.0, 1e-3, 3.2, 0.2, 3.25, 25.8, 9e3, True, "he was")
        >>> Best().evaluation(row)
        step 9: 3.25
    """

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
    """What else was found on the validation split, by name."""
    loss_per: str = "token"
    """What the losses are means of."""
    gradient_norm: float | None = None
    """Mean over the steps since the last evaluation."""


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
        """Something a person should know.

        Args:
            text: One or two sentences.
        """

    def preparation(self, what: str, done: int, total: int) -> None:
        """Called often during work other than training steps: which work, and how far it is.

        Args:
            what: The work, such as "encoding" or "scoring".
            done: How much of it is done, in units of the work: bytes, characters, windows.
            total: How much there is to do; 0: unknown.
        """

    def progress(self, progress: Progress) -> None:
        """After every training step.

        Args:
            progress: The step and the means since the last evaluation.
        """

    def weights(self, step: int, weights: Mapping[str, "np.ndarray"]) -> None:
        """At every evaluation, for measures of one's own: the model's weights, not to be changed.

        The library computes nothing from them; `inference.engine.Engine` takes them as they are.

        Args:
            step: Steps so far.
            weights: By the names of `inference.weights`.
        """

    def evaluation(self, evaluation: Evaluation) -> None:
        """After every evaluation.

        Args:
            evaluation: The row of history.csv, and the sample.
        """


SILENT = Listener()
"""The default: does nothing."""


class PassingListener(Listener):
    """Passes everything on to another Listener: for those that change, or note, a part of it.

    Args:
        listener: Gets every event.

    Example:
        >>> from minigpt_tf.events import NoticeLog, PassingListener
        >>> log = NoticeLog()
        >>> PassingListener(log).notice("the text is short")
        >>> log.notices
        ['the text is short']
    """

    def __init__(self, listener: Listener = SILENT) -> None:
        self.listener = listener

    def notice(self, text: str) -> None:
        """Passes it on."""
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


class NoticeLog(PassingListener):
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
        super().__init__(listener)
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        """Keeps a notice that is new, and passes it on."""
        if text not in self.notices:
            self.notices.append(text)
            super().notice(text)


class LostListener(Listener):
    """Passes everything on until that fails, as where the reader of a pipe has gone.

    Work is not lost with its reader: it asks `error` when it can end.

    Args:
        listener: Gets every event before.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.error: OSError | None = None
        """Why nothing is passed on any more."""

    def _pass_on(self, method: Callable[..., None], *arguments: Any) -> None:
        if self.error is None:
            try:
                method(*arguments)
            except OSError as error:
                self.error = error

    def notice(self, text: str) -> None:
        """Passes it on."""
        self._pass_on(self.listener.notice, text)

    def preparation(self, what: str, done: int, total: int) -> None:
        """Passes it on."""
        self._pass_on(self.listener.preparation, what, done, total)

    def progress(self, progress: Progress) -> None:
        """Passes it on."""
        self._pass_on(self.listener.progress, progress)

    def weights(self, step: int, weights: Mapping[str, "np.ndarray"]) -> None:
        """Passes them on."""
        self._pass_on(self.listener.weights, step, weights)

    def evaluation(self, evaluation: Evaluation) -> None:
        """Passes it on."""
        self._pass_on(self.listener.evaluation, evaluation)
