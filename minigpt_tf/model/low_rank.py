"""LoRA in the layers: frozen kernels, perhaps quantized, and their LoRA adapters."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, quantizers

from ..config import LoraConfig
from ..inference.weights import role_in_block
from .dropout import FastDropout
from .keras_internals import exact, int4_block_size, int4_sides, stored_kernel
from .layers import register


@register
class LowRank(layers.Layer):
    """The LoRA adapter of one kernel: x (N, inputs) -> alpha / rank * dropout(x) A B, (N, outputs).

    Hu et al., 2021, "LoRA". B starts at zero, so the model starts as its base. Keras's own
    `enable_lora` gives attention's kernels (D, N, H) other factors than a matrix (D, N H) has, and
    has no dropout.
    """

    def __init__(self, outputs: int, lora: LoraConfig, **kwargs) -> None:
        super().__init__(**kwargs)
        self.outputs, self.rank = outputs, lora.rank
        self.scale = lora.alpha / lora.rank
        self.dropout = FastDropout(lora.lora_dropout, name="dropout", dtype=self.dtype_policy)

    def build(self, input_shape: tuple) -> None:
        """A is uniform within 1 / sqrt(inputs), as Kaiming's initializer for a linear layer."""
        inputs = input_shape[-1]
        bound = 1 / math.sqrt(inputs)
        self.a = self.add_weight(
            name="a",
            shape=(inputs, self.rank),
            initializer=keras.initializers.RandomUniform(-bound, bound),
        )
        self.b = self.add_weight(name="b", shape=(self.rank, self.outputs), initializer="zeros")

    def call(self, x, training=None):
        """x (N, inputs) -> (N, outputs)"""
        low = tf.matmul(self.dropout(x, training=training), tf.convert_to_tensor(self.a))
        return tf.matmul(self.scale * low, tf.convert_to_tensor(self.b))


def low_rank_products(
    x: tf.Tensor, adapters: Mapping[str, LowRank], names: Sequence[str], training: bool | None
) -> list[tf.Tensor | None]:
    """What the adapters of several kernels with the same input add to their outputs.

    One product with all A side by side. All adapters drop the same inputs.

    Args:
        x: The input (N, inputs).
        adapters: By name of the kernel.
        names: The kernels, in the order of the result.
        training: Whether dropout applies.

    Returns:
        (N, outputs) for each name, None for a kernel without an adapter.
    """
    present = [adapters[name] for name in names if name in adapters]
    if not present:
        return [None] * len(names)
    matrices = [tf.convert_to_tensor(adapter.a) for adapter in present]
    x = present[0].dropout(x, training=training)
    low = tf.matmul(x, tf.cast(tf.concat(matrices, axis=1), x.dtype)) * present[0].scale
    projected = iter(tf.split(low, [adapter.rank for adapter in present], axis=1))
    return [
        tf.matmul(next(projected), tf.cast(tf.convert_to_tensor(adapters[name].b), x.dtype))
        if name in adapters
        else None
        for name in names
    ]


class WithKernels:
    """For layers that take their kernels from `kernel_of`: one formula for all dtypes."""

    call: Callable[..., Any]

    def quantized_call(self, *arguments, **kwargs):
        """What Keras calls in the place of `call` under a quantized dtype policy."""
        return self.call(*arguments, **kwargs)


@register
class FusedDense(WithKernels, layers.Dense):
    """Keras's Dense, whose kernel may be quantized, with perhaps a LoRA adapter."""

    def __init__(self, *arguments, lora: LoraConfig | None = None, **kwargs) -> None:
        super().__init__(*arguments, **kwargs)
        self.lora = lora
        self.adapter: LowRank | None = None

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        if self.lora is not None and role_in_block(self.name) in self.lora.targets:
            self.adapter = adapter_for("lora", input_shape[-1], self.units, self.lora, self)

    def call(self, x, training=None):
        """x (B, T, D) -> (B, T, F)"""
        rows = tf.reshape(x, (-1, x.shape[-1]))
        y = product(rows, kernel_of(self, rows.dtype), frozen=self.lora is not None)
        if self.adapter is not None:
            y += self.adapter(rows, training=training)
        if self.bias is not None:
            y = tf.nn.bias_add(y, tf.convert_to_tensor(self.bias))
        y = tf.reshape(y, (tf.shape(x)[0], tf.shape(x)[1], self.units))
        return y if self.activation is None else self.activation(y)


def adapter_for(
    name: str, inputs: int, outputs: int, lora: LoraConfig, owner: layers.Layer
) -> LowRank:
    """The LoRA adapter of a kernel, built.

    Args:
        name: Of the adapter.
        inputs: Rows of the kernel as a matrix.
        outputs: Its columns.
        lora: Rank, scale and dropout.
        owner: The layer that the kernel belongs to.

    Returns:
        The adapter, in the precision of its owner's products.
    """
    adapter = LowRank(outputs, lora, name=name, dtype=plain_policy(owner))
    adapter.build((None, inputs))
    return adapter


def plain_policy(layer: layers.Layer) -> str:
    """The dtype policy for adapters of a frozen or quantized kernel: float32 variables, and
    products in the layer's dtype."""
    compute = layer.compute_dtype
    return compute if compute == "float32" else f"mixed_{compute}"


