"""What the training loop needs to know about what it trains."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import TrainingConfig
from ..inference.weights import Weights
from ..planning.record import RunRecord
from ..storage.model_folder import PLAN_SECTION
from .checkpoint import RunState


class TrainableModel(ABC):
    """A model and its loss, as `step.TrainingStep` trains it."""

    variables: list[keras.Variable]
    """What the steps change."""

    @abstractmethod
    def loss(self, *batch: Any, **training: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Loss and accuracy of a batch or a microbatch.

        The mean over microbatches of equal size is that of the whole batch.

        Args:
            batch: The arrays that the job's `batch` gives.
            training: The keyword `training`: whether dropout applies.

        Returns:
            Loss and accuracy, float32 scalars.
        """


class Job(ABC):
    """A run: its model, its batches, its validation, and how the result is saved.

    Everything about a batch is a function of the step, so a run can resume at any step.
    """

    training: TrainingConfig
    model: TrainableModel
    optimizer: keras.Optimizer
    total_steps: int
    eval_every: int
    """Steps between evaluations."""
    usual_rate: float = TrainingConfig.learning_rate
    """A typical learning rate; errors suggest it."""
    signature: Sequence[tf.TensorSpec] | None = None
    """Shapes and types of a batch whose rows vary in length; None for fixed shapes."""
    batch_tokens: float
    """Tokens of a batch, on average."""
    loss_per: str = "token"
    """What the loss is a mean of; exp(loss) is a perplexity if it is "token"."""
    record: RunRecord | None = None
    """What the run was predicted to take, and takes; None where several workers train."""

    @abstractmethod
    def epoch_of(self, step: int) -> float:
        """How often the data have been seen.

        Args:
            step: Steps done.

        Returns:
            Epochs, such as 1.5.
        """

    @abstractmethod
    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        """One batch, a function of the step alone.

        Args:
            step: Counted from 0.

        Returns:
            The arguments of the model's loss, each with B rows.
        """

    @abstractmethod
    def weights(self) -> Weights:
        """A copy of the trained weights, by name."""

    @abstractmethod
    def check_weights(self, weights: Weights, where: str) -> None:
        """Checks that weights can be those of this job.

        Args:
            weights: By name.
            where: Names them in the error.

        Raises:
            ModelFolderError: They are not; the first that differs is named.
        """

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
        """A sample of what a model with these weights generates.

        Args:
            weights: By name.

        Returns:
            Text for a person.
        """

    @abstractmethod
    def write_history(self, folder: Path, state: RunState) -> None:
        """Writes the history and the samples.

        Args:
            folder: Where to.
            state: How far the run has come.
        """

    @abstractmethod
    def save(self, weights: Weights, state: RunState, kept: str) -> None:
        """Writes the result.

        Args:
            weights: By name.
            state: How far the run has come.
            kept: Which weights they are: "last" or "best".

        Raises:
            ModelFolderError: It cannot be written; the old files are unchanged.
        """

    @abstractmethod
    def out_of_memory(self) -> str:
        """The message for a step that does not fit into memory."""

    def record_section(self) -> dict[str, Any]:
        """The section of config.json on what the run was predicted to take, and took so far."""
        return {} if self.record is None else {PLAN_SECTION: self.record.section()}

    def state_variables(self) -> dict[str, Any]:
        """All that a step changes, by name: the variables of model and optimizer."""
        variables = {f"model/{name}": v for name, v in self.named_variables().items()}
        optimizer = {f"optimizer/{i}": v for i, v in enumerate(self.optimizer.variables)}
        return variables | optimizer
