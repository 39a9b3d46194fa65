"""The formulas of a transformer that are not products of matrices, compiled."""

import math

import numpy as np

from ..compiled import inner
from .addresses import data_address
from .blocks import BLOCK
from .vectors import round_block

f32 = np.float32


@inner
def copy(source, target):
    """target[:] = source.

    Args:
        source: One dimension.
        target: The same length.
    """
    for i in range(source.size):
        target[i] = source[i]


@inner
def exponential(x):
    """e^x, to float32's precision, from -87 to 88; values outside are clipped.

    x = n ln 2 + r, and a polynomial for e^r (Moshier's Cephes library, expf). Unlike math.exp it
    runs in vector registers.
    """
    x = min(max(x, f32(-87.0)), f32(88.0))
    n = f32(math.floor(x * f32(1.44269504) + f32(0.5)))
    r = x - n * f32(0.693147181)
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    power_of_two = np.int32((np.int32(n) + 127) << 23).view(np.float32)
    return (p * r * r + r + f32(1.0)) * power_of_two


@inner
def normalize(x, norm, size, epsilon, centered, out):
    """Layer normalization (Ba et al., 2016), or the RMS norm (Zhang and Sennrich, 2019).

    Args:
        x: (B, D).
        norm: (2, D): scale and shift.
        size: The model's D, without the filling.
        epsilon: Added to the variance.
        centered: Whether the mean is subtracted, as layer normalization does.
        out: The result (B, D), first `size` columns.
    """
    scale, shift = norm[0], norm[1]
    for b in range(x.shape[0]):
        row, normal = x[b], out[b]
        mean, variance = f32(0), f32(0)
        if centered:
            for i in range(size):
                mean += row[i]
            mean /= f32(size)
        for i in range(size):
            variance += (row[i] - mean) * (row[i] - mean)
        factor = f32(1) / math.sqrt(variance / f32(size) + epsilon)
        for i in range(size):
            normal[i] = (row[i] - mean) * factor * scale[i] + shift[i]


@inner
def relu(x, gate):
    """max(x, 0).

    Args:
        x: (F,), changed in place.
        gate: Not used.
    """
    for i in range(x.size):
        x[i] = max(x[i], f32(0))


@inner
def gelu(x, gate):
    """x times the normal distribution function of x (Hendrycks and Gimpel, 2016).

    Its error function: Abramowitz and Stegun, 1964, formula 7.1.26, within 5e-7.

    Args:
        x: (F,), changed in place.
        gate: Not used.
    """
    for i in range(x.size):
        size = abs(x[i]) * f32(0.70710678)
        t = f32(1) / (f32(1) + f32(0.3275911) * size)
        p = f32(1.061405429)
        p = p * t + f32(-1.453152027)
        p = p * t + f32(1.421413741)
        p = p * t + f32(-0.284496736)
        p = p * t + f32(0.254829592)
        erf = f32(1) - p * t * exponential(-size * size)
        x[i] = f32(0.5) * (x[i] + abs(x[i]) * erf)


@inner
def gelu_tanh(x, gate):
    """The tanh approximation of gelu that GPT-2 was trained with.

    0.5 x (1 + tanh(u)) = x / (1 + e^(-2 u)).

    Args:
        x: (F,), changed in place.
        gate: Not used.
    """
    for i in range(x.size):
        u = f32(0.7978845608) * (x[i] + f32(0.044715) * x[i] * x[i] * x[i])
        x[i] = x[i] / (f32(1) + exponential(f32(-2) * u))


@inner
def relu2(x, gate):
    """max(x, 0) squared.

    Args:
        x: (F,), changed in place.
        gate: Not used.
    """
    for i in range(x.size):
        positive = max(x[i], f32(0))
        x[i] = positive * positive


@inner
def multiply_by(x, gate):
    """x times a gate that went through its activation.

    Args:
        x: (F,), changed in place.
        gate: (F,).
    """
    for i in range(x.size):
        x[i] *= gate[i]


