"""The compiled step: the logits after some tokens, those of prompts and of answers alike."""

import functools
import math

import numpy as np

from ..compiled import Compiled, entry, inner
from ..config.architecture import GATES
from .addresses import data_address
from .attention import attend, attend_some, clear_unused, store
from .barrier import portion, wait_for_all
from .blocks import BLOCK
from .formulas import (
    add_and_normalize,
    add_normalized,
    bounded,
    copy,
    gelu,
    gelu_tanh,
    multiply_by,
    normalize,
    quantize,
    relu,
    relu2,
    rotate,
    scale_head,
    sum_of_squares,
    swiglu,
)
from .panels import LANES
from .products import PLAIN_LOOPS, multiply
from .step_arrays import BlockMatrix, LayerKind, Place, Quantized, Switches, first_matrix

f32 = np.float32

ROUNDED_TOGETHER = 8
"""Tokens from which on the threads share the rounding of inputs to int8."""


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


_first_matrix = inner(first_matrix)


@functools.cache
def compiled_step(switches: Switches, storages: int) -> Compiled:
    """The function `decode` for models with these switches.

    They are constants to the compiler, which leaves out branches that such a model does not take.

    Args:
        switches: Of the model.
        storages: Bits of the storages of its matrices, as `products.multiply` takes them.

    Returns:
        The function, compiled at its first call.
    """
    activation, centered, rotary = switches.activation, switches.centered, switches.rotary
    gated = activation in GATES
    is_swiglu, gate_is_gelu, gate_is_gelu_tanh = (activation == gate for gate in GATES)
    is_relu, is_gelu, is_gelu_tanh = (activation == k for k in ("relu", "gelu", "gelu_tanh"))
    is_relu2 = activation == "relu2"
    norm_first = switches.norm_placement in ("before", "both")
    norm_last = switches.norm_placement == "after"
    output_norms = switches.norm_placement in ("both", "output")
    norms_of_a_block = 4 if switches.norm_placement == "both" else 2
    head_norm, all_norm = switches.qk_norm == "head", switches.qk_norm == "all"
    layered, capped = switches.layered, switches.attention_capped
    logits_capped = switches.logits_capped
    local, unrotated = int(LayerKind.L), int(LayerKind.N)
    integers = storages >> 8 != 0
    matrix_bits = storages | PLAIN_LOOPS

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
            if head_norm or all_norm:
                for b in range(B):
                    for head in range(first, min(last, N + K)):
                        scratch.squares[b, head] = sum_of_squares(heads[b, head], head_dim)
            if all_norm:
                wait_for_all(barrier, threads)
            if head_norm or all_norm:
                for b in range(B):
                    for head in range(first, min(last, N + K)):
                        total, together_with = scratch.squares[b, head], 1
                        if all_norm:
                            start, together_with = (0, N) if head < N else (N, K)
                            total = f32(0)
                            for other in range(start, start + together_with):
                                total += scratch.squares[b, other]
                        scale_head(
                            heads[b, head],
                            weights.head_norms[layer, head],
                            head_dim,
                            total,
                            together_with * head_dim,
                            epsilon,
                        )
            for b in range(B):
                position = tokens.positions[b]
                if rotary and not layered:
                    turning = heads[b, first : min(last, N + K)]
                    rotate(turning, head_dim, weights.cosines[position], weights.sines[position])
                if rotary and layered:
                    turning = heads[b, first : min(last, N + K)]
                    if weights.kinds[layer] == local:
                        rotate(
                            turning,
                            head_dim,
                            weights.local_cosines[position],
                            weights.local_sines[position],
                        )
                    elif weights.kinds[layer] != unrotated:
                        rotate(
                            turning, head_dim, weights.cosines[position], weights.sines[position]
                        )
                store(heads[b], first, last, tokens.rows[b], layer, position, cache)
                if b == B - 1 or tokens.rows[b + 1] != tokens.rows[b]:
                    clear_unused(first, last, heads, tokens.rows[b], layer, position, cache)
            wait_for_all(barrier, threads)
            first, last = portion(N * B, thread, threads)
            if layered or capped:
                window = 0
                if layered and weights.kinds[layer] == local:
                    window = weights.window
                attend_some(
                    first,
                    last,
                    heads,
                    tokens,
                    layer,
                    cache,
                    factor,
                    scores,
                    zeros,
                    mixed,
                    window,
                    weights.attention_softcap,
                )
            else:
                attend(first, last, heads, tokens, layer, cache, factor, scores, zeros, mixed)
            wait_for_all(barrier, threads)
            index = block + BlockMatrix.OUT
            first, last = portion(panels_of(matrices, index), thread, threads)
            if integers:
                round_inputs(mixed, small, together, thread, threads, barrier)
            multiply(matrix_bits, operands(matrices, index, mixed, small, first, last, delta))
            wait_for_all(barrier, threads)
            behind = 1 + norms_of_a_block * layer  # the norm behind attention
            if output_norms:
                add_normalized(delta, norms[behind], D, epsilon, centered, x, normal)
                if norm_first:
                    normalize(x, norms[behind + 1], D, epsilon, centered, normal)
            else:
                add_and_normalize(
                    delta, norms[behind], D, epsilon, centered, not norm_last, x, normal
                )
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
                if is_swiglu:
                    swiglu(up[b, first:last], gate[b, first:last])
                if gate_is_gelu:
                    gelu(gate[b, first:last], gate[b, first:last])
                if gate_is_gelu_tanh:
                    gelu_tanh(gate[b, first:last], gate[b, first:last])
                if gate_is_gelu or gate_is_gelu_tanh:
                    multiply_by(up[b, first:last], gate[b, first:last])
                if is_relu2:
                    relu2(up[b, first:last], up[b, first:last])
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
            behind += norms_of_a_block // 2  # the norm behind the feed-forward
            if output_norms:
                add_normalized(delta, norms[behind], D, epsilon, centered, x, normal)
                if norm_first or layer == cache.keys.shape[1] - 1:
                    normalize(x, norms[behind + 1], D, epsilon, centered, normal)
            else:
                add_and_normalize(
                    delta, norms[behind], D, epsilon, centered, not norm_last, x, normal
                )
        if tokens.num_logits > 0:
            index, wanted = matrices.layout.shape[0] - 1, normal[B - tokens.num_logits :]
            first, last = portion(panels_of(matrices, index), thread, threads)
            if integers:
                round_inputs(wanted, small, together, thread, threads, barrier)
            multiply(
                matrix_bits, operands(matrices, index, wanted, small, first, last, scratch.logits)
            )
            if logits_capped:
                for b in range(tokens.num_logits):
                    bounded(scratch.logits[b, first * LANES : last * LANES], weights.logits_softcap)
        wait_for_all(barrier, threads)

    return decode