def product(x: tf.Tensor, make_kernel: Callable[[], tf.Tensor], *, frozen: bool) -> tf.Tensor:
    """A product with a kernel.

    A frozen kernel is computed when x is known, and again for the gradient of x. Otherwise all
    dequantized kernels would be in memory at once, and take as much of it as a model that is not
    quantized.

    Args:
        x: (N, inputs).
        make_kernel: Gives the kernel (inputs, outputs).
        frozen: Whether the kernel is not trained.

    Returns:
        (N, outputs).
    """
    if not frozen:
        return tf.matmul(x, make_kernel())

    @tf.custom_gradient
    def multiply(x):
        """The product, and its gradient."""

        def gradient(dy):
            """d(loss)/dx."""
            with tf.control_dependencies([dy]):  # else TensorFlow makes both one, and keeps it
                return tf.matmul(dy, make_kernel(), transpose_b=True)

        with tf.control_dependencies([x]):
            return tf.matmul(x, make_kernel()), gradient

    return multiply(x)


def kernel_of(layer: layers.Layer, dtype: tf.DType) -> Callable[[], tf.Tensor]:
    """A function that gives a layer's kernel, dequantized each time if it is quantized.

    Inputs are not quantized, unlike in Keras's own quantized layers.

    Args:
        layer: A Dense or EinsumDense, perhaps quantized by Keras to int8 or int4.
        dtype: Of its products.

    Returns:
        A function without arguments, which gives the kernel in that dtype.
    """
    stored, shape = exact(stored_kernel(layer)), kernel_shape(layer)
    if layer.quantization_mode is None:
        return lambda: tf.cast(stored, dtype)
    rows, columns = matrix_shape(layer, shape)
    block = int4_block_size(layer)
    scale, zero = exact(layer.kernel_scale), exact(layer.kernel_zero) if block else None

    def kernel() -> tf.Tensor:
        """The kernel in float32, then in `dtype`."""
        if block is None:
            numbers = tf.cast(tf.reshape(stored, (rows, columns)), tf.float32)
            values = numbers / tf.reshape(scale, (1, columns))
        else:  # a scale and a zero for every `block` rows
            numbers = tf.cast(_int4_values(stored, columns), tf.float32)
            blocks = scale.shape[0]
            if rows < blocks * block:
                numbers = tf.pad(numbers, [(0, blocks * block - rows), (0, 0)])
            numbers = tf.reshape(numbers, (blocks, block, columns))
            values = (numbers - tf.cast(zero, tf.float32)[:, None]) * scale[:, None]
            values = tf.reshape(values, (-1, columns))[:rows]
        return tf.cast(tf.reshape(values, shape), dtype)

    return kernel


def _int4_values(stored: tf.Tensor, columns: int) -> tf.Tensor:
    """Bytes (rows, columns / 2) -> the integers in their halves, the lower ones first."""
    four = tf.constant(4, tf.int8)
    lower = tf.bitwise.right_shift(tf.bitwise.left_shift(stored, four), four)  # keeps the sign
    both = tf.stack([lower, tf.bitwise.right_shift(stored, four)], axis=-1)
    return tf.reshape(both, (stored.shape[0], -1))[:, :columns]


def assign_kernel(layer: layers.Layer, values: np.ndarray) -> None:
    """Assigns a kernel to a layer; a quantized layer gets it as Keras quantizes it.

    Args:
        layer: A Dense or EinsumDense, built.
        values: float32, in the shape of the layer's kernel.
    """
    if layer.quantization_mode is None:
        layer.kernel.assign(values)
        return
    matrix = np.asarray(values, dtype=np.float32).reshape(matrix_shape(layer, values.shape))
    if layer.quantization_mode == "int8":
        numbers, scale = quantizers.abs_max_quantize(matrix, axis=0, to_numpy=True)
        stored_kernel(layer).assign(np.reshape(numbers, values.shape))
        layer.kernel_scale.assign(np.reshape(scale, tuple(layer.kernel_scale.shape)))
        return
    numbers, scale, zero = quantizers.abs_max_quantize_grouped_with_zero_point(
        matrix, block_size=int4_block_size(layer), to_numpy=True
    )
    stored_kernel(layer).assign(quantizers.pack_int4(numbers, axis=-1)[0])
    layer.kernel_scale.assign(scale)
    layer.kernel_zero.assign(zero)


def kernel_shape(layer: layers.Layer) -> tuple[int, ...]:
    """The shape of a layer's kernel, also if int4 stores two numbers in a byte."""
    if layer.quantization_mode != "int4":
        return tuple(stored_kernel(layer).shape)
    if isinstance(layer, layers.EinsumDense):
        return tuple(layer.original_kernel_shape)
    return int4_sides(layer)


def matrix_shape(layer: layers.Layer, shape: Sequence[int]) -> tuple[int, int]:
    """The shape of a kernel as a matrix: in attention it has three axes.

    Args:
        layer: The layer of the kernel.
        shape: Of the kernel.

    Returns:
        (inputs, outputs).
    """
    inputs = 2 if layer.name == "attention_output" else 1
    return math.prod(shape[:inputs]), math.prod(shape[inputs:])
