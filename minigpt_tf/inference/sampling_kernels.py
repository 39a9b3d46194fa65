"""The passes over all V logits that choosing a token takes, compiled: sums of exponentials.

Apart from the maximum, which NumPy finds, a choice needs no more of the unlikely tokens than their
sum. Both functions are in this one module: Numba's cache on disk only notices a change of the file
that a function is in.
"""

import numpy as np

from ..compiled import entry

f32 = np.float32

SUMMED_IN_FLOAT32 = 1024
"""Exponentials that are added in float32, in 32 sums or so; those sums are added in float64."""
BLOCK = 64
"""Logits of which `weigh_blocks` gives one sum."""


@entry
def sum_exponentials(logits, largest, factor):
    """The sum of e^((logit - largest) * factor), to float32's precision.

    e^x = 2^n 2^f, and a polynomial for 2^f, f from -1/2 to 1/2, within 1e-7 of it (minimax, fitted
    with its first coefficient at 1). Unlike math.exp it runs in vector registers.

    Args:
        logits: (V,) float32, -inf for tokens that do not count.
        largest: float32, the largest of them.
        factor: float32, above 0.

    Returns:
        float64.
    """
    total = 0.0
    scale = factor * f32(1.44269504)
    for start in range(0, logits.size, SUMMED_IN_FLOAT32):
        chunk, partial = logits[start : start + SUMMED_IN_FLOAT32], f32(0)
        for i in range(chunk.size):
            x = max((chunk[i] - largest) * scale, f32(-126.0))
            n = np.int32(x - f32(0.5))  # towards 0: the nearest
            f = x - f32(n)
            p = f32(1.32647261e-3)
            p = p * f + f32(9.67151299e-3)
            p = p * f + f32(5.55073358e-2)
            p = p * f + f32(2.40222424e-1)
            p = p * f + f32(6.93147004e-1)
            p = p * f + f32(1.0)
            partial += p * np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)
        total += float(partial)
    return total


@entry
def weigh_blocks(logits, largest, factor, sums):
    """The sums of e^((logit - largest) * factor) over blocks, to float64's precision.

    e^x = 2^n e^r, and a rational function for e^r (Moshier's Cephes library, exp).

    Args:
        logits: (V,) float32, -inf for tokens that do not count.
        largest: float64, the largest of them.
        factor: float64, above 0.
        sums: The result, (V / BLOCK,) float64, rounded up.
    """
    for b in range(sums.size):
        block, total = logits[b * BLOCK : (b + 1) * BLOCK], 0.0
        for i in range(block.size):
            x = (np.float64(block[i]) - largest) * factor
            clipped = max(x, -700.0)
            n = np.int32(clipped * 1.4426950408889634 - 0.5)  # towards 0: the nearest
            r = clipped - n * 6.93145751953125e-1 - n * 1.42860682030941723212e-6
            square = r * r
            p = 1.26177193074810590878e-4
            p = p * square + 3.02994407707441961300e-2
            p = (p * square + 1.0) * r
            q = 3.00198505138664455042e-6
            q = q * square + 2.52448340349684104192e-3
            q = q * square + 2.27265548208155028766e-1
            q = q * square + 2.0
            power_of_two = np.int64((np.int64(n) + 1023) << 52).view(np.float64)
            weight = (1.0 + 2.0 * p / (q - p)) * power_of_two
            total += weight if x > -700.0 else 0.0
        sums[b] = total
