"""How much memory a training step takes, from the sizes alone, and what would fit."""

from dataclasses import replace

from ..config import ModelConfig, TrainingConfig
from ..machine import check_fits_memory, memory_size

BYTES_PER_PARAMETER = 18
"""float32 weight, gradient and the optimizer's two averages, bfloat16 copy."""

PROCESS_BYTES = 600 * 2**20
"""TensorFlow itself."""

MOST_LOGITS = 2**24
"""Logits that are computed at once, at most: 64 MiB in float32."""

MOST_TOKENS = 2**14
"""Tokens that are scored at once, at most."""


def windows_at_once(context_length: int, vocab_size: int) -> int:
    """Windows that are scored together.

    Args:
        context_length: Tokens of a window.
        vocab_size: Logits of a token.

    Returns:
        At least 1, and few enough for their logits.
    """
    return max(1, min(MOST_TOKENS, MOST_LOGITS // vocab_size) // context_length)


def step_bytes(model: ModelConfig, training: TrainingConfig) -> float:
    """Memory that a step takes at its peak, to within a fifth of what was measured.

    Most of it is what the layers keep for their gradients (`model.training_layers`). Products count
    as bfloat16 unless the settings ask for float32.

    Args:
        model: The architecture.
        training: Batch size, gradient accumulation, dtype and remat.

    Returns:
        Bytes.
    """
    size = 4 if training.dtype == "float32" else 2
    block = block_bytes(model, model.context_length, size)
    kept = size * model.embed_dim * model.num_layers + block
    kept = kept if training.remat else block * model.num_layers
    tokens = training.batch_size // training.accumulate * model.context_length
    logits = min(tokens * model.vocab_size, max(MOST_LOGITS, model.vocab_size))
    weights = BYTES_PER_PARAMETER * model.parameter_count
    return PROCESS_BYTES + weights + kept * tokens + (8 + 2 * size) * logits


def block_bytes(model: ModelConfig, length: int, size: int) -> int:
    """Memory that a block keeps for the gradients, for each token.

    Args:
        model: The architecture.
        length: Tokens of a row, which attend to each other.
        size: Bytes of a number in the products: 4, or 2 for bfloat16.

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
    norms_and_residuals += 2 * 4 * D if model.norm_placement == "both" else 0
    heads += model.head_dim * (N + model.num_kv_heads) if model.qk_norm != "none" else 0
    return norms_and_residuals + size * heads + scores + gates * F


def check_weights_fit(model: ModelConfig) -> None:
    """Checks that the weights fit into memory, with gradients and the state of an optimizer.

    Args:
        model: The architecture.

    Raises:
        ConfigError: They are larger than this machine's memory.
    """
    what = f"the {model.parameter_count:,} parameters with their gradients and Adam's averages"
    check_fits_memory(BYTES_PER_PARAMETER * model.parameter_count, what)


def check_step_fits(model: ModelConfig, training: TrainingConfig) -> None:
    """Checks that a training step fits into memory.

    Args:
        model: The architecture.
        training: Batch size, gradient accumulation, dtype and remat.

    Raises:
        ConfigError: It takes more than this machine has; the message says what would fit.
    """
    what = f"steps of {training.batch_size // training.accumulate} windows at once"
    check_fits_memory(step_bytes(model, training), what, _advice(model, training))


def out_of_memory(model: ModelConfig, training: TrainingConfig) -> str:
    """The message for a step that ran out of memory, though it should fit: other programs use some.

    Args:
        model: The architecture.
        training: Batch size, gradient accumulation, dtype and remat.

    Returns:
        A sentence that says what needs less.
    """
    needed = step_bytes(model, training) / 2**30
    doubled = 2 * training.accumulate
    divides = training.batch_size % doubled == 0
    accumulate = f"--accumulate {doubled}" if divides else "a smaller --batch-size"
    remat = "" if training.remat else " or --remat"
    return f"out of memory: a step needs about {needed:.1f} GiB; {accumulate}{remat} needs less"


def _advice(model: ModelConfig, training: TrainingConfig) -> str:
    """The mildest change with which a step fits."""
    memory = memory_size() or 0
    for remat in (training.remat, True):
        for accumulate in range(training.accumulate, training.batch_size + 1):
            if training.batch_size % accumulate == 0:
                changed = replace(training, accumulate=accumulate, remat=remat)
                if step_bytes(model, changed) <= memory:
                    smaller = f"--accumulate {accumulate}" * (accumulate > training.accumulate)
                    again = "--remat" * (remat and not training.remat)
                    return f"{' '.join(filter(None, (again, smaller)))} fits, and trains the same"
    return "choose a smaller model or a shorter --context-length"
