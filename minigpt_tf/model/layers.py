"""The few layers that Keras does not have: two position encodings and rotary, grouped attention."""

from typing import Any

import keras
from keras import ops

from ..errors import ConfigError
from ..inference.positions import rotary_tables, sinusoidal_table
from .keras_internals import GroupedSelfAttention, projections_of

register = keras.saving.register_keras_serializable("minigpt_tf")


def one_of(default: Any = None, **given: Any) -> Any:
    """The value of an argument that has several names.

    Args:
        default: The value if none is given.
        given: By each name; None is not given.

    Returns:
        The value.

    Raises:
        ConfigError: Two names are given.

    Example:
        >>> from minigpt_tf.model.layers import one_of
        >>> one_of(100, context_length=None, max_len=32)
        32
    """
    values = {name: value for name, value in given.items() if value is not None}
    if len(values) > 1:
        raise ConfigError(f"{' and '.join(values)} are names of the same: give one")
    return next(iter(values.values()), default)


def check_length(x: Any, context_length: int) -> None:
    """Checks that a sequence fits into the context.

    Args:
        x: (B, T, D).
        context_length: Number of positions.

    Raises:
        ConfigError: T is larger, and known before the model runs.
    """
    if x.shape[1] is not None and x.shape[1] > context_length:
        raise ConfigError(
            f"a sequence of {x.shape[1]} tokens is longer than the context of {context_length}: "
            f"give the last {context_length}, or build the model with a longer context_length"
        )


@register
class PositionalEncoding(keras.layers.Layer):
    """Adds the fixed sinusoidal encoding of each position: (B, T, D) -> (B, T, D), no weights.

    Vaswani et al., 2017, section 3.5.

    Args:
        context_length: Number of positions, also as `max_len` or `max_seq_len`.
        d_model: The width D of the embeddings (unset: theirs).
        max_len: Another name of `context_length`.
        max_seq_len: Another name of `context_length`.

    Raises:
        ConfigError: D is odd or not `d_model`, or a sequence is longer than the context.

    Example:
        >>> import minigpt_tf as mg, numpy as np
        >>> mg.PositionalEncoding(100, 8)(np.zeros((1, 2, 8), "float32"))[0, 0, :2].numpy().tolist()
        [0.0, 1.0]
    """

    def __init__(
        self,
        context_length: int | None = None,
        d_model: int | None = None,
        *,
        max_len: int | None = None,
        max_seq_len: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.context_length = one_of(
            context_length=context_length, max_len=max_len, max_seq_len=max_seq_len
        )
        self.d_model = d_model
        if type(self.context_length) is not int or self.context_length < 1:
            raise ConfigError(
                f"PositionalEncoding: max_len={self.context_length!r}: expected the number of "
                "positions, such as 100"
            )

    def build(self, input_shape: tuple) -> None:
        """Computes the table (C, D). Raises ConfigError if the width D does not fit."""
        width = input_shape[-1]
        if self.d_model not in (None, width):
            raise ConfigError(
                f"PositionalEncoding: d_model={self.d_model}, but it is added to embeddings of "
                f"width {width}"
            )
        if width % 2:
            raise ConfigError(f"PositionalEncoding: a width of {width}: expected an even number")
        self.table = sinusoidal_table(self.context_length, width)  # (C, D)

    def call(self, x):
        check_length(x, self.context_length)
        return x + ops.cast(self.table[None], x.dtype)[:, : ops.shape(x)[1]]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"context_length": self.context_length}
        own |= {} if self.d_model is None else {"d_model": self.d_model}
        return {**super().get_config(), **own}


