"""Mean loss over held-out ids, every token counted once."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from ..text.windows import scoring_batches


def make_validation(
    model: keras.Model, ids: np.ndarray, *, context_length: int, batch_size: int
) -> Callable[[], float]:
    """A function that gives the model's present mean loss over ids (N,), in nats per token.

    Non-overlapping windows: the first id is given, each other one is predicted once.
    """

    @tf.function(reduce_retracing=True)
    def summed_loss(x, y):
        logits = model(x, training=False)  # (B, T, V)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
        return tf.reduce_sum(losses)

    def validation_loss() -> float:
        batches = scoring_batches(ids, context_length, batch_size)
        total = sum(float(summed_loss(tf.constant(x), tf.constant(y))) for x, y in batches)
        return total / (len(ids) - 1)

    return validation_loss
