"""The compiled arithmetic of a transformer: formulas, and the step that decodes one token.

Everything that the engine compiles is in this one module: Numba's cache on disk only notices a
change of the file that a function is in. Arrays are float32 and contiguous;
the weight matrices may be int8. A matrix has one row for each output: (outputs, inputs).
"""

import functools
import math
import sys
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from ..compiled import Compiled, entry, external, inner, intrinsic, item_pointer, types


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
def softmax(scores):
    """Softmax of scores (T,), in place."""
    largest = scores[0]
    for i in range(scores.size):
        largest = max(largest, scores[i])
    total = f32(0)
    for i in range(scores.size):
        scores[i] = exponential(scores[i] - largest)
        total += scores[i]
    for i in range(scores.size):
        scores[i] /= total


@entry
def causal_softmax(scores, start):
    """Softmax of each row, over the positions that its token sees: those up to its own.

    Args:
        scores: (T, end), changed in place; 0 for positions that are not seen.
        start: Position of the first row's token.
    """
    for t in range(scores.shape[0]):
        softmax(scores[t, : start + t + 1])
        for i in range(start + t + 1, scores.shape[1]):
            scores[t, i] = f32(0)


@entry
def normalize(x, norm, epsilon, centered, out):
    """Layer normalization (Ba et al., 2016), or the RMS norm (Zhang and Sennrich, 2019).

    Args:
        x: (B, D).
        norm: (2, D): scale and shift.
        epsilon: Added to the variance.
        centered: Whether the mean is subtracted, as layer normalization does.
        out: The result (B, D).
    """
    scale, shift = norm[0], norm[1]
    for b in range(x.shape[0]):
        row, normal = x[b], out[b]
        mean, variance = f32(0), f32(0)
        if centered:
            for i in range(row.size):
                mean += row[i]
            mean /= f32(row.size)
        for i in range(row.size):
            variance += (row[i] - mean) * (row[i] - mean)
        factor = f32(1) / math.sqrt(variance / f32(row.size) + epsilon)
        for i in range(row.size):
            normal[i] = (row[i] - mean) * factor * scale[i] + shift[i]


@entry
def relu(x, gate):
    """max(x, 0).

    Args:
        x: (F,), changed in place.
        gate: Not used.
    """
    for i in range(x.size):
        x[i] = max(x[i], f32(0))


@entry
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


@entry
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


@entry
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
def rotate(heads, cosines, sines):
    """Rotary positions: rotates each pair (i, i + H / 2) of a token's heads by its angle.

    Args:
        heads: (n, H), changed in place.
        cosines: Of the token's position, (H / 2,).
        sines: The same.
    """
    half = heads.shape[1] // 2
    for n in range(heads.shape[0]):
        for i in range(half):
            first, second = heads[n, i], heads[n, i + half]
            heads[n, i] = first * cosines[i] - second * sines[i]
            heads[n, i + half] = second * cosines[i] + first * sines[i]


@entry
def rotate_tokens(heads, count, cosines, sines):
    """`rotate` for many tokens.

    Args:
        heads: (T, n, H), changed in place.
        count: How many heads of each token are rotated, the first ones.
        cosines: Of the tokens' positions, (T, H / 2).
        sines: The same.
    """
    for t in range(heads.shape[0]):
        rotate(heads[t, :count], cosines[t], sines[t])


@inner
def attend(query, keys, values, scores, out):
    """Attention of one head (Vaswani et al., 2017, formula 1).

    Args:
        query: (H,).
        keys: (T, H), or longer.
        values: The same.
        scores: (T,), scratch; its length says how many positions are seen.
        out: The result (H,).
    """
    factor = f32(1) / math.sqrt(f32(query.size))
    for t in range(scores.size):
        total = f32(0)
        for i in range(query.size):
            total += query[i] * keys[t, i]
        scores[t] = total * factor
    softmax(scores)
    for i in range(out.size):
        out[i] = f32(0)
    for t in range(scores.size):
        weight = scores[t]
        for i in range(out.size):
            out[i] += weight * values[t, i]


# ---------------------------------------------------------------- one step of decoding


