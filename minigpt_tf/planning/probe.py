"""How fast this machine is: two seconds of products, copies and plain Python. No TensorFlow."""

import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..machine import has_fast_bfloat16, processor, usable_cores

SIDE = 512
"""Rows and columns of the matrices that are multiplied."""

COPIED_BYTES = 2**26
"""By each core at a time: more than the caches hold for it."""

BFLOAT16_GAINS = {"amx_bf16": 6.0, "avx512_bf16": 2.0}
"""Instructions -> how much faster TensorFlow's products in bfloat16 are than those in float32.
Measured: 2.0 on AMD Zen 5 (`python benchmarks/planning.py --probe`)."""

WITHOUT_BFLOAT16 = 0.5
"""The same without such instructions: numbers are converted each time."""


@dataclass(frozen=True)
class Speed:
    """What a machine does in a second."""

    float32: float
    """Operations of a product of matrices in float32."""
    bfloat16: float
    """The same in bfloat16; estimated from the processor's instructions."""
    bandwidth: float
    """Bytes that all cores together read and write in copies."""
    reading: float
    """Bytes that they read, where nothing is written."""
    interpreter: float
    """Rounds of a small loop in Python: what is not computed by TensorFlow follows it."""


def measure_speed(seconds: float = 2.0) -> Speed:
    """Measures this machine with NumPy.

    The best of several times counts, so that other programs disturb little.

    Args:
        seconds: How long it may take.

    Returns:
        What it does in a second.
    """
    import numpy as np

    quarter = seconds / 4
    matrix = np.random.default_rng(0).standard_normal((SIDE, SIDE), dtype=np.float32)
    product = np.empty_like(matrix)
    products = _shortest(lambda: np.matmul(matrix, matrix, out=product), 2 * quarter)
    float32 = 2 * SIDE**3 / products
    gains = [BFLOAT16_GAINS[name] for name in BFLOAT16_GAINS if name in processor()[1]]
    gain = gains[0] if has_fast_bfloat16() else WITHOUT_BFLOAT16
    copied, read = _bandwidths(quarter)
    return Speed(float32, gain * float32, copied, read, 1 / _shortest(_small_loop, quarter / 2))


def _bandwidths(seconds: float) -> tuple[float, float]:
    """Bytes a second of copies and of reading, by all cores."""
    import numpy as np

    cores = usable_cores()
    blocks = [np.ones((2, COPIED_BYTES // 4), dtype=np.float32) for _ in range(cores)]
    with ThreadPoolExecutor(cores) as pool:

        def copy() -> None:
            list(pool.map(lambda block: np.copyto(block[0], block[1]), blocks))

        def read() -> None:
            list(pool.map(lambda block: block[0].max(), blocks))

        copied = 2 * COPIED_BYTES * cores / _shortest(copy, seconds)
        return copied, COPIED_BYTES * cores / _shortest(read, seconds)


def _small_loop() -> None:
    """Something that only the interpreter does."""
    counts: dict[int, int] = {}
    for i in range(10_000):
        counts[i & 255] = counts.get(i & 255, 0) + i


def _shortest(work: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of several runs, the first of which does not count."""
    work()
    ends, times = time.perf_counter() + seconds, list[float]()
    while not times or time.perf_counter() < ends:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


@functools.cache
def machine_name() -> str:
    """This machine, as what was learned about it is kept under: processor and usable cores."""
    name, features = processor()
    return f"{name}, {usable_cores()} cores, {' '.join(features)}"
