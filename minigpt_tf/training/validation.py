"""Mean loss over held-out ids, every token counted once."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ..text.windows import scoring_batches
from .memory import windows_at_once


def make_validation(
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    ids: np.ndarray,
    *,
    context_length: int,
    vocab_size: int,
    share: float = 1.0,
) -> Callable[[], float]:
    """A function that gives the present mean loss over ids (N,), in nats per token.

    `loss` is the mean loss over ids x and y (B, T). Windows do not overlap: the first id is given,
    each other one is predicted once; with a `share` below 1, in that share of the windows.
    """
    signature = tf.TensorSpec((None, None), tf.int32)
    compiled = tf.function(loss, input_signature=[signature, signature], autograph=False)
    batch_size = windows_at_once(context_length, vocab_size)

    def validation_loss() -> float:
        total, count = 0.0, 0
        for x, y in scoring_batches(ids, context_length, batch_size, share):
            total += float(compiled(x, y)) * x.size
            count += x.size
        return total / count

    return validation_loss
