"""What the training loop needs to know of that which it trains."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import TrainingConfig
from ..inference.weights import Weights
from .checkpoint import RunState


class TrainableModel(ABC):
    """A model and its loss, as `step.TrainingStep` trains it."""

    variables: list[keras.Variable]
    """What the steps change."""

    @abstractmethod
    def loss(self, *batch: Any, **training: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Loss and accuracy, scalars, of a batch or of a part of one. The mean over equal parts is
        that of the whole batch. Each model takes the arrays that its job's `batch` gives, and the
        keyword `training`."""


class Job(ABC):
    """A run's model, its batches, how it is judged, and what becomes of it.

    Everything about a batch is a function of the step, so a run can resume at any step.
    """

    training: TrainingConfig
    model: TrainableModel
    optimizer: keras.Optimizer
    total_steps: int
    eval_every: int
    """Steps between evaluations."""
    usual_rate: float = TrainingConfig.learning_rate
    """A learning rate with which such runs go well."""
    signature: Sequence[tf.TensorSpec] | None = None
    """Shapes and types of a batch, where the lengths of its rows vary."""
    batch_tokens: float
    """Tokens of a batch, on average."""
    loss_per: str = "token"
    """What the loss is a mean of; exp(loss) is a perplexity where these are tokens."""

    @abstractmethod
    def epoch_of(self, step: int) -> float:
        """How often the data have been seen after so many steps."""

    @abstractmethod
    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        """The arguments of the model's loss, each with as many rows as the batch has."""

    @abstractmethod
    def weights(self) -> Weights:
        """A copy of what is trained, by name."""

    @abstractmethod
    def check_weights(self, weights: Weights, where: str) -> None:
        """Raises ModelFolderError where the weights cannot be those of this job."""

    @abstractmethod
    def named_variables(self) -> dict[str, keras.Variable]:
        """The trained variables by the names of `weights`."""

    @abstractmethod
    def validate(self) -> dict[str, float] | None:
        """Scores the model on held-out data.

        Returns:
            Figures by name, "loss" among them; None without held-out data.
        """

    @abstractmethod
    def sample(self, weights: Weights) -> str:
        """What a model with these weights says, for people to read."""

    @abstractmethod
    def write_history(self, folder: Path, state: RunState) -> None:
        """Writes the history and the samples into the folder."""

    @abstractmethod
    def save(self, weights: Weights, state: RunState, kept: str) -> None:
        """Writes the result with these weights, which are the "last" or the "best" that there were.

        Raises ModelFolderError, and then what was there is unchanged.
        """

    @abstractmethod
    def out_of_memory(self) -> str:
        """What to say where a step does not fit into memory."""

    def state_variables(self) -> dict[str, Any]:
        """Name -> variable of all that a step changes."""
        variables = {f"model/{name}": v for name, v in self.named_variables().items()}
        optimizer = {f"optimizer/{i}": v for i, v in enumerate(self.optimizer.variables)}
        return variables | optimizer