@inner
def bounded(x, cap):
    """c tanh(x / c), in place.

    Args:
        x: One dimension.
        cap: c.
    """
    for i in range(x.size):
        x[i] = cap * (f32(1) - f32(2) / (f32(1) + exponential(f32(2) / cap * x[i])))


@inner
def sum_of_squares(x, size):
    """The sum of squares, in the order of the numbers.

    Args:
        x: One dimension.
        size: How many of them count.
    """
    total = f32(0)
    for i in range(size):
        total += x[i] * x[i]
    return total


@inner
def scale_head(head, scale, size, total, count, epsilon):
    """The RMS norm of a head, whose sum of squares is known.

    Args:
        head: (H,), changed in place.
        scale: (H,).
        size: The model's H, without the filling.
        total: The sum of squares.
        count: Of how many numbers it is.
        epsilon: Added to their mean.
    """
    factor = f32(1) / math.sqrt(total / f32(count) + epsilon)
    for i in range(size):
        head[i] = head[i] * factor * scale[i]


@inner
def swiglu(x, gate):
    """x times silu(gate) = gate / (1 + e^-gate) (Shazeer, 2020).

    Args:
        x: (F,), changed in place.
        gate: (F,).
    """
    for i in range(x.size):
        x[i] *= gate[i] / (f32(1) + exponential(-gate[i]))


@inner
def rotate(heads, size, cosines, sines):
    """Rotary positions: rotates each pair (i, i + H / 2) of a token's heads by its angle.

    Args:
        heads: (n, H), changed in place.
        size: The model's H, without the filling.
        cosines: Of the token's position, (H / 2,).
        sines: The same.
    """
    half = size // 2
    for n in range(heads.shape[0]):
        for i in range(half):
            first, second = heads[n, i], heads[n, i + half]
            heads[n, i] = first * cosines[i] - second * sines[i]
            heads[n, i + half] = second * cosines[i] + first * sines[i]


@inner
def quantize(x, quantized, first, last):
    """Rounds a product's inputs to int8, with a scale for each block.

    Args:
        x: (B, inputs).
        quantized: Quantized, the result.
        first: The first token.
        last: The token after the last one.
    """
    source, blocks = data_address(x), x.shape[1] // BLOCK
    q, q_step = data_address(quantized.values), quantized.values.shape[1]
    scales, sums = data_address(quantized.scales), data_address(quantized.sums)
    for b in range(first, last):
        for block in range(blocks):
            place = 4 * (b * (q_step // BLOCK) + block)
            round_block(
                source + 4 * (b * x.shape[1] + block * BLOCK),
                q + b * q_step + block * BLOCK,
                scales + place,
                sums + place,
            )


@inner
def add_and_normalize(delta, norm, size, epsilon, centered, norm_first, x, normal):
    """Adds a sublayer's output to the residual stream, and normalizes the sum.

    Args:
        delta: The output (B, D).
        norm: (2, D): scale and shift.
        size: The model's D, without the filling.
        epsilon: Added to the variance.
        centered: As for `normalize`.
        norm_first: Whether the residual stream stays as it is; with post-norm it is the norm.
        x: The residual stream (B, D), changed in place.
        normal: The norm (B, D).
    """
    for b in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[b, i] += delta[b, i]
    normalize(x, norm, size, epsilon, centered, normal)
    if not norm_first:
        for b in range(x.shape[0]):
            copy(normal[b], x[b])


@inner
def add_normalized(delta, norm, size, epsilon, centered, x, normal):
    """Adds a sublayer's output to the residual stream, after a norm of that output.

    Args:
        delta: The output (B, D).
        norm: (2, D): scale and shift.
        size: The model's D, without the filling.
        epsilon: Added to the variance.
        centered: As for `normalize`.
        x: The residual stream (B, D), changed in place.
        normal: (B, D): the sum once more.
    """
    normalize(delta, norm, size, epsilon, centered, normal)
    for b in range(x.shape[0]):
        for i in range(size):
            x[b, i] += normal[b, i]
            normal[b, i] = x[b, i]
