"""The output head: what turns hidden states into logits, tied to the token embedding or not."""

from typing import NamedTuple, Self

import keras
import tensorflow as tf

from .keras_model import LOGITS, LOGITS_SOFTCAP


class OutputHead(NamedTuple):
    """The weights of a model's output head, as `build_gpt_model` makes it."""

    kernel: tf.Tensor
    """(D, V), or (V, D) if it is the token embedding."""
    bias: tf.Tensor | None
    """(V,), or None."""
    tied: bool
    """Whether the kernel is the token embedding."""
    softcap: float | None = None
    """As logits_softcap in ModelConfig."""

    @classmethod
    def of(cls, model: keras.Model) -> Self:
        """The head of a model, with the present values of its variables.

        Args:
            model: Of `build_gpt_model` or `build_training_model`.

        Returns:
            The head.
        """
        layer = model.get_layer(LOGITS)
        caps = [each.cap for each in model.layers if each.name == LOGITS_SOFTCAP]
        softcap = caps[0] if caps else None
        if isinstance(layer, keras.layers.Dense):
            bias = None if layer.bias is None else layer.bias.value
            return cls(layer.kernel.value, bias, False, softcap)
        return cls(model.get_layer("token_embedding").embeddings.value, None, True, softcap)

    def logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """Hidden states -> logits.

        Args:
            hidden: (N, D); the products have its dtype.

        Returns:
            (N, V) float32.
        """
        kernel = tf.cast(self.kernel, hidden.dtype)
        logits = tf.cast(tf.matmul(hidden, kernel, transpose_b=self.tied), tf.float32)
        logits = logits if self.bias is None else logits + self.bias
        return logits if self.softcap is None else self.softcap * tf.tanh(logits / self.softcap)
