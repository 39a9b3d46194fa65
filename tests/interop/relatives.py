"""GPTs of Keras's layers that the lecture does not build, but a notebook might."""

import keras
import numpy as np
from keras import layers

from .lecture import (
    D,
    F,
    H,
    T,
    V,
    block_body,
    positional_encoding,
    positional_table,
    transformer_block,
)


def swiglu_block(x):
    """A block with what the lecture's has not, of Keras's layers alone."""
    y = layers.RMSNormalization(epsilon=1e-5)(x)
    attention = layers.GroupQueryAttention(8, 2, 1, use_bias=False)
    x = layers.Add()([x, attention(y, y, use_causal_mask=True)])
    y = layers.RMSNormalization(epsilon=1e-5)(x)
    gate = keras.ops.silu(layers.Dense(24, use_bias=False)(y))
    y = layers.Multiply()([layers.Dense(24, use_bias=False)(y), gate])
    return x + layers.Dense(D, use_bias=False)(y)


def models():
    """Name -> (model, configuration it should be found to have)."""

    def around(middle, positions=None, final=None, **embedding):
        inputs = layers.Input(shape=(None,))
        x = layers.Embedding(V, D, **embedding)(inputs)
        x = (positions or positional_encoding(keras)())(x)
        x = middle(x)
        return keras.Model(inputs, layers.Dense(V)(final(x) if final else x))

    def lecture_block(x, **options):
        return block_body(keras, x, **options)

    def bare_norms(x):
        """No bias in the norms, no scale in one, GELU as a layer of its own."""
        y = layers.MultiHeadAttention(H, 4, use_bias=False)(x, x, use_causal_mask=True)
        x = layers.LayerNormalization(center=False)(x + y)
        y = layers.Activation("gelu")(layers.Dense(F)(x))
        return layers.LayerNormalization(scale=False)(x + layers.Dense(D, use_bias=False)(y))

    def table_of(shape):
        return positional_encoding(keras, learned=shape)()

    def constant(values):
        return lambda x: x + values

    class OnlyPositions(keras.layers.Layer):
        def call(self, x):
            return keras.ops.convert_to_tensor(positional_table(T, D))[:, : x.shape[1]]

        def compute_output_shape(self, shape):
            return (None, *shape[1:])

    random = np.random.default_rng(0).normal(size=(T, D)).astype("float32")
    sequential = keras.Sequential(
        [
            layers.Input(shape=(T,)),
            layers.Embedding(V, D),
            positional_encoding(keras)(),
            transformer_block(keras),
            layers.Dense(V),
        ]
    )
    final = layers.RMSNormalization(epsilon=1e-5)
    swiglu = {"norm": "rms", "activation": "swiglu", "num_kv_heads": 1, "use_bias": False}
    learned = {"positions": "learned", "context_length": T}
    found = {
        "SwiGLU, RMS norm, grouped heads": (
            around(lambda x: swiglu_block(x), final=final),
            swiglu,
        ),
        "missing biases and scales": (
            around(bare_norms),
            {"activation": "gelu", "qkv_bias": False, "norm_epsilon": 1e-3, "head_dim": 4},
        ),
        "learned positions (C, D)": (around(lecture_block, table_of((T, D))), learned),
        "learned positions (1, C, D)": (around(lecture_block, table_of((1, T, D))), learned),
        "a table in the graph": (around(lecture_block, constant(random)), learned),
        "a sinusoidal table in the graph": (
            around(lecture_block, constant(positional_table(T, D))),
            {"positions": "sinusoidal", "context_length": T},
        ),
        "padding masked": (around(lecture_block, mask_zero=True), {}),
        "a Sequential": (sequential, {"num_layers": 1}),
    }
    inputs = layers.Input(shape=(T,))
    x = layers.Embedding(V, D)(inputs)
    x = lecture_block(x + OnlyPositions(name="only")(x))
    found["positions that are added outside"] = (keras.Model(inputs, layers.Dense(V)(x)), {})
    return found
