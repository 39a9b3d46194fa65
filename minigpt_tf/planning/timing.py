"""The time that a run takes: what it computes, over what the machine does in a second."""

from dataclasses import dataclass

from ..config import ModelConfig
from ..config.constants import ATTENTION_BLOCKS_FROM
from ..inference.lora_targets import kernel_sides
from .memory import block_bytes
from .probe import Speed
from .workload import FLOAT32_BYTES, Schedule, Workload

# Fitted to the 24 runs of `python benchmarks/planning.py` on two cores of an AMD EPYC (Zen 5).

REFERENCE_INTERPRETER = 2205.0
"""`Speed.interpreter` of that machine: what is not computed by TensorFlow follows it."""

IMPORT_SECONDS = 3.5
"""Starting Python, and importing TensorFlow with Keras."""

BUILD_SECONDS, BLOCK_SECONDS = 0.7, 0.41
"""Building a model, compiling its functions and proving that what was saved loads; and the same for
each block."""

LONG_BLOCK_SECONDS = 0.13 / 256
"""Compiling the parts in which attention over long rows is computed, for each block and token."""

PRODUCTS = {4: 0.58, 2: 0.61}
"""Seconds of TensorFlow's products in a step for a second of the measured speed, by bytes of a
number. Its library is faster than NumPy's."""

ATTENTION = 0.37
"""The same for the products of attention, in float32's speed; half are left out, as tokens do not
see those behind them."""

SCORING = 0.41
"""The same for products without gradients."""

PASSES = 9.5
"""How often what a layer keeps is moved through memory in a step: written, read, made again, and by
the elementwise operations between."""

LOGITS_PASSES, SCORED_LOGITS_PASSES = 40, 130
"""The same for the logits of the targets: softmax, loss, gradients; and where texts are scored."""

OPTIMIZER_BYTES = 34
"""Moved for each trained weight: gradient, clipping, averages, the weight itself."""

LAYER_SECONDS, STEP_SECONDS = 0.0011, 0.05
"""What a step takes beside its numbers, for each block and in all."""

WEIGHT_SECONDS, STATE_SECONDS = 21e-9, 2.9e-9
"""Writing, hashing and reading back a byte of the model, and of a saved state."""


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
    slowness = REFERENCE_INTERPRETER / speed.interpreter
    return (
        PRODUCTS[size] * products / _speed(workload, speed)
        + ATTENTION * attention / speed.float32
        + moved / speed.bandwidth
        + slowness * (STEP_SECONDS + LAYER_SECONDS * model.num_layers)
    )


def _speed(workload: Workload, speed: Speed) -> float:
    """Operations a second of the measured products in a run's arithmetic."""
    return speed.float32 if workload.product_bytes == FLOAT32_BYTES else speed.bfloat16


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
    model = workload.model
    slowness = REFERENCE_INTERPRETER / speed.interpreter
    weights = FLOAT32_BYTES * model.parameter_count
    state = FLOAT32_BYTES * workload.trained * workload.state_copies
    forward = forward_flops(
        model, schedule.scored, schedule.scored_attended, schedule.scored_targets
    )
    logits = FLOAT32_BYTES * schedule.scored_targets * model.vocab_size
    scoring = SCORING * forward / _speed(workload, speed)
    scoring += SCORED_LOGITS_PASSES * logits / speed.bandwidth
    block = BLOCK_SECONDS
    if workload.length >= ATTENTION_BLOCKS_FROM:
        block += LONG_BLOCK_SECONDS * workload.length
    return Time(
        reading=schedule.reading,
        importing=slowness * IMPORT_SECONDS * importing,
        building=slowness * (BUILD_SECONDS + block * model.num_layers),
        steps=schedule.steps * _step_seconds(workload, schedule, speed),
        evaluations=scoring + schedule.evaluations * schedule.sampled * weights / speed.reading,
        saving=slowness * (WEIGHT_SECONDS * weights + STATE_SECONDS * state),
    )
