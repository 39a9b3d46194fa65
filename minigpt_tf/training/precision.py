"""A run's arithmetic: float32, or bfloat16 products with float32 weights; with XLA or without."""

import time

import tensorflow as tf

WORTHWHILE_SPEEDUP = 1.2
"""bfloat16 is chosen if its matrix products are at least this much faster than float32's."""


def resolve_dtype(choice: str) -> str:
    """The Keras dtype policy of a run.

    Args:
        choice: "float32", "mixed_bfloat16", or "auto", which measures which is faster here.

    Returns:
        "float32" or "mixed_bfloat16".
    """
    if choice != "auto":
        return choice
    seconds = {dtype: _matmul_seconds(dtype) for dtype in ("float32", "bfloat16")}
    faster = seconds["float32"] > WORTHWHILE_SPEEDUP * seconds["bfloat16"]
    return "mixed_bfloat16" if faster else "float32"


def resolve_jit_compile(choice: str) -> bool:
    """Whether XLA compiles a run's step.

    Args:
        choice: "always", "never", or "auto": on one GPU. On processors TensorFlow's own kernels are
            faster, above all in bfloat16 (docs/figures.md).

    Returns:
        The choice.
    """
    return choice == "always" or (
        choice == "auto" and len(tf.config.list_logical_devices("GPU")) == 1
    )


def _matmul_seconds(dtype: str, size: int = 1024) -> float:
    """Shortest of several times for one (size, size) product."""
    matrix = tf.cast(tf.random.stateless_normal((size, size), seed=(0, 0)), dtype)
    times = []
    for _ in range(8):
        began = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        times.append(time.perf_counter() - began)
    return min(times)
