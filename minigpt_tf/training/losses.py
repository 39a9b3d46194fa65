"""Mean cross-entropy of a linear head, computed without all logits of a large batch in memory."""

import tensorflow as tf

from ..model.output_head import OutputHead
from ..planning.limits import MOST_LOGITS


def linear_cross_entropy(
    hidden: tf.Tensor,
    head: OutputHead,
    targets: tf.Tensor,
    *,
    weights: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The loss of an output head, and how often its most likely token is the target.

    The gradients are computed along with the loss, so no logits are kept for them.

    Args:
        hidden: hidden states (N, D), float32 or bfloat16: the precision of the products. Softmax
            and sums are float32.
        head: what turns them into logits (N, V).
        targets: token ids (N,).
        weights: (N,), float32 (unset: 1 / N each).

    Returns:
        Two sums, weighted, over the targets: the loss in nats, and 1 for each target that is the
        most likely token. Without `weights` they are the mean loss per token and the accuracy.
    """
    kernel, bias, transposed, softcap = head
    vocab_size = kernel.shape[0 if transposed else 1]
    rows = max(1, MOST_LOGITS // vocab_size)
    total = tf.shape(hidden)[0]
    if weights is None:
        weights = tf.fill([total], 1 / tf.cast(total, tf.float32))
    length = hidden.shape[0] or rows  # a batch of unknown size is one chunk

    @tf.custom_gradient
    def cross_entropy(hidden, kernel, *bias):
        """Loss and hits, with gradients that were made along with them."""
        matrix = tf.cast(kernel, hidden.dtype)
        losses, hits, d_hidden, d_kernel, d_bias = [], [], [], [], []
        for first in range(0, length, rows):
            chunk = slice(first, first + rows) if length > rows else slice(None)
            x, y = hidden[chunk], targets[chunk]
            logits = tf.matmul(x, matrix, transpose_b=transposed)  # (rows, V)
            if bias:
                logits = tf.nn.bias_add(logits, tf.cast(bias[0], hidden.dtype))
            if softcap is not None:
                bounded = tf.tanh(tf.cast(logits, tf.float32) / softcap)
                logits = tf.cast(softcap * bounded, logits.dtype)
            loss, hit, p = _softmax(logits, y, weights[chunk])
            if softcap is not None:
                p = tf.cast(tf.cast(p, tf.float32) * (1 - tf.square(bounded)), p.dtype)
            losses.append(loss)
            hits.append(hit)
            d_hidden.append(tf.matmul(p, matrix, transpose_b=not transposed))
            left, right = (p, x) if transposed else (x, p)
            d_kernel.append(tf.cast(tf.matmul(left, right, transpose_a=True), tf.float32))
            if bias:
                sums = tf.matmul(tf.ones_like(p[:, :1]), p, transpose_a=True)[0]
                d_bias.append(tf.cast(sums, tf.float32))

        def gradient(d_loss, _):
            d_x = tf.concat(d_hidden, 0) * tf.cast(d_loss, hidden.dtype)
            return d_x, *(tf.add_n(chunks) * d_loss for chunks in (d_kernel, d_bias) if chunks)

        return (tf.add_n(losses), tf.add_n(hits)), gradient

    bias = () if bias is None else (tf.convert_to_tensor(bias),)
    return cross_entropy(hidden, tf.convert_to_tensor(kernel), *bias)


def _softmax(logits: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Sums of losses and of hits, weighted, and d(loss)/d(logits) (N, V) in the logits' dtype."""
    highest = tf.cast(tf.reduce_max(logits, -1, keepdims=True), tf.float32)
    below = tf.cast(logits, tf.float32) - highest
    places = tf.stack([tf.range(tf.shape(targets)[0]), targets], axis=1)
    target = tf.gather_nd(below, places)  # (N,)
    exponentials = tf.exp(below)
    total = tf.reduce_sum(exponentials, -1, keepdims=True)
    loss = tf.reduce_sum(weights * (tf.math.log(total[:, 0]) - target))
    hits = tf.reduce_sum(weights * tf.cast(target >= 0, tf.float32))
    p = tf.cast(exponentials * (weights[:, None] / total), logits.dtype)
    return loss, hits, tf.tensor_scatter_nd_sub(p, places, tf.cast(weights, logits.dtype))
