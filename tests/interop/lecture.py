"""The lecture's own code on plain Keras, in the variants that notebooks have: nothing of ours."""

import numpy as np
import tensorflow as tf

V, T, D, H, F, N = 40, 12, 16, 2, 32, 2
"""Vocabulary, context, width, heads, feed-forward, blocks."""


def positional_table(length, width):
    """Sine and cosine by turns, as the lecture computes it."""
    angles = np.arange(length)[:, None] / 10000 ** (2 * (np.arange(width) // 2) / width)
    angles[:, 0::2], angles[:, 1::2] = np.sin(angles[:, 0::2]), np.cos(angles[:, 1::2])
    return angles[None].astype("float32")


def positional_encoding(keras, config=("max_len",), learned=None):
    """The lecture's class. `config`: what get_config gives; `learned`: the shape of a weight."""

    class PositionalEncoding(keras.layers.Layer):
        def __init__(self, max_len=T, d_model=D, **kwargs):
            super().__init__(**kwargs)
            self.max_len, self.d_model = max_len, d_model
            self.table = positional_table(max_len, d_model)

        def build(self, input_shape):
            if learned:
                self.table = self.add_weight(name="table", shape=learned, initializer="normal")

        def call(self, x):
            table = tf.cast(tf.convert_to_tensor(self.table), x.dtype)
            table = table if len(table.shape) == 3 else table[None]
            return x + table[:, : tf.shape(x)[1], :]

        def compute_output_shape(self, input_shape):
            return input_shape

        def get_config(self):
            return {**super().get_config(), **{name: getattr(self, name) for name in config}}

    return PositionalEncoding


def block_body(keras, x, *, add="layer", feed_forward="dense", pre_norm=False, **attention):
    """Attention and feed-forward on x. `add`: "layer" or "+"; `feed_forward`: "dense" or
    "sequential"; `attention`: further arguments of MultiHeadAttention and of its call."""
    layers = keras.layers
    call = {"use_causal_mask": attention.pop("use_causal_mask", True)}
    norm = lambda x: layers.LayerNormalization(epsilon=1e-6)(x)  # noqa: E731
    plus = (lambda a, b: layers.Add()([a, b])) if add == "layer" else (lambda a, b: a + b)
    settings = {"num_heads": H, "key_dim": D, **attention}
    y = norm(x) if pre_norm else x
    y = layers.MultiHeadAttention(**settings)(y, y, **call)
    x = plus(x, layers.Dropout(0.1)(y))
    x = x if pre_norm else norm(x)
    y = norm(x) if pre_norm else x
    parts = [layers.Dense(F, activation="relu"), layers.Dense(D)]
    y = keras.Sequential(parts)(y) if feed_forward == "sequential" else parts[1](parts[0](y))
    x = plus(x, layers.Dropout(0.1)(y))
    return x if pre_norm else norm(x)


def transformer_block(keras, **options):
    """The lecture's block, a model of its own."""
    inputs = keras.layers.Input(shape=(None, D))
    return keras.Model(inputs, block_body(keras, inputs, **options))


def build(keras, *, nested=True, head="softmax", length=T, positions=None, middle=None, **options):
    """The lecture's build_gpt_model.

    `nested`: each block a model, or all layers in one; `head`: softmax | logits | softmax layer |
    activation layer; `positions`: the layer that adds positions; `middle`: a layer before the head.
    """
    layers = keras.layers
    inputs = layers.Input(shape=(length,))
    x = layers.Embedding(V, D)(inputs)
    x = (positions or positional_encoding(keras)())(x)
    for _ in range(N):
        block = transformer_block(keras, **options) if nested else None
        x = block(x) if nested else block_body(keras, x, **options)
    if options.get("pre_norm"):
        x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = middle(x) if middle else x
    x = layers.Dense(V, activation="softmax" if head == "softmax" else None)(x)
    if head == "softmax layer":
        x = layers.Softmax()(x)
    if head == "activation layer":
        x = layers.Activation("softmax")(x)
    return keras.Model(inputs, x)


def spread(model, seed=0):
    """The model with random weights, biases and scales too; large enough to make logits differ."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        values = 0.5 * random.standard_normal(weight.shape) + (weight.name.startswith("gamma"))
        weight.assign(values.astype("float32"))
    return model
