"""Mean loss over held-out ids, every token counted once."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ..planning.limits import windows_at_once
from ..text.windows import scoring_batches


def make_validation(
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    ids: np.ndarray,
    *,
    context_length: int,
    vocab_size: int,
    fraction: float = 1.0,
) -> Callable[[], float]:
    """A function that scores held-out ids with the model's present weights.

    Windows do not overlap: the first id is given, each other one is predicted once.

    Args:
        loss: The mean loss over ids x and their next tokens y, (B, T) each.
        ids: Token ids (N,).
        context_length: Tokens of a window.
        vocab_size: Number of token ids; bounds how many windows are scored at once.
        fraction: Of the windows that are scored, spread evenly.

    Returns:
        A function that gives the mean loss in nats per token.
    """
    signature = tf.TensorSpec((None, None), tf.int32)
    compiled = tf.function(loss, input_signature=[signature, signature], autograph=False)
    batch_size = windows_at_once(context_length, vocab_size)

    def validation_loss() -> float:
        total, count = 0.0, 0
        for x, y in scoring_batches(ids, context_length, batch_size, fraction):
            total += float(compiled(x, y)) * x.size
            count += x.size
        return total / count

    return validation_loss
