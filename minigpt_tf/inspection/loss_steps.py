"""From logits to the loss in the six steps that the course draws."""

from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..metrics import log_softmax, softmax


@dataclass(frozen=True)
class LossSteps:
    """What `loss_steps` computes; T targets, V ids.

    Example:
        >>> steps = loss_steps(np.log(np.array([[1.0, 3.0], [1.0, 1.0]])), np.array([1, 0]))
        >>> steps.target_probabilities, round(steps.loss, 3)
        (array([0.75, 0.5 ]), 0.49)
    """

    logits: np.ndarray
    """1. (T, V): a number for each token that could come next."""
    probabilities: np.ndarray
    """2. (T, V): their softmax."""
    target_probabilities: np.ndarray
    """3. (T,): those of the tokens that do come next."""
    log_probabilities: np.ndarray
    """4. (T,): their logarithms."""
    mean: float
    """5. Of those."""
    loss: float
    """6. The negative of it, in nats per token."""


def loss_steps(logits: np.ndarray, targets: np.ndarray) -> LossSteps:
    """Each step from logits to the loss.

    Args:
        logits: (T, V), at least one row.
        targets: Ids (T,).

    Returns:
        The six steps, in float64.

    Raises:
        DataError: There is no target.
    """
    if not len(targets):
        raise DataError("a loss needs at least two tokens: one to read, one to guess")
    logits = np.asarray(logits, dtype=np.float64)
    places = np.arange(len(targets)), targets
    probabilities, log_probabilities = softmax(logits), log_softmax(logits)[places]
    mean = float(log_probabilities.mean())
    return LossSteps(logits, probabilities, probabilities[places], log_probabilities, mean, -mean)
