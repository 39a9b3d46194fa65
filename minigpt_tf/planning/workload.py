"""What decides how much memory and time a run takes: known before TensorFlow is imported."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from ..config import ModelConfig, TrainingConfig
from ..inference.lora_targets import kernel_sides
from ..machine import has_fast_bfloat16

Trains = Literal["all", "last_block", "adapter"]
"""The weights with gradients: all, those of the last block, or a low-rank update's."""

FLOAT32_BYTES = 4

STATE_COPIES = {"adam": 3, "adamw": 3, "muon": 2}
"""By optimizer: a weight and its averages."""


@dataclass(frozen=True)
class Schedule:
    """What a run computes, in the order of its loop. Tokens include the padding of rows."""

    steps: int
    tokens: float
    """Of a step, on average."""
    attended: float
    """Sum of T * T over the rows of a step, on average: the scores of one head."""
    targets: float
    """Tokens of a step whose logits are computed, on average."""
    evaluations: int
    scored: float
    """Tokens that are scored without training on them, in the whole run."""
    scored_attended: float
    """As `attended`, of all that is scored."""
    scored_targets: float
    """Tokens of it whose logits are computed."""
    sampled: int
    """Tokens that an evaluation generates, at most."""
    reading: float = 0.0
    """Seconds that it took to read the data."""


@dataclass(frozen=True)
class Workload:
    """A run as its memory and its time see it."""

    method: str
    """"train", or a method of fine-tuning."""
    model: ModelConfig
    training: TrainingConfig
    length: int
    """Tokens of the longest row, with its padding."""
    targets: int
    """Tokens of a row whose logits are computed, at most; 0 for a classifier."""
    trained: int
    """Parameters with gradients."""
    trains: Trains = "all"
    kernel_bytes: float = FLOAT32_BYTES
    """Of a weight of the kernels in the blocks, as the run holds them."""
    rows_per_record: int = 1
    logits_in_chunks: bool = True
    """Whether the logits of a batch are made in turns, of which one at a time is in memory."""
    stored: float | None = None
    """Bytes of the model's weights as the engine holds them (unset: 4 for each)."""
    on_text: bool = False
    """Whether it trains on windows of a text, not on records."""

    @property
    def rows(self) -> int:
        """Rows that are in memory at once."""
        return self.rows_per_record * (self.training.batch_size // self.training.accumulate)

    @property
    def product_bytes(self) -> int:
        """Of a number in products of matrices: 2 in bfloat16."""
        return 4 if dtype_of(self.training) == "float32" else 2

    @property
    def state_copies(self) -> int:
        """Of each trained weight in a saved state: itself, and what the optimizer keeps of it."""
        return STATE_COPIES[self.training.optimizer]

    @property
    def kernels(self) -> int:
        """Weights of the kernels in the blocks."""
        sides = kernel_sides(self.model).values()
        return self.model.num_layers * sum(inputs * outputs for inputs, outputs in sides)

    def with_training(self, **settings: Any) -> "Workload":
        """The same run with other settings.

        Args:
            settings: Fields of TrainingConfig.

        Returns:
            The changed workload.
        """
        return replace(self, training=replace(self.training, **settings))


def dtype_of(training: TrainingConfig) -> str:
    """The arithmetic of a run.

    Args:
        training: Its dtype; "auto" is taken for bfloat16 where the processor has products of it.

    Returns:
        "float32" or "mixed_bfloat16".
    """
    if training.dtype == "auto":
        return "mixed_bfloat16" if has_fast_bfloat16() else "float32"
    return training.dtype


def text_workload(model: ModelConfig, training: TrainingConfig) -> Workload:
    """A run that trains a model on windows of a text.

    Args:
        model: The architecture.
        training: How it is trained.

    Returns:
        The workload.
    """
    length, count = model.context_length, model.parameter_count
    return Workload("train", model, training, length, length, count, on_text=True)


def text_schedule(
    model: ModelConfig,
    training: TrainingConfig,
    *,
    steps: int,
    eval_every: int,
    scored: float,
    reading: float = 0.0,
) -> Schedule:
    """What a run on windows of a text computes.

    Args:
        model: The architecture.
        training: How it is trained.
        steps: Of the whole run.
        eval_every: Steps between evaluations; one more comes at the end.
        scored: Tokens that an evaluation scores.
        reading: Seconds that it took to read the text.

    Returns:
        The schedule.
    """
    tokens, evaluations = training.batch_size * model.context_length, -(-steps // eval_every)
    return Schedule(
        steps=steps,
        tokens=tokens,
        attended=tokens * model.context_length,
        targets=tokens,
        evaluations=evaluations,
        scored=evaluations * scored,
        scored_attended=evaluations * scored * model.context_length,
        scored_targets=evaluations * scored,
        sampled=training.sample_tokens,
        reading=reading,
    )
