"""Causal attention of training: at once for a short sequence, in blocks for a long one."""

import contextlib
import functools
import math

import tensorflow as tf
from keras import layers

from ..config.constants import ATTENTION_BLOCKS_FROM
from .dropout import current_step, dropout_step

MASKED = -1e9
"""Added to the attention scores of tokens that are still to come."""

QUERIES_IN_BLOCK, MOST_BLOCKS = 128, 16
"""Queries of a block, or more for a sequence that would have more blocks."""


def causal_attention(
    q,
    k,
    v,
    dropout: layers.Dropout,
    training: bool | None,
    window: int | None = None,
    softcap: float | None = None,
) -> tf.Tensor:
    """Causal attention with grouped heads.

    A long sequence is computed in blocks of queries, each with the keys it sees, and each again for
    its gradients: no array is (T, T). A block has whole rows of scores, so its softmax needs no
    running maximum (Dao et al., 2022, "FlashAttention", has blocks of keys too). A sequence whose
    length is unknown when the step is compiled is computed at once, and so is one with dropout
    whose numbers cannot be drawn again (outside `dropout_step`).

    Args:
        q: Queries (N, B, T, H).
        k: Keys (K, B, T, H).
        v: Values (K, B, T, H).
        dropout: Of attention weights.
        training: Whether dropout applies.
        window: Tokens that each one sees, itself included (unset: all up to itself).
        softcap: As attention_softcap in ModelConfig.

    Returns:
        (N, B, T, H).
    """
    T, step = q.shape[2], current_step()
    repeatable = not (training and dropout.rate) or step is not None
    if T is None or T < ATTENTION_BLOCKS_FROM or not repeatable:
        return _attend(q, k, v, dropout, training, window, softcap)
    size = max(QUERIES_IN_BLOCK, -(-T // MOST_BLOCKS))
    blocks = [  # of queries, and of the keys that they see
        (slice(start, start + size), slice(max(0, start + 1 - (window or T)), start + size))
        for start in range(0, T, size)
    ]

    last = T - blocks[-1][0].start  # queries of the last block
    masks = [_shared_mask(n, T, window or T) for n in (size, last)]

    def attend(index: int, q: tf.Tensor, k: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
        """The rows of a block, which has dropout of its own."""
        mask = masks[-1 if index == len(blocks) - 1 else 0]
        own = contextlib.nullcontext() if step is None else dropout_step(step * len(blocks) + index)
        with own:
            return _attend(q, k, v, dropout, training, window, softcap, mask)

    @tf.custom_gradient
    def attention(q, k, v):
        """All rows, and their gradient; one block at a time is in memory."""
        mixed: list[tf.Tensor] = []
        for index, (rows, seen) in enumerate(blocks):
            with tf.control_dependencies(mixed[-1:]):
                mixed.append(attend(index, q[:, :, rows], k[:, :, seen], v[:, :, seen]))

        def gradient(d):
            """d(loss)/d(q, k, v)."""
            dq: list[tf.Tensor] = []
            dk, dv = (tf.zeros(tf.shape(x), tf.float32) for x in (k, v))
            for index, (rows, seen) in enumerate(blocks):
                with tf.control_dependencies([d, dk, dv]):
                    arrays = [q[:, :, rows], k[:, :, seen], v[:, :, seen]]
                    with tf.GradientTape() as tape:
                        tape.watch(arrays)
                        y = attend(index, *arrays)
                    d_rows, d_keys, d_values = tape.gradient(y, arrays, d[:, :, rows])
                    dq.append(d_rows)
                    dk, dv = _added(dk, d_keys, seen), _added(dv, d_values, seen)
            return tf.concat(dq, axis=2), tf.cast(dk, k.dtype), tf.cast(dv, v.dtype)

        return tf.concat(mixed, axis=2), gradient

    return attention(q, k, v)


@functools.lru_cache(maxsize=8)
def _shared_mask(size: int, length: int, window: int) -> tf.Tensor:
    """The mask of `size` queries and the `length` keys up to the last of them.

    A tensor that a compiled function refers to: it would compute a mask for each layer and block
    beforehand, and keep all of them.
    """
    with tf.init_scope():
        distance = tf.range(size)[:, None] + length - size - tf.range(length)[None]
        seen = (distance >= 0) & (distance < window)
        return tf.where(seen, 0.0, MASKED)


def _added(total: tf.Tensor, x: tf.Tensor, place: slice) -> tf.Tensor:
    """The total (K, B, T, H) plus x at a place along T."""
    end = tf.shape(total)[2] - place.start - tf.shape(x)[2]
    return total + tf.pad(tf.cast(x, tf.float32), [(0, 0), (0, 0), (place.start, end), (0, 0)])


def _attend(
    q,
    k,
    v,
    dropout: layers.Dropout,
    training: bool | None,
    window: int | None,
    softcap: float | None,
    mask: tf.Tensor | None = None,
) -> tf.Tensor:
    """As `causal_attention`, for the last T of S tokens; the mask is that of `causal_softmax`.

    Each token attends to itself and those before it; N / K neighboring heads share a key and a
    value. For N = 4, K = 2 the queries of such heads are stacked along T, so no key is copied:

        q (4, B, T, H): q0 q1 q2 q3   ->   (2, B, 2 T, H): [q0; q1] [q2; q3]
        k (2, B, S, H):  k0    k1          scores (2, B, 2 T, S): [q0; q1] k0^T, [q2; q3] k1^T
    """
    (N, H), K = (q.shape[0], q.shape[-1]), k.shape[0]
    B, T = tf.unstack(tf.shape(q)[1:3])
    S = tf.shape(k)[2]
    shared = N != K
    if shared:  # their queries side by side, so that no key is copied
        q = tf.transpose(tf.reshape(q, (K, N // K, B, T, H)), (0, 2, 1, 3, 4))
        q = tf.reshape(q, (K, B, N // K * T, H))
    scores = tf.matmul(q, k, transpose_b=True)  # (N, B, T, S), or (K, B, N / K * T, S)
    scores = tf.reshape(scores, (-1, N // K, T, S)) if shared else scores
    probabilities = causal_softmax(scores, 1 / math.sqrt(H), window, softcap, mask)
    weights = dropout(probabilities, training=training)
    if not shared:
        return tf.matmul(weights, v)
    mixed = tf.matmul(tf.reshape(weights, (K, B, N // K * T, S)), v)
    mixed = tf.transpose(tf.reshape(mixed, (K, B, N // K, T, H)), (0, 2, 1, 3, 4))
    return tf.reshape(mixed, (N, B, T, H))


def causal_softmax(
    scores: tf.Tensor,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    mask: tf.Tensor | None = None,
) -> tf.Tensor:
    """Softmax over the last axis, without the tokens to come.

    Args:
        scores: (..., T, S), of the last T of S tokens.
        scale: What they are multiplied by.
        window: As for `causal_attention`.
        softcap: As for `causal_attention`.
        mask: Added to the scores, its last S columns (unset: as the window is, for S = T).

    Returns:
        Probabilities (..., T, S) in the dtype of the scores.
    """
    T, S = tf.unstack(tf.shape(scores)[-2:])
    if mask is None:
        before = -1 if window is None else tf.minimum(window, S) - 1  # tokens seen before itself
        mask = MASKED * (1 - tf.linalg.band_part(tf.ones((T, S)), before, 0))
    else:
        mask = mask[:, tf.shape(mask)[1] - S :]
    kept = scores.dtype
    if softcap is not None:
        scores = softcap * tf.tanh(tf.cast(scores, tf.float32) * (scale / softcap))
        scale = 1.0

    @tf.custom_gradient
    def softmax(scores):
        """Probabilities, and their derivative."""
        p = tf.nn.softmax(tf.cast(scores, tf.float32) * scale + mask)

        def gradient(dp):
            dp = tf.cast(dp, tf.float32) * p
            ds = dp - p * tf.reduce_sum(dp, -1, keepdims=True)
            return tf.cast(ds * scale, scores.dtype)

        return tf.cast(p, scores.dtype), gradient

    return tf.cast(softmax(scores), kept)