@register
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector for each position: (B, T, D) -> (B, T, D), as GPT-2 does.

    Args:
        context_length: Number of positions.
        embeddings_initializer: A Keras initializer.

    Raises:
        ConfigError: A sequence is longer than the context.
    """

    def __init__(
        self, context_length: int, embeddings_initializer: Any = "uniform", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.context_length = context_length
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, input_shape: tuple) -> None:
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.context_length, input_shape[-1]),
            initializer=self.embeddings_initializer,
        )

    def call(self, x):
        check_length(x, self.context_length)
        return x + self.embeddings[None, : ops.shape(x)[1]]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        initializer = keras.initializers.serialize(self.embeddings_initializer)
        config = {"context_length": self.context_length, "embeddings_initializer": initializer}
        return {**super().get_config(), **config}


@register
class RotaryAttention(GroupedSelfAttention):
    """Causal attention with what MultiHeadAttention lacks: grouped key/value heads, rotary
    positions, projections whose bias differs from the output's, norms of queries and keys, a
    window, and scores with a bound.

    Ainslie et al., 2023, "GQA"; Su et al., 2021, "RoFormer"; Henry et al., 2020, "Query-key
    normalization"; Beltagy et al., 2020, "Longformer"; Gemma team, 2024, "Gemma 2".

    Args:
        context_length: Number of positions.
        rope_theta: Base of the rotary angles; None for no rotation.
        rope_scaling: As in ModelConfig (unset: none).
        qkv_bias: Whether query, key and value have a bias.
        qk_norm: As in ModelConfig.
        norm_epsilon: Of those norms.
        window: Tokens that each one sees, itself included (unset: all up to itself).
        softcap: As attention_softcap in ModelConfig.
        kwargs: Those of keras.layers.GroupQueryAttention.
    """

    def __init__(
        self,
        *,
        context_length: int,
        rope_theta: float | None,
        rope_scaling: dict[str, float] | None = None,
        qkv_bias: bool,
        qk_norm: str = "none",
        norm_epsilon: float = 1e-6,
        window: int | None = None,
        softcap: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.qk_norm, self.norm_epsilon = qk_norm, norm_epsilon
        self.window, self.softcap = window, softcap
        self.context_length, self.rope_theta = context_length, rope_theta
        self.rope_scaling = rope_scaling
        self.qkv_bias = qkv_bias

    def build(self, input_shape: tuple) -> None:
        """Keras's own build gives all four projections the same bias and needs two inputs."""
        N, K, H = self.num_query_heads, self.num_key_value_heads, self.head_dim
        self.set_projections(
            query=self._projection("query", N, input_shape),
            key=self._projection("key", K, input_shape),
            value=self._projection("value", K, input_shape),
        )
        output = keras.layers.EinsumDense(
            "btnh,nhd->btd",
            output_shape=(None, input_shape[-1]),
            bias_axes="d" if self.use_bias else None,
            name="attention_output",
            **self.projection_options(),
        )
        output.build((None, None, N, H))
        self.set_output_projection(output)
        if self.qk_norm != "none":
            self.query_norm = self._head_norm("query_norm", N)
            self.key_norm = self._head_norm("key_norm", K)
        if self.rope_theta is not None:
            self.tables = rotary_tables(  # (C, H) each
                self.context_length, H, self.rope_theta, self.rope_scaling
            )

    def _projection(self, name: str, heads: int, input_shape: tuple) -> keras.layers.EinsumDense:
        dense = keras.layers.EinsumDense(
            "btd,dnh->btnh",
            output_shape=(None, heads, self.head_dim),
            bias_axes="nh" if self.qkv_bias else None,
            name=name,
            **self.projection_options(),
        )
        dense.build(input_shape)
        return dense

    def _head_norm(self, name: str, heads: int) -> keras.layers.Layer:
        """The norm of each head, or of all heads together."""
        norm = self.make_norm(epsilon=self.norm_epsilon, name=name, dtype=self.norm_policy())
        norm.build((None, self.head_dim if self.qk_norm == "head" else heads * self.head_dim))
        return norm

    def make_norm(self, **options: Any) -> keras.layers.Layer:
        """Makes an RMS norm over the last axis."""
        return keras.layers.RMSNormalization(**options)

    def norm_policy(self) -> Any:
        """The dtype policy of the norms."""
        return self.dtype_policy

    def _normalized(self, x, norm):
        """x (B, T, heads, H) behind a norm of queries or keys."""
        if self.qk_norm == "head":
            return norm(x)
        _, T, heads, H = ops.shape(x)
        return ops.reshape(norm(ops.reshape(x, (-1, T, heads * H))), (-1, T, heads, H))

    def call(self, x, training=None):
        """x: (B, T, D) -> (B, T, D)"""
        check_length(x, self.context_length)
        projections = projections_of(self)
        query = projections["query"](x)  # (B, T, N, H)
        key, value = projections["key"](x), projections["value"](x)  # (B, T, K, H)
        if self.qk_norm != "none":
            query = self._normalized(query, self.query_norm)
            key = self._normalized(key, self.key_norm)
        if self.rope_theta is not None:
            query, key = self._rotate(query), self._rotate(key)
        key = ops.repeat(key, self.num_repeats, axis=2)  # (B, T, N, H)
        value = ops.repeat(value, self.num_repeats, axis=2)
        if self.window is None and self.softcap is None:
            mixed = self.attend(query, key, value, training=training)
        else:
            mixed = self._attend_near(query, key, value, training)
        return projections["attention_output"](mixed)  # (B, T, D)

    def _attend_near(self, query, key, value, training):
        """As `attend`, for a window and a bound of the scores."""
        scores = ops.cast(ops.einsum("btnh,bsnh->bnts", query, key), "float32")
        scores = scores * self.head_dim**-0.5
        if self.softcap is not None:
            scores = self.softcap * ops.tanh(scores / self.softcap)
        positions = ops.arange(ops.shape(query)[1])
        distance = positions[:, None] - positions[None]  # of the key before the query
        seen = distance >= 0
        if self.window is not None:
            seen = ops.logical_and(seen, distance < self.window)
        weights = ops.softmax(ops.where(seen, scores, -1e9))
        weights = self.attention_dropout(ops.cast(weights, value.dtype), training=training)
        return ops.einsum("bnts,bsnh->btnh", weights, value)

    def compute_output_spec(self, x, training=None):
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def _rotate(self, x, axis: int = 1):
        """Turns each pair (i, i + H / 2) of x (..., H) by its position's angle; T is at `axis`."""
        shape = [1] * len(x.shape)
        shape[axis], shape[-1] = -1, x.shape[-1]
        length = ops.shape(x)[axis]
        cosines, sines = (
            ops.reshape(ops.cast(ops.convert_to_tensor(table)[:length], x.dtype), shape)
            for table in self.tables
        )
        first, second = ops.split(x, 2, axis=-1)
        return x * cosines + ops.concatenate([-second, first], axis=-1) * sines

    def get_config(self) -> dict[str, Any]:
        names = ("context_length", "rope_theta", "rope_scaling", "qkv_bias")
        own = {name: getattr(self, name) for name in names}
        if self.qk_norm != "none":
            own |= {"qk_norm": self.qk_norm, "norm_epsilon": self.norm_epsilon}
        own |= {} if self.window is None else {"window": self.window}
        own |= {} if self.softcap is None else {"softcap": self.softcap}
        return {**super().get_config(), **own}


@register
class SoftCap(keras.layers.Layer):
    """c tanh(x / c) for each number: what is small stays, and nothing is beyond c (Gemma 2)."""

    def __init__(self, cap: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cap = cap

    def call(self, x):
        return self.cap * ops.tanh(x / self.cap)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cap": self.cap}
