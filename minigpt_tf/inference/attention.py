"""Attention in compiled code: keys and values in the cache, and products with them."""

import numpy as np

from ..compiled import inner
from .addresses import data_address
from .blocks import BLOCK
from .formulas import bounded, exponential
from .panels import LANES, Storage
from .products import PLAIN_LOOPS, multiply
from .step_arrays import SCORE_ROWS
from .vectors import largest

f32 = np.float32
_FLOAT32 = int(Storage.FLOAT32)
KEPT = 1 << _FLOAT32 | PLAIN_LOOPS
"""The storage of keys and values, as a bit for `multiply`."""


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
def attention_values(scores, count, values, zeros, start, end, head, b, mixed):
    """The arguments of `multiply` for the values of one head, weighted by its scores.

    Args:
        scores: (SCORE_ROWS, C), behind the softmax.
        count: Number of tokens.
        values: (H / 16, C, 16) of the head.
        zeros: (LANES,).
        start: The first position that is used, of a whole block.
        end: Positions from there on, whole blocks.
        head: The query head.
        b: The first token.
        mixed: (B, N H), the result.
    """
    bias, C = data_address(zeros), values.shape[1]
    panels = data_address(values) + 4 * LANES * start
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


@inner
def weigh_some(scores, first_position, count, end, factor, start, window, cap):
    """`weigh` with a window and a bound of the scores.

    The sums are those of a token alone: over its own window in the order of the positions, wherever
    the blocks begin that several tokens share.

    Args:
        scores: As there, of positions from `start` on.
        first_position: Of the first token; the others follow.
        count: Number of tokens.
        end: Positions from `start` on, whole blocks.
        factor: Of the scores.
        start: The first position, of a whole block.
        window: Tokens that each one sees, itself included; 0 for all.
        cap: The bound; 0 for none.
    """
    for t in range(count):
        row, last = scores[t][:end], first_position + t + 1 - start
        begin = 0
        if window > 0:
            begin = max(0, last - window)
        early, seen, unseen = row[:begin], row[begin:last], row[last:]
        for i in range(seen.size):
            seen[i] *= factor
        if cap > f32(0):
            bounded(seen, cap)
        for i in range(early.size):
            early[i] = f32(-np.inf)
        for i in range(unseen.size):
            unseen[i] = f32(-np.inf)
        most = largest(data_address(row), end)
        total = f32(0)
        for i in range(seen.size):
            seen[i] = exponential(seen[i] - most)
            total += seen[i]
        inverse = f32(1) / total
        for i in range(seen.size):
            seen[i] *= inverse
        for i in range(early.size):
            early[i] = f32(0)
        for i in range(unseen.size):
            unseen[i] = f32(0)


@inner
def attend_some(
    first, last, heads, tokens, layer, cache, factor, scores, zeros, mixed, window, cap
):
    """`attend` with a window and a bound of the scores: it reads the blocks of the window alone.

    Args:
        first: As there, as are the following.
        last: As there.
        heads: As there.
        tokens: As there.
        layer: As there.
        cache: As there.
        factor: As there.
        scores: As there.
        zeros: As there.
        mixed: As there.
        window: As for `weigh_some`.
        cap: As for `weigh_some`.
    """
    B, K = heads.shape[0], cache.keys.shape[2]
    N = heads.shape[1] - 2 * K
    unit = first
    while unit < last:
        head, b = unit // B, unit % B
        count = tokens_together(tokens, b, min(min(last - unit, B - b), SCORE_ROWS))
        unit += count
        row, kv = tokens.rows[b], head * K // N
        position = tokens.positions[b]
        end = (position + count + BLOCK - 1) // BLOCK * BLOCK
        start = 0
        if window > 0:
            start = max(0, position + 1 - window) // BLOCK * BLOCK
        keys = cache.keys[row, layer, kv][start // LANES :]
        values = cache.values[row, layer, kv]
        multiply(KEPT, attention_scores(heads, head, b, count, keys, zeros, end - start, scores))
        weigh_some(scores, position, count, end - start, factor, start, window, cap)
        multiply(
            KEPT,
            attention_values(scores, count, values, zeros, start, end - start, head, b, mixed),
        )


@inner
def attend(first, last, heads, tokens, layer, cache, factor, scores, zeros, mixed):
    """Attention of some query heads of some tokens. Neighboring heads share a key/value head.

    Args:
        first: The first unit; unit head * B + b is a head of token b.
        last: The unit after the last one.
        heads: (B, N + 2 K, H): queries, keys, values.
        tokens: Tokens.
        layer: The block.
        cache: KeysValues, with these tokens already.
        factor: Of the scores.
        scores: (SCORE_ROWS, C), scratch.
        zeros: (LANES,).
        mixed: The result (B, N H).
    """
    B, K = heads.shape[0], cache.keys.shape[2]
    N = heads.shape[1] - 2 * K
    unit = first
    while unit < last:
        head, b = unit // B, unit % B
        count = tokens_together(tokens, b, min(min(last - unit, B - b), SCORE_ROWS))
        unit += count
        row, kv = tokens.rows[b], head * K // N
        position = tokens.positions[b]
        end = (position + count + BLOCK - 1) // BLOCK * BLOCK
        keys, values = cache.keys[row, layer, kv], cache.values[row, layer, kv]
        multiply(KEPT, attention_scores(heads, head, b, count, keys, zeros, end, scores))
        weigh(scores, position, count, end, factor)
        multiply(KEPT, attention_values(scores, count, values, zeros, 0, end, head, b, mixed))
