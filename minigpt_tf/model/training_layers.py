"""Layers that compute what Keras's do, and are faster to differentiate on a CPU.

They have the names, weights and formulas of the layers they inherit from, which replace them in
every saved model. They save passes over memory: one product for query, key and
value, gradients as one formula instead of one operation after another, and dropout from
16-bit random numbers. Norms and softmax are float32 under every dtype policy.
"""

import functools
import math
from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers

from ..config import LoraConfig
from ..inference.positions import rotary_tables
from .causal_attention import causal_attention
from .dropout import FastDropout
from .keras_internals import SelfAttention, projections_of
from .layers import RotaryAttention, register
from .low_rank import (
    LowRank,
    WithKernels,
    adapter_for,
    kernel_of,
    kernel_shape,
    low_rank_products,
    matrix_shape,
    plain_policy,
    product,
)


@register
class FusedLayerNormalization(layers.LayerNormalization):
    """Layer norm over the last axis, whose gradient is one formula (Ba et al., 2016)."""

    def call(self, inputs):
        """(..., D) -> (..., D)"""
        shift = () if self.beta is None else (tf.convert_to_tensor(self.beta),)

        @tf.custom_gradient
        def normalize(x, gamma, *beta):
            """Layer norm, and the function that turns d(loss)/dy into those of the arguments."""
            x32 = tf.cast(x, tf.float32)
            centered = x32 - tf.reduce_mean(x32, -1, keepdims=True)
            variance = tf.reduce_mean(tf.square(centered), -1, keepdims=True)
            inverse = tf.math.rsqrt(variance + self.epsilon)
            normal = centered * inverse
            y = normal * gamma + beta[0] if beta else normal * gamma

            def gradient(dy):
                """d(loss)/d(x, gamma, beta)."""
                dy = tf.cast(dy, tf.float32)
                d_gamma, d_beta = _sum_of_rows(dy * normal), [_sum_of_rows(dy) for _ in beta]
                dn = dy * gamma
                along = tf.reduce_mean(dn * normal, -1, keepdims=True)
                dx = (dn - tf.reduce_mean(dn, -1, keepdims=True) - normal * along) * inverse
                return tf.cast(dx, x.dtype), d_gamma, *d_beta

            return tf.cast(y, x.dtype), gradient

        return normalize(inputs, tf.convert_to_tensor(self.gamma), *shift)


@register
class FusedRMSNormalization(layers.RMSNormalization):
    """RMS norm over the last axis, whose gradient is one formula (Zhang and Sennrich, 2019)."""

    def call(self, inputs):
        """(..., D) -> (..., D)"""

        @tf.custom_gradient
        def normalize(x, scale):
            """RMS norm, and the function that turns d(loss)/dy into those of the arguments."""
            x32 = tf.cast(x, tf.float32)
            mean = tf.reduce_mean(tf.square(x32), -1, keepdims=True)
            inverse = tf.math.rsqrt(mean + self.epsilon)
            normal = x32 * inverse

            def gradient(dy):
                """d(loss)/d(x, scale)."""
                dy = tf.cast(dy, tf.float32)
                dn = dy * scale
                along = tf.reduce_mean(dn * normal, -1, keepdims=True)
                return tf.cast((dn - normal * along) * inverse, x.dtype), _sum_of_rows(dy * normal)

            return tf.cast(normal * scale, x.dtype), gradient

        return normalize(inputs, tf.cast(tf.convert_to_tensor(self.scale), tf.float32))


def _sum_of_rows(x: tf.Tensor) -> tf.Tensor:
    """(..., D) -> (D,), as a product: several times faster here than a sum over the first axes."""
    rows = tf.reshape(x, (-1, x.shape[-1]))
    return tf.matmul(tf.ones_like(rows[:, :1]), rows, transpose_a=True)[0]


@register
class FusedAttention(WithKernels, SelfAttention):
    """Causal self-attention: query, key and value in one product, perhaps with LoRA."""

    def __init__(self, *arguments, lora: LoraConfig | None = None, **kwargs) -> None:
        super().__init__(*arguments, **kwargs)
        self.lora = lora
        self.adapters: dict[str, LowRank] = {}

    def build(self, query_shape: tuple, value_shape: tuple, key_shape: tuple | None = None) -> None:
        super().build(query_shape, value_shape, key_shape)
        _build_adapters(self, query_shape[-1])

    def call(self, query, value, key=None, training=None, use_causal_mask=True):
        """query: (B, T, D) -> (B, T, D); value and key are the same tensor."""
        heads = _project(query, self, training)
        q, k, v = tf.split(heads, 3)  # (N, B, T, H)
        mixed = causal_attention(q, k, v, self.attention_dropout, training)
        return _project_back(mixed, self, training)

    def make_dropout(self, rate: float) -> FastDropout:
        return FastDropout(rate, seed=self.seed, dtype=plain_policy(self))