class Matrices(NamedTuple):
    """The matrices of a model, as in `weight_layout.EngineWeights`."""

    values: np.ndarray  # all matrices one after the other, float32 or int8
    scales: np.ndarray  # of each row of a matrix
    biases: np.ndarray  # of each row of a matrix
    layout: np.ndarray  # (matrices, 4): start in `values`, first row, outputs, inputs


class StepWeights(NamedTuple):
    """The weights of a model, and its constants."""

    matrices: Matrices
    norms: np.ndarray  # (2 L + 1, 2, D): scale and shift, in the order of their use
    epsilon: np.float32  # added to the variance in the norms
    cosines: np.ndarray  # (C, H / 2) of the rotary angles; (0, 0) without
    sines: np.ndarray


class Tokens(NamedTuple):
    """The B tokens of a step."""

    embedded: np.ndarray  # (B, D) float32
    rows: np.ndarray  # (B,) int64: the sequences of the cache that they belong to
    positions: np.ndarray  # (B,) int64: their positions in those
    num_logits: int  # logits are given for this many of them, the last ones


class KeysValues(NamedTuple):
    """The arrays of a `cache.Cache`: (sequences, L, K, C, H) each."""

    keys: np.ndarray
    values: np.ndarray


class Scratch(NamedTuple):
    """The float32 arrays in which a step for B tokens works."""

    x: np.ndarray  # (threads, B, D): the residual stream; each thread has its own
    normal: np.ndarray  # (threads, B, D): its norm
    scores: np.ndarray  # (threads, C): of one head's attention
    qkv: np.ndarray  # (B, (N + 2 K) H): query, key and value, for all threads
    heads: np.ndarray  # (B, N + 2 K, H): the same memory
    mixed: np.ndarray  # (B, N H): values, weighted by attention
    delta: np.ndarray  # (B, D): what a sublayer adds to the residual stream
    gate: np.ndarray  # (B, F), or (B, 0) without a gate
    up: np.ndarray  # (B, F)
    logits: np.ndarray  # (B, V); the first `num_logits` rows are the result


@inner
def dense(matrices, index, x, first, last, out):
    """Some outputs of a matrix.

    The rows of the matrix are read one after the other, once: memory limits decoding, and is
    fastest in one stream for each thread.

    Args:
        matrices: Matrices.
        index: Which of them.
        x: (B, inputs).
        first: The first output.
        last: The output after the last one.
        out: (B, outputs), in which only these are written.
    """
    start, row, inputs = matrices.layout[index, 0], matrices.layout[index, 1], x.shape[1]
    for r in range(first, last):
        weight = matrices.values[start + r * inputs : start + (r + 1) * inputs]
        scale, bias = matrices.scales[row + r], matrices.biases[row + r]
        for b in range(x.shape[0]):
            column = x[b]
            total = f32(0)
            for i in range(column.size):
                total += column[i] * f32(weight[i])
            out[b, r] = total * scale + bias


@inner
def add_and_normalize(delta, norm, epsilon, centered, norm_first, x, normal):
    """Adds a sublayer's output to the residual stream, and normalizes the sum.

    Args:
        delta: The output (B, D).
        norm: (2, D): scale and shift.
        epsilon: Added to the variance.
        centered: As for `normalize`.
        norm_first: Whether the model is pre-norm; with post-norm the residual stream is the norm.
        x: The residual stream (B, D), changed in place.
        normal: The norm (B, D).
    """
    for b in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[b, i] += delta[b, i]
    normalize(x, norm, epsilon, centered, normal)
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
    for head in range(max(first, N), last):
        if head < N + K:
            copy(heads[head], cache.keys[row, layer, head - N, position])
        else:
            copy(heads[head], cache.values[row, layer, head - N - K, position])


