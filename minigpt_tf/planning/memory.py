"""The memory that a run takes at its peak, from sizes alone: the one formula for it.

What TensorFlow takes in a step stays in the heaps of its threads; what is made for evaluations and
files comes on top. So the peak is a sum. What layers keep for their gradients was counted in
`model.training_layers`; the coefficients that nobody can count were fitted to the peaks of 66 runs
on two cores of AMD Zen 5 (`python benchmarks/planning.py` measures 24 others).
"""

import math
from dataclasses import dataclass

from ..config import ModelConfig
from ..config.constants import ATTENTION_BLOCKS_FROM
from .limits import LOGITS_AT_ONCE, MOST_LOGITS
from .workload import FLOAT32_BYTES, Workload

MIB = 2**20

PROCESS_BYTES = 790 * MIB
"""Python with TensorFlow, Keras and Numba, their libraries loaded and compiled functions."""

LAYER_BYTES = 12 * MIB
"""A block's layers and their nodes in the compiled functions."""

FEED_FORWARD_BYTES = {
    "relu": (4, 2),
    "relu2": (9, 7),
    "gelu": (8, 7),
    "gelu_tanh": (9, 8),
    "swiglu": (17, 12),
    "geglu": (14, 13),
    "geglu_tanh": (17, 13),
}
"""Kept for each unit of a feed-forward layer, by activation, in float32 and in bfloat16. Those of
relu2, geglu and geglu_tanh are sums of the others'."""

HEADS, SCORES, TRANSIENT_SCORES = 1.15, 1.05, 6
"""Bytes of heads and of attention weights as multiples of what is counted, and bytes of each
attention weight of one layer that its gradient takes."""

RECOMPUTED = 3.8
"""Multiples of a block's input that --remat keeps."""

LOGITS, HEAD_GRADIENTS = 0.65, 0.6
"""Of what logits and the gradients of the output head take, what comes on top of the layers'."""

ACCUMULATED = 2
"""Gradients that a batch in parts takes beside those of a part."""

MUON = 5
"""Multiples of the kernels that orthogonalizing their updates takes."""


SCORES_IN_BLOCKS = 0.45
"""Of the memory of all scores, what attention in blocks of queries leaves at the peak: its own
blocks, and what the heaps keep for evaluations and files (three runs: 0.24, 0.44 and 0.95)."""


@dataclass(frozen=True)
class Memory:
    """Bytes at a run's peak, by what takes them."""

    process: float
    """The program itself."""
    weights: float
    """The model's, as the run holds them."""
    optimizer: float
    """Averages of the gradients."""
    gradients: float
    activations: float
    """What the layers keep of a batch for its gradients."""
    logits: float
    files: float
    """Copies for evaluations, checkpoints and the model that is written."""

    @property
    def total(self) -> float:
        """Bytes."""
        return sum(vars(self).values())


def memory_of(workload: Workload) -> Memory:
    """Estimates the memory of a run.

    Args:
        workload: The run.

    Returns:
        Bytes at its peak, by what takes them.
    """
    model, trained = workload.model, FLOAT32_BYTES * workload.trained
    weights = float(FLOAT32_BYTES * model.parameter_count)
    if workload.trains == "adapter":
        frozen = FLOAT32_BYTES * (model.parameter_count - workload.kernels)
        weights = frozen + workload.kernel_bytes * workload.kernels + trained
    activations = activation_bytes(workload)
    return Memory(
        process=PROCESS_BYTES + LAYER_BYTES * model.num_layers,
        weights=weights,
        optimizer=(workload.state_copies - 1) * trained,
        gradients=_gradient_bytes(workload),
        activations=activations,
        logits=LOGITS * logits_bytes(workload),
        files=_file_bytes(workload, activations),
    )