@register
class FusedRotaryAttention(WithKernels, RotaryAttention):
    """The same with rotary positions and grouped heads."""

    def __init__(self, *, lora: LoraConfig | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.lora = lora
        self.adapters: dict[str, LowRank] = {}

    def build(self, input_shape: tuple) -> None:
        """As Keras's, with what all layers of a model share."""
        super().build(input_shape)
        if self.rope_theta is not None:
            scaling = tuple((self.rope_scaling or {}).items())
            self.tables = _shared_tables(
                self.context_length, self.head_dim, self.rope_theta, scaling
            )
        _build_adapters(self, input_shape[-1])
        self.attention_dropout = FastDropout(self.dropout, seed=self.seed, dtype=plain_policy(self))

    def call(self, x, training=None):
        """x: (B, T, D) -> (B, T, D)"""
        heads = _project(x, self, training)
        N, K = self.num_query_heads, self.num_key_value_heads
        queries_and_keys, v = tf.split(heads, [N + K, K])  # (heads, B, T, H)
        if self.qk_norm != "none":
            q, k = tf.split(queries_and_keys, [N, K])
            normalized = self._normalized_heads(q, self.query_norm)
            normalized = normalized, self._normalized_heads(k, self.key_norm)
            queries_and_keys = tf.concat(normalized, axis=0)
        if self.rope_theta is not None:
            queries_and_keys = self._rotate_heads(queries_and_keys)
        q, k = tf.split(queries_and_keys, [N, K])
        mixed = causal_attention(
            q, k, v, self.attention_dropout, training, self.window, self.softcap
        )
        return _project_back(mixed, self, training)

    def make_norm(self, **options) -> layers.Layer:
        """The norms of queries and keys, in float32 under every dtype policy."""
        return FusedRMSNormalization(**options)

    def norm_policy(self) -> str:
        """Norms are not quantized."""
        return plain_policy(self)

    def _normalized_heads(self, x: tf.Tensor, norm: layers.Layer) -> tf.Tensor:
        """As `_normalized` for x (heads, B, T, H)."""
        if self.qk_norm == "head":
            return norm(x)
        heads, H = x.shape[0], x.shape[-1]
        together = tf.transpose(x, (1, 2, 0, 3))  # (B, T, heads, H)
        B, T = tf.unstack(tf.shape(together)[:2])
        together = norm(tf.reshape(together, (B, T, heads * H)))
        return tf.transpose(tf.reshape(together, (B, T, heads, H)), (2, 0, 1, 3))

    def _rotate_heads(self, x: tf.Tensor) -> tf.Tensor:
        """As `_rotate` for x (heads, B, T, H), with its gradient in one piece: the turn back."""
        cosines, sines = (tf.cast(table[: tf.shape(x)[2]], x.dtype) for table in self.tables)
        half = x.shape[-1] // 2

        @tf.custom_gradient
        def rotate(x):
            """The turned vectors, and their gradient."""
            turned = x * cosines + tf.concat([-x[..., half:], x[..., :half]], -1) * sines

            def gradient(dy):
                dy_sines = dy * sines
                return dy * cosines + tf.concat([dy_sines[..., half:], -dy_sines[..., :half]], -1)

            return turned, gradient

        return rotate(x)


@functools.lru_cache(maxsize=4)
def _shared_tables(
    context_length: int, head_dim: int, rope_theta: float, scaling: tuple[tuple[str, float], ...]
) -> tuple[tf.Tensor, ...]:
    """Cosines and sines as tensors that all layers of a model share.

    A compiled function refers to such a tensor, but copies an array for each of its uses: with 30
    layers and a context of 8,192 tokens these are almost 3 GB (measured).
    """
    with tf.init_scope():
        tables = rotary_tables(context_length, head_dim, rope_theta, dict(scaling) or None)
        return tuple(tf.constant(table) for table in tables)


def _build_adapters(attention: layers.Layer, width: int) -> None:
    """Gives each projection that `lora` names its LoRA adapter."""
    for name, projection in projections_of(attention).items():
        if attention.lora is not None and name in attention.lora.targets:
            inputs, outputs = matrix_shape(projection, kernel_shape(projection))
            attention.adapters[name] = adapter_for(
                f"{name}_lora", inputs, outputs, attention.lora, attention
            )


def _project(x: tf.Tensor, attention: layers.Layer, training: bool | None) -> tf.Tensor:
    """x (B, T, D) -> the heads of query, key and value together, (heads, B, T, H).

    One product for all three; a frozen kernel is made when the product needs it (`product`).
    """
    projections = {n: p for n, p in projections_of(attention).items() if n != "attention_output"}
    rows = tf.reshape(x, (-1, x.shape[-1]))  # (B T, D)
    H = kernel_shape(projections["query"])[-1]
    kernel = _side_by_side([kernel_of(p, x.dtype) for p in projections.values()], x.shape[-1])
    y = product(rows, kernel, frozen=attention.lora is not None)  # (B T, heads H)
    biases = [p.bias for p in projections.values()]
    if biases[0] is not None:
        y = tf.nn.bias_add(y, tf.concat([tf.reshape(bias, (-1,)) for bias in biases], axis=0))
    if attention.adapters:
        y += _adapter_outputs(rows, attention, projections, training)
    T = tf.shape(x)[1] if x.shape[1] is None else x.shape[1]
    y = tf.reshape(y, (-1, T, y.shape[-1] // H, H))  # (B, T, heads, H)
    return tf.transpose(y, (2, 0, 1, 3))


def _side_by_side(makers: list[Callable[[], tf.Tensor]], width: int) -> Callable[[], tf.Tensor]:
    """Functions that make kernels (D, heads, H) -> one that makes them all, (D, heads H)."""
    return lambda: tf.concat([tf.reshape(make(), (width, -1)) for make in makers], axis=1)


def _adapter_outputs(
    rows: tf.Tensor,
    attention: layers.Layer,
    projections: dict[str, layers.EinsumDense],
    training: bool | None,
) -> tf.Tensor:
    """What LoRA adds to the projections of rows (B T, D), side by side; 0 for one without."""
    outputs = low_rank_products(rows, attention.adapters, list(projections), training)
    widths = [matrix_shape(p, kernel_shape(p))[1] for p in projections.values()]
    return tf.concat(
        [
            tf.zeros((tf.shape(rows)[0], width), rows.dtype) if output is None else output
            for output, width in zip(outputs, widths, strict=True)
        ],
        axis=1,
    )


def _project_back(heads: tf.Tensor, attention: layers.Layer, training: bool | None) -> tf.Tensor:
    """Heads (N, B, T, H) -> (B, T, D)."""
    projection = projections_of(attention)["attention_output"]
    N, H, D = kernel_shape(projection)
    rows = tf.reshape(tf.transpose(heads, (1, 2, 0, 3)), (-1, N * H))

    make = kernel_of(projection, heads.dtype)  # (N, H, D)
    y = product(rows, lambda: tf.reshape(make(), (N * H, D)), frozen=attention.lora is not None)
    if "attention_output" in attention.adapters:
        y += attention.adapters["attention_output"](rows, training=training)
    if projection.bias is not None:
        y = tf.nn.bias_add(y, tf.convert_to_tensor(projection.bias))
    return tf.reshape(y, (-1, tf.shape(heads)[2], D))


@register
class RecomputedModel(keras.Model):
    """A Functional model that keeps only its input, and is computed again for its gradients.

    Keras's own RematScope cannot be used in a `tf.function` (Keras 3.15).
    """

    def call(self, inputs, training=None, mask=None):
        call = super().call
        if not training:
            return call(inputs, training=training)
        return tf.recompute_grad(lambda x: call(x, training=True))(inputs)


def _with_gradient(function: Callable) -> Callable:
    """x -> f(x) in float32, for a function that gives f(x) and its derivative."""

    @tf.custom_gradient
    def with_gradient(x):
        """f(x) in the dtype of x, and its derivative."""
        y, derivative = function(tf.cast(x, tf.float32))

        def gradient(dy):
            return tf.cast(tf.cast(dy, tf.float32) * derivative(), x.dtype)

        return tf.cast(y, x.dtype), gradient

    @functools.wraps(function)
    def activation(x):  # a plain function, which Keras can save by its name
        return with_gradient(x)

    return activation


@register
@_with_gradient
def fused_silu(x):
    """x times the logistic function of x (Elfwing et al., 2017)."""
    s = tf.sigmoid(x)
    return x * s, lambda: s * (1 + x * (1 - s))


@register
@_with_gradient
def fused_gelu(x):
    """x times the normal distribution function of x (Hendrycks and Gimpel, 2016)."""
    below = 0.5 + 0.5 * tf.math.erf(x * math.sqrt(0.5))
    density = 1 / math.sqrt(2 * math.pi)
    return x * below, lambda: below + density * x * tf.exp(-0.5 * x * x)


@register
@_with_gradient
def fused_gelu_tanh(x):
    """GPT-2's approximation of gelu."""
    a, b = math.sqrt(2 / math.pi), math.sqrt(2 / math.pi) * 0.044715
    squared = x * x
    t = tf.tanh(x * (a + b * squared))
    half = 0.5 * (1 + t)
    return x * half, lambda: half + 0.5 * x * (1 - t * t) * (a + 3 * b * squared)
