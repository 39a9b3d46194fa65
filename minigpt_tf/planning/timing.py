"""The time that a run takes: what it computes, over what the machine does in a second."""

from dataclasses import dataclass

from ..config import ModelConfig
from ..inference.lora_targets import kernel_sides
from .memory import block_bytes
from .probe import Speed
from .workload import FLOAT32_BYTES, Schedule, Workload

REFERENCE_INTERPRETER = 2350.0
"""`Speed.interpreter` of the machine on which the seconds below were measured."""

IMPORT_SECONDS = 3.5
"""Starting Python, and importing TensorFlow with Keras."""

BUILD_SECONDS, BLOCK_SECONDS = 1.5, 0.5
"""Building a model and compiling its functions, and the same for each block."""

SAVE_SECONDS, SAVED_BLOCK_SECONDS = 2.0, 0.1
"""Writing a model and proving that it loads: three models are built for that."""

PRODUCT_EFFICIENCY = 0.7
"""TensorFlow's speed in the products of a step, as a fraction of the largest products'."""

PASSES = 6
"""How often what a layer keeps is moved through memory in a step: written, read, made again."""

OPTIMIZER_BYTES = 40
"""Moved for each trained weight: gradient, clipping, averages, the weight itself."""

DISK_BANDWIDTH = 500e6
"""Bytes a second that files are written, read back and hashed with."""


@dataclass(frozen=True)
class Time:
    """Seconds of a run, by what takes them."""

    reading: float
    """The data."""
    importing: float
    """TensorFlow and the program itself."""
    building: float
    """The model, and compiling its functions."""
    steps: float
    evaluations: float
    saving: float

    @property
    def total(self) -> float:
        """Seconds."""
        return sum(vars(self).values())


def step_flops(workload: Workload, schedule: Schedule) -> float:
    """Operations of the products of matrices in a training step.

    A product of (n, a) and (a, b) counts 2 n a b. Behind it come the gradients: of its inputs, and
    of its kernel if that is trained, as many again each. Attention is computed for all pairs of
    tokens of a row.

    Args:
        workload: The run.
        schedule: Tokens of a step.

    Returns:
        Operations.
    """
    forward = 2.0 * workload.kernels * schedule.tokens
    attention = attention_flops(workload.model, schedule.attended)
    head = 2.0 * workload.model.embed_dim * workload.model.vocab_size * schedule.targets
    if workload.trains == "last_block":
        blocks = forward + 2 * forward / workload.model.num_layers
        attention += 2 * attention / workload.model.num_layers
    else:
        blocks = forward * (3 if workload.trains == "all" else 2)
        attention *= 3
    again = forward + attention / 3 if workload.training.remat else 0
    updates = 6.0 * workload.trained * schedule.tokens if workload.trains == "adapter" else 0
    return blocks + attention + 3 * head + again + updates


def attention_flops(model: ModelConfig, attended: float) -> float:
    """Operations of all layers' products of queries with keys, and of weights with values.

    Args:
        model: The architecture.
        attended: Sum of T * T over the rows.

    Returns:
        Operations, forward alone.
    """
    return 4.0 * model.num_layers * model.num_heads * model.head_dim * attended


def forward_flops(model: ModelConfig, tokens: float, attended: float, targets: float) -> float:
    """Operations of the products when tokens are scored.

    Args:
        model: The architecture.
        tokens: How many.
        attended: Sum of T * T over the rows.
        targets: Tokens whose logits are computed.

    Returns:
        Operations.
    """
    sides = kernel_sides(model).values()
    kernels = model.num_layers * sum(inputs * outputs for inputs, outputs in sides)
    head = model.embed_dim * model.vocab_size
    return 2.0 * kernels * tokens + attention_flops(model, attended) + 2.0 * head * targets


def time_of(
    workload: Workload, schedule: Schedule, speed: Speed, *, importing: bool = True
) -> Time:
    """Estimates how long a run takes.

    Args:
        workload: The run.
        schedule: Its steps and evaluations.
        speed: Of the machine.
        importing: Whether the run begins with the start of the program.

    Returns:
        Seconds, by what takes them.
    """
    model, size = workload.model, workload.product_bytes
    products = PRODUCT_EFFICIENCY * (speed.float32 if size == 4 else speed.bfloat16)
    layers = 1 if workload.trains == "last_block" else model.num_layers
    kept = layers * block_bytes(model, workload.length, size) * schedule.tokens
    moved = PASSES * kept + OPTIMIZER_BYTES * workload.trained
    if workload.trains == "adapter" and workload.kernel_bytes < size:
        moved += 4 * FLOAT32_BYTES * workload.kernels  # dequantized, and read
    step = step_flops(workload, schedule) / products + moved / speed.bandwidth
    forward = forward_flops(
        model, schedule.scored, schedule.scored_attended, schedule.scored_targets
    )
    scoring = forward / products + kept / max(1.0, schedule.tokens) * schedule.scored / (
        speed.bandwidth
    )
    weights = FLOAT32_BYTES * model.parameter_count
    sample = schedule.sampled * weights / speed.bandwidth + 2 * weights / speed.bandwidth
    slowness = REFERENCE_INTERPRETER / speed.interpreter
    return Time(
        reading=schedule.reading,
        importing=slowness * IMPORT_SECONDS * importing,
        building=slowness * (BUILD_SECONDS + BLOCK_SECONDS * model.num_layers),
        steps=schedule.steps * step,
        evaluations=scoring + schedule.evaluations * sample,
        saving=slowness * (SAVE_SECONDS + SAVED_BLOCK_SECONDS * model.num_layers)
        + 4 * weights / DISK_BANDWIDTH,
    )