def _gradient_bytes(workload: Workload) -> float:
    """Gradients, with those of the output head, which are made in turns."""
    model, training = workload.model, workload.training
    trained = FLOAT32_BYTES * workload.trained
    turns = training.accumulate > 1
    extra = MUON * FLOAT32_BYTES * workload.kernels if training.optimizer == "muon" else 0
    head = 0.0
    if workload.trains == "all":
        targets = workload.rows * workload.targets
        if workload.on_text:
            chunks = math.ceil(targets / max(1, MOST_LOGITS // model.vocab_size))
        else:
            chunks = math.ceil(training.accumulate * targets * model.vocab_size / LOGITS_AT_ONCE)
        head = HEAD_GRADIENTS * chunks * FLOAT32_BYTES * model.vocab_size * model.embed_dim
    return trained + ACCUMULATED * trained * turns + head + extra


def _file_bytes(workload: Workload, activations: float) -> float:
    """What is copied for evaluations and files, on top of all else.

    With trained weights that is the best evaluation's, and a state of the run. An adapter is merged
    for each answer, and compared, logit by logit; the merged model is then written and read back.
    What a step has left in the heaps is used for a part of that.
    """
    model, trained = workload.model, FLOAT32_BYTES * workload.trained
    whole = FLOAT32_BYTES * model.parameter_count
    stored = whole if workload.stored is None else workload.stored
    if workload.trains == "all":
        return (1 + workload.state_copies) * trained
    compared = 3 * FLOAT32_BYTES * workload.length * model.vocab_size if workload.targets else 0
    built = 0.8 * whole - 0.35 * activations
    if workload.trains == "last_block":
        built = 1.45 * whole - activations
    from ..inference.key_value_cache import Cache  # here, so that no start waits for it

    return stored + max(compared, built + Cache.nbytes(model), 0.0) + 40 * MIB


def activation_bytes(workload: Workload) -> float:
    """What the layers keep of the rows for the gradients.

    Args:
        workload: The run.

    Returns:
        Bytes.
    """
    model, size, length = workload.model, workload.product_bytes, workload.length
    tokens = workload.rows * length
    frozen = workload.trains == "adapter"
    in_blocks = workload.on_text and length >= ATTENTION_BLOCKS_FROM
    kept = SCORES_IN_BLOCKS if in_blocks else 1.0
    block = block_bytes(model, length, size, frozen=frozen, scores_kept=kept) * tokens
    transient = kept * TRANSIENT_SCORES * model.num_heads * length * tokens
    if workload.trains == "last_block":
        return block + transient
    if workload.training.remat:
        return RECOMPUTED * size * model.embed_dim * model.num_layers * tokens + block + transient
    return block * model.num_layers + transient


def block_bytes(
    model: ModelConfig, length: int, size: int, *, frozen: bool = False, scores_kept: float = 1.0
) -> float:
    """Memory that a block keeps for the gradients, for each token.

    Args:
        model: The architecture.
        length: Tokens of a row, which attend to each other.
        size: Bytes of a number in the products: 4, or 2 for bfloat16.
        frozen: Whether the kernels have no gradients, so that most of their inputs are not kept.
        scores_kept: The fraction of its scores that attention keeps.

    Returns:
        Bytes for each token.
    """
    D, F, N, K = model.embed_dim, model.ff_dim, model.num_heads, model.num_kv_heads
    mask = 1 if model.dropout else 0
    norms = 4 if model.norm_placement == "both" else 2
    width = norms * (2 * size + 4) + 2 * mask - size * frozen  # inputs, outputs, float32 between
    heads = size * model.head_dim * (2 * N + 2 * K)
    heads += 4 * model.head_dim * (N + K) if model.qk_norm != "none" else 0
    score = 4 + (size if size == 2 else 0) + mask * model.dropout_everywhere * (size + 1)
    score += 8 if model.attention_softcap is not None else 0
    unit = FEED_FORWARD_BYTES[model.activation][0 if size == 4 else 1] - size * frozen
    return D * width + HEADS * heads + SCORES * scores_kept * score * N * length + F * max(unit, 0)


def logits_bytes(workload: Workload) -> float:
    """Logits with their gradients, as many as are in memory at once.

    Args:
        workload: The run.

    Returns:
        Bytes.
    """
    vocab_size = workload.model.vocab_size
    logits = workload.rows * workload.targets * vocab_size
    if workload.logits_in_chunks:
        most = MOST_LOGITS if workload.on_text else LOGITS_AT_ONCE
        logits = min(logits, max(most, vocab_size))
    return (8 + 2 * workload.product_bytes) * logits
