"""Keras's undocumented names, behind names of our own.

The only module that does; `tests/test_private_api.py` names each of them and why it is needed.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import layers


class WholeStep(keras.optimizers.Optimizer):
    """Does once what Keras does for each variable. Put it before the optimizer among the bases.

    Keras adds up the gradients of all replicas, of which the step has taken the mean already. And
    it computes the learning rate again for every variable: with LoRA's hundreds of variables, that
    and the powers of the betas are a quarter of the step's operations.
    """

    _rate: Any = None

    def apply(self, grads, trainable_variables=None):
        """Updates the variables by a step."""
        self._rate = super()._get_current_learning_rate()
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._rate = None

    def _get_current_learning_rate(self):
        return super()._get_current_learning_rate() if self._rate is None else self._rate

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)


def adam_averages(optimizer: keras.optimizers.Adam, variable: Any) -> tuple[Any, Any]:
    """Adam's running averages for a variable.

    Args:
        optimizer: Built.
        variable: One of those that it trains.

    Returns:
        The averages of its gradients and of their squares: two variables of its shape.
    """
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


class MuonHooks(keras.optimizers.Muon):
    """Keras's Muon, open to other choices of what is a matrix and to another step.

    Without a subclass that overrides them, its methods do what Keras does.
    """

    def is_matrix(self, variable) -> bool:
        """Whether Muon trains the variable; Adam trains the others."""
        return not super()._should_use_adamw(variable)

    def update_matrix(self, path: str, variable, gradient, learning_rate, m) -> None:
        """A step of Muon.

        Args:
            path: Of the variable.
            variable: The matrix.
            gradient: Of its shape.
            learning_rate: A scalar.
            m: Its momentum, a variable of its shape.
        """
        super()._muon_update_step(gradient, variable, learning_rate, m)

    def update_by_adam(self, variable, gradient, learning_rate, m, v) -> None:
        """A step of Adam.

        Args:
            variable: What is trained.
            gradient: Of its shape.
            learning_rate: A scalar.
            m: The average of its gradients, a variable of its shape.
            v: The average of their squares.
        """
        super()._adamw_update_step(gradient, variable, learning_rate, m, v)

    def orthogonalized(self, matrix: tf.Tensor) -> tf.Tensor:
        """The nearest semi-orthogonal matrix, by Keras's Newton-Schulz iteration."""
        return self.zeropower_via_newtonschulz5(matrix, self.ns_steps)

    def scaled(self, update: tf.Tensor) -> tf.Tensor:
        """A matrix's update with the size of AdamW's (Liu et al., 2025)."""
        return self.lr_adjust(update)

    def _should_use_adamw(self, variable) -> bool:
        return not self.is_matrix(variable)

    def _muon_update_step(self, gradient, variable, lr, m):
        # inside a replica `variable` is TensorFlow's, which does not know its path
        path = self._trainable_variables[self._get_variable_index(variable)].path
        self.update_matrix(path, variable, gradient, lr, m)

    def _adamw_update_step(self, gradient, variable, learning_rate, m, v):
        self.update_by_adam(variable, gradient, learning_rate, m, v)


def projections_of(attention: layers.Layer) -> dict[str, layers.EinsumDense]:
    """The projections of an attention layer that is built: query, key, value, attention_output."""
    return {
        "query": attention._query_dense,
        "key": attention._key_dense,
        "value": attention._value_dense,
        "attention_output": attention._output_dense,
    }


class GroupedSelfAttention(layers.GroupQueryAttention):
    """Keras's attention with grouped heads, for projections that a subclass makes itself."""

    def set_projections(
        self,
        *,
        query: layers.EinsumDense,
        key: layers.EinsumDense,
        value: layers.EinsumDense,
    ) -> None:
        """Sets the projections, and creates the softmax and dropout that follow them.

        Args:
            query: (B, T, D) -> (B, T, N, H), built.
            key: (B, T, D) -> (B, T, K, H), built.
            value: The same.
        """
        self._query_dense, self._key_dense, self._value_dense = query, key, value
        self._softmax = layers.Softmax(dtype="float32")
        self.attention_dropout = layers.Dropout(
            self.dropout, seed=self.seed, dtype=self.dtype_policy
        )
        self._dot_product_equation, self._combine_equation = "btnh,bsnh->bnts", "bnts,bsnh->btnh"

    def set_output_projection(self, output: layers.EinsumDense) -> None:
        """Sets the output projection, which is built."""
        self._output_dense = output

    @property
    def attention_dropout(self) -> layers.Dropout:
        """What drops attention weights, once it is built."""
        return self._dropout_layer

    @attention_dropout.setter
    def attention_dropout(self, dropout: layers.Dropout) -> None:
        self._dropout_layer = dropout

    def projection_options(self) -> dict[str, Any]:
        """Arguments that Keras gives to each projection: initializers, regularizers, dtype."""
        return self._get_common_kwargs_for_sublayer()

    def attend(self, query, key, value, training=None):
        """Causal attention by Keras.

        Args:
            query: (B, T, N, H).
            key: The same.
            value: The same.
            training: Whether dropout applies.

        Returns:
            (B, T, N, H).
        """
        mixed, _ = self._compute_attention(
            query, key, value, training=training, use_causal_mask=True
        )
        return mixed


class SelfAttention(layers.MultiHeadAttention):
    """Keras's attention with another dropout."""

    def make_dropout(self, rate: float) -> layers.Dropout:
        """What drops attention weights: Keras's dropout, unless a subclass has another."""
        return layers.Dropout(rate, seed=self.seed, dtype=self.dtype_policy)

    @property
    def attention_dropout(self) -> layers.Dropout:
        """What drops attention weights, once it is built."""
        return self._dropout_layer

    def _build_attention(self, rank: int) -> None:
        super()._build_attention(rank)
        self._dropout_layer = self.make_dropout(self._dropout)


def stored_kernel(layer: layers.Layer) -> keras.Variable:
    """The variable of a Dense or EinsumDense layer's kernel as Keras stores it: integers if it is
    quantized, two in a byte with int4."""
    return layer._kernel


def int4_block_size(layer: layers.Layer) -> int | None:
    """How many inputs share a scale in a layer that Keras has quantized to int4; else None."""
    return getattr(layer, "_int4_block_size", None)


def int4_sides(layer: layers.Dense) -> tuple[int, int]:
    """(inputs, outputs) of a Dense layer that Keras has quantized to int4."""
    return layer._orig_input_dim, layer._orig_output_dim


def exact(variable: keras.Variable) -> tf.Tensor:
    """A variable's float32 value, which mixed precision would round inside a layer's call."""
    return tf.convert_to_tensor(variable._value)
