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

PRODUCTS = {4: 0.51, 2: 0.42}
"""Seconds of TensorFlow's products for a second of the measured speed, by bytes of a number. Its
library of products is faster than NumPy's."""

ATTENTION = 0.24
"""The same for the products of attention, in float32's speed; half are left out, as tokens do
not see those behind them."""

PASSES = 23
"""How often what a layer keeps is moved through memory in a step: written, read, made again, and by
the elementwise operations between."""

LOGITS_PASSES = 57
"""The same for the logits of the targets: softmax, loss, gradients."""

OPTIMIZER_BYTES = 40
"""Moved for each trained weight: gradient, clipping, averages, the weight itself."""

LAYER_SECONDS, STEP_SECONDS = 0.008, 0.036
"""What a step takes beside its numbers, for each block and in all."""

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


def kept_bytes(workload: Workload, tokens: float) -> float:
    """What the trained layers keep of tokens for their gradients.

    Args:
        workload: The run.
        tokens: How many.

    Returns:
        Bytes.
    """
    layers = 1 if workload.trains == "last_block" else workload.model.num_layers
    return layers * block_bytes(workload.model, workload.length, workload.product_bytes) * tokens


def _step_seconds(workload: Workload, schedule: Schedule, speed: Speed) -> float:
    """A training step: products, attention, what is moved, and what each block takes besides."""
    model, size = workload.model, workload.product_bytes
    attention = attention_flops(model, schedule.attended)
    attention *= 1 + 2 / model.num_layers if workload.trains == "last_block" else 3
    products = step_flops(workload, schedule) - attention
    moved = PASSES * kept_bytes(workload, schedule.tokens)
    moved += LOGITS_PASSES * FLOAT32_BYTES * schedule.targets * model.vocab_size
    moved += OPTIMIZER_BYTES * workload.trained
    if workload.trains == "adapter" and workload.kernel_bytes < size:
        moved += 4 * FLOAT32_BYTES * workload.kernels  # dequantized, and read
    slowness = REFERENCE_INTERPRETER / speed.interpreter
    return (
        PRODUCTS[size] * products / (speed.float32 if size == 4 else speed.bfloat16)
        + ATTENTION * attention / speed.float32
        + moved / speed.bandwidth
        + slowness * (STEP_SECONDS + LAYER_SECONDS * model.num_layers)
    )


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
    slowness = REFERENCE_INTERPRETER / speed.interpreter
    products = (speed.float32 if size == 4 else speed.bfloat16) / PRODUCTS[size]
    weights = FLOAT32_BYTES * model.parameter_count
    step = _step_seconds(workload, schedule, speed)
    forward = forward_flops(
        model, schedule.scored, schedule.scored_attended, schedule.scored_targets
    )
    scoring = forward / products + kept_bytes(workload, schedule.scored) / speed.bandwidth
    sample = schedule.sampled * weights / speed.bandwidth + 2 * weights / speed.bandwidth
    return Time(
        reading=schedule.reading,
        importing=slowness * IMPORT_SECONDS * importing,
        building=slowness * (BUILD_SECONDS + BLOCK_SECONDS * model.num_layers),
        steps=schedule.steps * step,
        evaluations=scoring + schedule.evaluations * sample,
        saving=slowness * (SAVE_SECONDS + SAVED_BLOCK_SECONDS * model.num_layers)
        + 4 * weights / DISK_BANDWIDTH,
    )
