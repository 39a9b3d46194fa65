"""The compiled arithmetic of a transformer: formulas, and the step that decodes tokens.

Arrays are contiguous, and float32 unless said otherwise. D, F and H stand for sizes that are filled
up with zeros to whole blocks of 32 (`panels`): so no product has an end that needs other code.
"""

import functools
import math
import sys
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from ..compiled import Compiled, entry, external, inner, intrinsic, item_pointer, types
from .addresses import data_address
from .blocks import BLOCK
from .panels import LANES, Storage
from .products import PLAIN, multiply
from .vectors import largest, round_block


class BlockMatrix(IntEnum):
    """The matrices of a block, in the order in which they are used and stored."""

    QKV = 0  # query, key and value
    OUT = 1  # attention output
    GATE = 2  # of SwiGLU; without it this matrix has no rows
    UP = 3
    DOWN = 4


MATRICES_OF_A_BLOCK = len(BlockMatrix)


def first_matrix(layer):
    """Where the first matrix of a block is among all: before the blocks, the token embedding."""
    return 1 + MATRICES_OF_A_BLOCK * layer


f32 = np.float32

# ---------------------------------------------------------------- threads that work in step


@intrinsic
def _atomic_add(typing_context, array, index, value):
    """array[index] += value, seen by all threads at once; the value before."""

    def generate(context, builder, signature, arguments):
        pointer = item_pointer(context, builder, signature, arguments)
        return builder.atomic_rmw("add", pointer, arguments[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), generate


@intrinsic
def _atomic_load(typing_context, array, index):
    """array[index] as the other threads see it."""

    def generate(context, builder, signature, arguments):
        pointer = item_pointer(context, builder, signature, arguments)
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(array, types.intp), generate


_give_way = external("SwitchToThread" if sys.platform == "win32" else "sched_yield", "int32")
_SPINS = 4000
"""Looks at a barrier (some 10 microseconds) before the processor is offered to others."""
_ARRIVED, _ROUND = 0, 8
"""Places of a barrier's two counters, a cache line apart."""
BARRIER_SIZE = 16


@inner
def wait_for_all(barrier, threads):
    """Returns when all threads have called it.

    Args:
        barrier: (BARRIER_SIZE,) int64, zeros at first; the same for all.
        threads: Number of threads.
    """
    this_round = _atomic_load(barrier, _ROUND)
    if _atomic_add(barrier, _ARRIVED, 1) == threads - 1:
        _atomic_add(barrier, _ARRIVED, -threads)
        _atomic_add(barrier, _ROUND, 1)
        return
    spins = 0
    while _atomic_load(barrier, _ROUND) == this_round:
        spins += 1
        if spins > _SPINS:
            _give_way()


@inner
def portion(count, thread, threads):
    """A thread's portion of range(count).

    Args:
        count: Units of work.
        thread: Which of the threads, from 0.
        threads: Number of threads.

    Returns:
        (first, last); last is excluded.
    """
    return count * thread // threads, count * (thread + 1) // threads


# ---------------------------------------------------------------- formulas


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
def swiglu(x, gate):
    """x times silu(gate) = gate / (1 + e^-gate) (Shazeer, 2020).

    Args:
        x: (F,), changed in place.
        gate: (F,).
    """
    for i in range(x.size):
        x[i] *= gate[i] / (f32(1) + exponential(-gate[i]))


ACTIVATIONS = {"relu": relu, "gelu": gelu, "gelu_tanh": gelu_tanh, "swiglu": swiglu}
"""By ModelConfig.activation: functions of (F,) and the gate (F,), which only SwiGLU has."""


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


# ---------------------------------------------------------------- one step of decoding


class Matrices(NamedTuple):
    """The matrices of a model, as in `weight_layout.EngineWeights`."""

    panels: np.ndarray  # of all matrices one after the other, uint8
    biases: np.ndarray  # of each row of a matrix
    layout: np.ndarray  # (matrices, len(Place)) int64


class Place(IntEnum):
    """What `Matrices.layout` says of a matrix."""

    START = 0  # in `panels`
    ROW = 1  # its first one in `biases`
    OUTPUTS = 2
    INPUTS = 3
    STORAGE = 4
    STEP = 5  # bytes from one panel to the next


class StepWeights(NamedTuple):
    """The weights of a model, and its constants."""

    matrices: Matrices
    norms: np.ndarray  # (2 L + 1, 2, D): scale and shift, in the order of their use
    embed_dim: int  # D without the filling
    head_dim: int  # H without the filling
    epsilon: np.float32  # added to the variance in the norms
    cosines: np.ndarray  # (C, H / 2) of the rotary angles; (0, 0) without
    sines: np.ndarray


class Tokens(NamedTuple):
    """The B tokens of a step."""

    embedded: np.ndarray  # (B, D)
    rows: np.ndarray  # (B,) int64: the sequences of the cache that they belong to
    positions: np.ndarray  # (B,) int64: their positions in those
    num_logits: int  # logits are given for this many of them, the last ones


class KeysValues(NamedTuple):
    """The arrays of a `key_value_cache.Cache`: panels, as of matrices."""

    keys: np.ndarray  # (sequences, L, K, C / 16, H, 16): an output is a position, an input of H
    values: (
        np.ndarray
    )  # (sequences, L, K, H / 16, C, 16): an output is one of H, an input a position


class Quantized(NamedTuple):
    """The inputs of a product as int8, one row a token: of each thread, or of one."""

    values: np.ndarray  # (threads, B, inputs) int8
    scales: np.ndarray  # (threads, B, inputs / 32): of each block
    sums: np.ndarray  # (threads, B, inputs / 32) int32: of a block's values


class Scratch(NamedTuple):
    """The arrays in which a step for at most B tokens works."""

    x: np.ndarray  # (threads, B, D): the residual stream; each thread has its own
    normal: np.ndarray  # (threads, B, D): its norm
    quantized: Quantized
    scores: np.ndarray  # (threads, SCORE_ROWS, C): of one head's attention
    qkv: np.ndarray  # (B, (N + 2 K) H): query, key and value, for all threads
    heads: np.ndarray  # (B, N + 2 K, H): the same memory
    mixed: np.ndarray  # (B, N H): values, weighted by attention
    delta: np.ndarray  # (B, D): what a sublayer adds to the residual stream
    gate: np.ndarray  # (B, F), or (B, 0) without a gate
    up: np.ndarray  # (B, F)
    logits: np.ndarray  # (num_logits, V)
    zeros: np.ndarray  # (LANES,): the biases of a product without


SCORE_ROWS = 12
"""Tokens whose scores of a head are computed together."""
ROUNDED_TOGETHER = 8
"""Tokens from which on the threads share the rounding of inputs to int8."""
_FLOAT32 = int(Storage.FLOAT32)
ATTENTION = 1 << _FLOAT32
"""The storage of keys and values, as a bit for `multiply`."""


@inner
def operands(matrices, index, x, quantized, first, last, out):
    """The arguments of `multiply` for some outputs of a matrix.

    A thread reads its panels one after the other, once for all tokens of a tile: memory limits
    decoding, and is fastest in one stream for each thread.

    Args:
        matrices: Matrices.
        index: Which of them.
        x: (B, inputs).
        quantized: The same as int8, if the products take that.
        first: The first panel of outputs.
        last: The panel after the last one.
        out: (B, outputs), in which only these are written.
    """
    place = matrices.layout[index]
    start = data_address(matrices.panels) + place[Place.START] + first * place[Place.STEP]
    bias = data_address(matrices.biases) + 4 * (place[Place.ROW] + first * LANES)
    return (
        place[Place.STORAGE],
        start,
        place[Place.STEP],
        last - first,
        place[Place.INPUTS] // BLOCK,
        data_address(x),
        x.shape[1],
        data_address(quantized.values),
        data_address(quantized.scales),
        data_address(quantized.sums),
        quantized.values.shape[1],
        x.shape[0],
        bias,
        LANES,
        data_address(out) + 4 * first * LANES,
        out.shape[1],
    )


@inner
def round_inputs(x, quantized, together, thread, threads, barrier):
    """`quantize`, for a thread of a step.

    Args:
        x: (B, inputs).
        quantized: Quantized, the result.
        together: Whether each thread does some of the tokens, for all; else all, for itself.
        thread: Which of the threads.
        threads: Number of threads.
        barrier: As for `wait_for_all`.
    """
    first, last = 0, x.shape[0]
    if together:
        first, last = portion(x.shape[0], thread, threads)
    quantize(x, quantized, first, last)
    if together:
        wait_for_all(barrier, threads)


@inner
def panels_of(matrices, index):
    """How many panels a matrix has.

    Args:
        matrices: Matrices.
        index: Which of them.

    Returns:
        Their number.
    """
    return matrices.layout[index, Place.OUTPUTS] // LANES


@inner
def add_and_normalize(delta, norm, size, epsilon, centered, norm_first, x, normal):
    """Adds a sublayer's output to the residual stream, and normalizes the sum.

    Args:
        delta: The output (B, D).
        norm: (2, D): scale and shift.
        size: The model's D, without the filling.
        epsilon: Added to the variance.
        centered: As for `normalize`.
        norm_first: Whether the model is pre-norm; with post-norm the residual stream is the norm.
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
def store(heads, first, last, row, layer, position, cache):
    """Writes the keys and values among heads[first:last] of one token into the cache.

    Args:
        heads: (N + 2 K, H): queries, keys, values.
        first: The first head.
        last: The head after the last one.
        row: The token's sequence in the cache.
        layer: The block.
        position: Of the token.
        cache: KeysValues.
    """
    K = cache.keys.shape[2]
    N = heads.shape[0] - 2 * K
    panel, lane = position // LANES, position % LANES
    for head in range(max(first, N), last):
        vector = heads[head]
        if head < N + K:
            keys = cache.keys[row, layer, head - N, panel]
            for i in range(vector.size):
                keys[i, lane] = vector[i]
        else:
            values = cache.values[row, layer, head - N - K]
            for i in range(vector.size):
                values[i // LANES, position, i % LANES] = vector[i]


@inner
def clear_unused(first, last, heads, row, layer, position, cache):
    """Clears the values behind a sequence's last token, up to the end of their block: products
    read whole blocks, and NaN of an earlier sequence would stay NaN times a weight of 0.

    Args:
        first: The first head, as for `store`.
        last: The head after the last one.
        heads: (B, N + 2 K, H).
        row: The sequence in the cache.
        layer: The block.
        position: Of the last token.
        cache: KeysValues.
    """
    K = cache.keys.shape[2]
    N = heads.shape[1] - 2 * K
    end = (position + BLOCK) // BLOCK * BLOCK
    for head in range(max(first, N + K), last):
        values = cache.values[row, layer, head - N - K]
        for panel in range(values.shape[0]):
            for unused in range(position + 1, end):
                for lane in range(LANES):
                    values[panel, unused, lane] = f32(0)


@inner
def tokens_together(tokens, b, most):
    """How many tokens from b on belong to the same sequence, at most so many.

    Args:
        tokens: Tokens.
        b: The first one.
        most: At least 1.
    """
    count = 1
    while count < most and tokens.rows[b + count] == tokens.rows[b]:
        count += 1
    return count


@inner
def attention_scores(heads, head, b, count, keys, zeros, end, scores):
    """The arguments of `multiply` for the scores of some tokens of one head.

    Args:
        heads: (B, N + 2 K, H): queries, keys, values.
        head: The query head.
        b: The first token.
        count: Number of tokens.
        keys: (C / 16, H, 16) of the head.
        zeros: (LANES,).
        end: Positions, whole blocks.
        scores: (SCORE_ROWS, C), the result.
    """
    H, step = heads.shape[2], heads.shape[1] * heads.shape[2]
    query = data_address(heads) + 4 * (b * step + head * H)
    panels, bias, out = data_address(keys), data_address(zeros), data_address(scores)
    return (
        _FLOAT32,
        panels,
        4 * LANES * H,
        end // LANES,
        H // BLOCK,
        query,
        step,
        0,
        0,
        0,
        0,
        count,
        bias,
        0,
        out,
        scores.shape[1],
    )


@inner
def attention_values(scores, count, values, zeros, end, head, b, mixed):
    """The arguments of `multiply` for the values of one head, weighted by its scores.

    Args:
        scores: (SCORE_ROWS, C), behind the softmax.
        count: Number of tokens.
        values: (H / 16, C, 16) of the head.
        zeros: (LANES,).
        end: Positions, whole blocks.
        head: The query head.
        b: The first token.
        mixed: (B, N H), the result.
    """
    panels, bias, C = data_address(values), data_address(zeros), values.shape[1]
    H = values.shape[0] * LANES
    return (
        _FLOAT32,
        panels,
        4 * LANES * C,
        H // LANES,
        end // BLOCK,
        data_address(scores),
        scores.shape[1],
        0,
        0,
        0,
        0,
        count,
        bias,
        0,
        data_address(mixed) + 4 * (b * mixed.shape[1] + head * H),
        mixed.shape[1],
    )


@inner
def weigh(scores, first_position, count, end, factor):
    """The softmax of each token's scores, over the positions that it sees: those up to its own.

    Args:
        scores: (SCORE_ROWS, C), changed in place; 0 for positions up to `end` that are not seen.
        first_position: Of the first token; the others follow.
        count: Number of tokens.
        end: Positions, whole blocks.
        factor: Of the scores.
    """
    for t in range(count):
        row, last = scores[t][:end], first_position + t + 1
        seen, unseen = row[:last], row[last:]
        for i in range(unseen.size):
            unseen[i] = f32(-np.inf)
        most = largest(data_address(row), end)
        total = f32(0)
        for i in range(seen.size):
            seen[i] = exponential((seen[i] - most) * factor)
            total += seen[i]
        inverse = f32(1) / total
        for i in range(seen.size):
            seen[i] *= inverse
        for i in range(unseen.size):
            unseen[i] = f32(0)


_first_matrix = inner(first_matrix)


@functools.cache
def compiled_step(
    activation: str, centered: bool, norm_first: bool, rotary: bool, storages: int, plain: bool
) -> Compiled:
    """The function `decode` for models with these switches.

    They are constants to the compiler, which leaves out branches that such a model does not take.

    Args:
        activation: As in ModelConfig.
        centered: Whether the norms are layer normalization.
        norm_first: As in ModelConfig.
        rotary: Whether positions are rotary.
        storages: Bits of the storages of its matrices, as `products.multiply` takes them.
        plain: Whether products run in plain loops.

    Returns:
        The function, compiled at its first call.
    """
    gated = activation == "swiglu"
    is_relu, is_gelu, is_gelu_tanh = (activation == k for k in ("relu", "gelu", "gelu_tanh"))
    integers = storages >> 8 != 0
    matrix_bits = storages | PLAIN * plain
    attention_bits = ATTENTION | PLAIN * plain

    @entry
    def decode(thread, threads, barrier, tokens, weights, cache, scratch):
        """The logits after each of B tokens, this thread's portion; all threads call it together.

        `tokens`: Tokens, `weights`: StepWeights, `cache`: KeysValues, `scratch`: Scratch. Keys and
        values of the tokens are written into the cache; a call may have several positions of one
        sequence. Each output is computed by one thread and in one order: the result depends on
        neither the number of threads nor the number of tokens.
        """
        B = tokens.rows.size
        x, normal, scores = (
            scratch.x[thread][:B],
            scratch.normal[thread][:B],
            scratch.scores[thread],
        )
        together = B >= ROUNDED_TOGETHER
        own = 0 if together else thread
        small = Quantized(
            scratch.quantized.values[own],
            scratch.quantized.scales[own],
            scratch.quantized.sums[own],
        )
        qkv, heads, mixed = scratch.qkv[:B], scratch.heads[:B], scratch.mixed[:B]
        delta, gate, up = scratch.delta[:B], scratch.gate[:B], scratch.up[:B]
        matrices, norms, epsilon = weights.matrices, weights.norms, weights.epsilon
        D, head_dim, zeros = weights.embed_dim, weights.head_dim, scratch.zeros
        K, H = cache.keys.shape[2], heads.shape[2]
        N = heads.shape[1] - 2 * K
        factor = f32(1) / math.sqrt(f32(head_dim))
        for b in range(B):
            copy(tokens.embedded[b], x[b])
            copy(tokens.embedded[b], normal[b])
        if norm_first:
            normalize(x, norms[0], D, epsilon, centered, normal)
        for layer in range(cache.keys.shape[1]):
            block = _first_matrix(layer)
            # attention: every thread has some heads, then some heads of some tokens, then outputs
            first, last = portion(N + 2 * K, thread, threads)
            index, panels = block + BlockMatrix.QKV, H // LANES
            if integers:
                round_inputs(normal, small, together, thread, threads, barrier)
            multiply(
                matrix_bits,
                operands(matrices, index, normal, small, first * panels, last * panels, qkv),
            )
            for b in range(B):
                position = tokens.positions[b]
                if rotary:
                    turning = heads[b, first : min(last, N + K)]
                    rotate(turning, head_dim, weights.cosines[position], weights.sines[position])
                store(heads[b], first, last, tokens.rows[b], layer, position, cache)
                if b == B - 1 or tokens.rows[b + 1] != tokens.rows[b]:
                    clear_unused(first, last, heads, tokens.rows[b], layer, position, cache)
            wait_for_all(barrier, threads)
            unit, last = portion(N * B, thread, threads)
            while unit < last:
                head, b = unit // B, unit % B
                count = tokens_together(tokens, b, min(min(last - unit, B - b), SCORE_ROWS))
                unit += count
                row, kv = tokens.rows[b], head * K // N
                position = tokens.positions[b]
                end = (position + count + BLOCK - 1) // BLOCK * BLOCK
                keys, values = cache.keys[row, layer, kv], cache.values[row, layer, kv]
                multiply(
                    attention_bits,
                    attention_scores(heads, head, b, count, keys, zeros, end, scores),
                )
                weigh(scores, position, count, end, factor)
                multiply(
                    attention_bits,
                    attention_values(scores, count, values, zeros, end, head, b, mixed),
                )
            wait_for_all(barrier, threads)
            index = block + BlockMatrix.OUT
            first, last = portion(panels_of(matrices, index), thread, threads)
            if integers:
                round_inputs(mixed, small, together, thread, threads, barrier)
            multiply(matrix_bits, operands(matrices, index, mixed, small, first, last, delta))
            wait_for_all(barrier, threads)
            norm = norms[1 + 2 * layer]
            add_and_normalize(delta, norm, D, epsilon, centered, norm_first, x, normal)
            # feed-forward
            index = block + BlockMatrix.UP
            first, last = portion(panels_of(matrices, index), thread, threads)
            if integers:
                round_inputs(normal, small, together, thread, threads, barrier)
            multiply(matrix_bits, operands(matrices, index, normal, small, first, last, up))
            if gated:
                index = block + BlockMatrix.GATE
                multiply(matrix_bits, operands(matrices, index, normal, small, first, last, gate))
            first, last = first * LANES, last * LANES
            for b in range(B):
                if gated:
                    swiglu(up[b, first:last], gate[b, first:last])
                if is_relu:
                    relu(up[b, first:last], up[b, first:last])
                if is_gelu:
                    gelu(up[b, first:last], up[b, first:last])
                if is_gelu_tanh:
                    gelu_tanh(up[b, first:last], up[b, first:last])
            wait_for_all(barrier, threads)
            index = block + BlockMatrix.DOWN
            first, last = portion(panels_of(matrices, index), thread, threads)
            if integers:
                round_inputs(up, small, together, thread, threads, barrier)
            multiply(matrix_bits, operands(matrices, index, up, small, first, last, delta))
            wait_for_all(barrier, threads)
            norm = norms[2 + 2 * layer]
            add_and_normalize(delta, norm, D, epsilon, centered, norm_first, x, normal)
        if tokens.num_logits > 0:
            index, wanted = matrices.layout.shape[0] - 1, normal[B - tokens.num_logits :]
            first, last = portion(panels_of(matrices, index), thread, threads)
            if integers:
                round_inputs(wanted, small, together, thread, threads, barrier)
            multiply(
                matrix_bits, operands(matrices, index, wanted, small, first, last, scratch.logits)
            )
        wait_for_all(barrier, threads)

    return decode
