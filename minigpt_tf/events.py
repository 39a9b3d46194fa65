"""What long work tells while it goes on. The library never prints: a Listener does."""

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
    """What else was found on the validation part, by name."""
    loss_per: str = "token"
    """What the losses are means of."""


class Listener:
    """Hears what happens in a run; each method may be overridden."""

    def notice(self, text: str) -> None:
        """Something a person should know."""

    def preparation(self, what: str, done: int, total: int) -> None:
        """Before the run, often: what is done with the text, and how much of it (0: not known)."""

    def progress(self, progress: Progress) -> None:
        """After every step."""

    def weights(self, step: int, weights: Mapping[str, "np.ndarray"]) -> None:
        """At every evaluation, for measures of one's own: the model's weights, not to be changed.

        The library computes nothing from them; `inference.engine.Engine` takes them as they are.
        """

    def evaluation(self, evaluation: Evaluation) -> None:
        """After every evaluation."""
