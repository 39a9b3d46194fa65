"""The memory that a run takes at its peak, from sizes alone: the one formula for it.

What TensorFlow takes in a step it keeps, in the heaps of its threads; what is made for evaluations
and files comes on top. So the peak is a sum, and does not depend on the order of allocations. The
coefficients were fitted to the peaks (ru_maxrss) of whole runs: `python benchmarks/planning.py`.
"""

from dataclasses import dataclass

from ..config import ModelConfig
from ..config.constants import ATTENTION_BLOCKS_FROM
from .limits import LOGITS_AT_ONCE, MOST_LOGITS
from .workload import FLOAT32_BYTES, Workload

MIB = 2**20

PROCESS_BYTES = 690 * MIB
"""Python with TensorFlow, Keras and Numba, their libraries loaded."""

LAYER_BYTES = 5 * MIB
"""A block's layers and their nodes in the compiled functions."""


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
    model, size = workload.model, workload.product_bytes
    parameters, trained = model.parameter_count, workload.trained
    weights = float(FLOAT32_BYTES * parameters)
    if workload.trains == "adapter":
        frozen = FLOAT32_BYTES * (parameters - workload.kernels)
        weights = frozen + workload.kernel_bytes * workload.kernels + FLOAT32_BYTES * trained
    casts = size * workload.kernels if size == 2 and workload.trains == "all" else 0
    copies = workload.state_copies
    return Memory(
        process=PROCESS_BYTES + LAYER_BYTES * model.num_layers,
        weights=weights,
        optimizer=FLOAT32_BYTES * (copies - 1) * trained,
        gradients=FLOAT32_BYTES * trained + casts,
        activations=activation_bytes(workload),
        logits=logits_bytes(workload),
        files=FLOAT32_BYTES * (trained + max(copies * trained, 2 * parameters)),
    )


def activation_bytes(workload: Workload) -> float:
    """What the layers keep of the rows for the gradients.

    Args:
        workload: The run.

    Returns:
        Bytes.
    """
    model, size = workload.model, workload.product_bytes
    in_blocks = workload.on_text and workload.length >= ATTENTION_BLOCKS_FROM
    block = block_bytes(model, workload.length, size, scores_kept=not in_blocks)
    if workload.trains == "last_block":
        kept = block
    elif workload.training.remat:
        kept = size * model.embed_dim * model.num_layers + block
    else:
        kept = block * model.num_layers
    return kept * workload.rows * workload.length


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


def block_bytes(model: ModelConfig, length: int, size: int, *, scores_kept: bool = True) -> int:
    """Memory that a block keeps for the gradients, for each token.

    Args:
        model: The architecture.
        length: Tokens of a row, which attend to each other.
        size: Bytes of a number in the products: 4, or 2 for bfloat16.
        scores_kept: Whether attention keeps its scores, as it does unless it computes in blocks.

    Returns:
        Bytes for each token.
    """
    D, F, N = model.embed_dim, model.ff_dim, model.num_heads
    heads = model.head_dim * (3 * N + 2 * model.num_kv_heads)
    mask = 1 if model.dropout else 0
    norms_and_residuals = 2 * 4 * D + 4 * size * D + 2 * mask * D
    scores = N * length * (4 + size + mask * model.dropout_everywhere)
    gates = {"swiglu": 3 * size, "relu": 2 * size}.get(model.activation, 8 + 2 * size)
    gates += size if model.gated and model.activation != "swiglu" else 0
    scores += 8 * N * length if model.attention_softcap is not None else 0
    scores *= scores_kept
    norms_and_residuals += 2 * 4 * D if model.norm_placement == "both" else 0
    heads += model.head_dim * (N + model.num_kv_heads) if model.qk_norm != "none" else 0
    return norms_and_residuals + size * heads + scores + gates * F