@inner
def attend_all(first, last, heads, tokens, layer, cache, scores, mixed):
    """Attention of some query heads of some tokens. Neighboring heads share a key/value head.

    Args:
        first: The first unit; unit b N + n is head n of token b.
        last: The unit after the last one.
        heads: (B, N + 2 K, H): queries, keys, values.
        tokens: Tokens.
        layer: The block.
        cache: KeysValues, with these tokens already.
        scores: (C,), scratch.
        mixed: The result (B, N H).
    """
    K, H = cache.keys.shape[2], cache.keys.shape[4]
    N = heads.shape[1] - 2 * K
    for unit in range(first, last):
        b, head = unit // N, unit % N
        attend(
            heads[b, head],
            cache.keys[tokens.rows[b], layer, head * K // N],
            cache.values[tokens.rows[b], layer, head * K // N],
            scores[: tokens.positions[b] + 1],
            mixed[b, head * H : (head + 1) * H],
        )


_first_matrix = inner(first_matrix)


@functools.cache
def compiled_step(activation: str, centered: bool, norm_first: bool, rotary: bool) -> Compiled:
    """The function `decode` for models with these switches.

    They are constants to the compiler, which leaves out branches that such a model does not take.

    Args:
        activation: As in ModelConfig.
        centered: Whether the norms are layer normalization.
        norm_first: As in ModelConfig.
        rotary: Whether positions are rotary.

    Returns:
        The function, compiled at its first call.
    """
    gated = activation == "swiglu"
    is_relu, is_gelu, is_gelu_tanh = (activation == k for k in ("relu", "gelu", "gelu_tanh"))

    @entry
    def decode(thread, threads, barrier, tokens, weights, cache, scratch):
        """The logits after each of B tokens, this thread's portion; all threads call it together.

        `tokens`: Tokens, `weights`: StepWeights, `cache`: KeysValues, `scratch`: Scratch. Keys and
        values of the tokens are written into the cache; a call may have several positions of one
        sequence. Each output is computed by one thread and in one order: the result depends on
        neither the number of threads nor the number of tokens.
        """
        x, normal, scores = scratch.x[thread], scratch.normal[thread], scratch.scores[thread]
        qkv, heads, mixed, delta = scratch.qkv, scratch.heads, scratch.mixed, scratch.delta
        gate, up = scratch.gate, scratch.up
        matrices, norms, epsilon = weights.matrices, weights.norms, weights.epsilon
        B, D, F = x.shape[0], x.shape[1], up.shape[1]
        K, H = cache.keys.shape[2], cache.keys.shape[4]
        N = heads.shape[1] - 2 * K
        for b in range(B):
            copy(tokens.embedded[b], x[b])
            copy(tokens.embedded[b], normal[b])
        if norm_first:
            normalize(x, norms[0], epsilon, centered, normal)
        for layer in range(cache.keys.shape[1]):
            block = _first_matrix(layer)
            # attention: every thread has some heads, then some heads of some tokens, then outputs
            first, last = portion(N + 2 * K, thread, threads)
            index = block + BlockMatrix.QKV
            dense(matrices, index, normal, first * H, last * H, qkv)
            for b in range(B):
                position = tokens.positions[b]
                if rotary:
                    turning = heads[b, first : min(last, N + K)]
                    rotate(turning, weights.cosines[position], weights.sines[position])
                store(heads[b], first, last, tokens.rows[b], layer, position, cache)
            wait_for_all(barrier, threads)
            first, last = portion(B * N, thread, threads)
            attend_all(first, last, heads, tokens, layer, cache, scores, mixed)
            wait_for_all(barrier, threads)
            first, last = portion(D, thread, threads)
            dense(matrices, block + BlockMatrix.OUT, mixed, first, last, delta)
            wait_for_all(barrier, threads)
            norm = norms[1 + 2 * layer]
            add_and_normalize(delta, norm, epsilon, centered, norm_first, x, normal)
            # feed-forward
            first, last = portion(F, thread, threads)
            dense(matrices, block + BlockMatrix.UP, normal, first, last, up)
            if gated:
                dense(matrices, block + BlockMatrix.GATE, normal, first, last, gate)
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
            first, last = portion(D, thread, threads)
            dense(matrices, block + BlockMatrix.DOWN, up, first, last, delta)
            wait_for_all(barrier, threads)
            norm = norms[2 + 2 * layer]
            add_and_normalize(delta, norm, epsilon, centered, norm_first, x, normal)
        head = matrices.layout.shape[0] - 1
        first, last = portion(matrices.layout[head, 2], thread, threads)
        dense(matrices, head, normal[B - tokens.num_logits :], first, last, scratch.logits)
        wait_for_all(barrier, threads)

    return decode
