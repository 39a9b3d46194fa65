"""The GPT as a Functional Keras model of nested blocks: nothing that Netron cannot draw."""

from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers, ops

from ..config import ModelConfig
from .dropout import FastDropout
from .layers import PositionalEncoding, PositionEmbedding, RotaryAttention, register
from .training_layers import (
    FusedAttention,
    FusedLayerNormalization,
    FusedRMSNormalization,
    FusedRotaryAttention,
    RecomputedModel,
    fused_gelu,
    fused_gelu_tanh,
    fused_silu,
)

INITIAL_STDDEV = 0.02
"""Standard deviation of the initial weights, as in GPT-2."""

UNTIED_EMBEDDING_STDDEV = 1.0
"""Of embeddings, of tokens and of positions, where the token embedding is not the output head too,
as in PyTorch. Smaller ones drown in sinusoidal positions, whose own is 0.7: the 2017 paper (section
3.4) multiplies its embeddings by sqrt(D) for that. With learned positions and 0.02 the model stays
for long at the loss of knowing the frequencies (tried on `benchmarks/verdict.py`)."""


@register
def gelu_tanh(x):
    """GPT-2's gelu. Registered, since Keras has no name for it that a saved model could use."""
    return ops.gelu(x, approximate=True)


@dataclass(frozen=True)
class LayerKit:
    """The layers of a model that there are two kinds of."""

    Dropout: type
    LayerNormalization: type
    RMSNormalization: type
    MultiHeadAttention: Any
    RotaryAttention: Any
    gelu: Any
    gelu_tanh: Any
    silu: Any
    Dense: Any = layers.Dense
    kernels: str | None = None
    """The dtype policy of the layers of a block that have kernels, where it is not the model's."""
    Block: type = keras.Model


BUILT_IN = LayerKit(
    layers.Dropout,
    layers.LayerNormalization,
    layers.RMSNormalization,
    layers.MultiHeadAttention,
    RotaryAttention,
    "gelu",
    gelu_tanh,
    "silu",
)
FOR_TRAINING = LayerKit(
    FastDropout,
    FusedLayerNormalization,
    FusedRMSNormalization,
    FusedAttention,
    FusedRotaryAttention,
    fused_gelu,
    fused_gelu_tanh,
    fused_silu,
)


def build_gpt_model(
    config: ModelConfig, *, seed: int | None = None, dtype: str = "float32"
) -> keras.Model:
    """Token ids (B, T) -> float32 logits (B, T, vocab_size), for any T up to context_length.

    `seed` fixes the initial weights and the dropout; `dtype` is a Keras dtype policy. Attention is
    causal: the logits at t depend on the tokens up to t alone.
    """
    # In mixed precision Keras's own attention has no float32 softmax.
    kit = BUILT_IN if _compute_dtype(dtype) == "float32" else FOR_TRAINING
    return build_from_kit(config, seed, dtype, kit)[0]


def build_training_model(
    config: ModelConfig, *, seed: int, dtype: str = "float32", remat: bool = False
) -> tuple[keras.Model, keras.Model]:
    """The model of `build_gpt_model` from layers that train faster, and the part before its head.

    Both have the same variables; the part gives the hidden states (B, T, D) that the head turns
    into logits. With `remat` a block keeps only its input for the gradients and is computed again
    (Chen et al., 2016, "Training deep nets with sublinear memory cost").
    """
    kit = replace(FOR_TRAINING, Block=RecomputedModel) if remat else FOR_TRAINING
    return build_from_kit(config, seed, dtype, kit)


def build_from_kit(
    config: ModelConfig, seed: int | None, dtype: str, kit: LayerKit
) -> tuple[keras.Model, keras.Model]:
    """The model from the layers of `kit`, and the part before its head."""
    if seed is not None:
        keras.utils.set_random_seed(seed)
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    embedding = _token_embedding(config, dtype)
    x = embedding(token_ids)  # (B, T, D)
    if config.positions == "sinusoidal":
        encoding = PositionalEncoding(config.context_length, name="position_encoding", dtype=dtype)
        x = encoding(x)
    elif config.positions == "learned":
        x = PositionEmbedding(
            config.context_length,
            _normal(_embedding_stddev(config)),
            name="position_encoding",
            dtype=dtype,
        )(x)
    if config.dropout:
        x = kit.Dropout(config.dropout, name="embedding_dropout", dtype=dtype)(x)
    for layer in range(config.num_layers):
        x = transformer_block(config, name=f"block_{layer}", dtype=dtype, kit=kit)(x)
    if config.norm_first:
        x = _norm(config, "final_norm", dtype, kit)(x)
    model = keras.Model(token_ids, _logits(config, embedding, x), name="gpt")
    return model, keras.Model(token_ids, x, name="body")


def transformer_block(
    config: ModelConfig, *, name: str, dtype: str = "float32", kit: LayerKit = BUILT_IN
) -> keras.Model:
    """One block, (B, T, D) -> (B, T, D): attention and feed-forward, each with a residual."""
    x = inputs = keras.Input(
        (None, config.embed_dim), dtype=_compute_dtype(dtype), name=f"{name}_input"
    )

    def sublayer(x, function, kind: str):
        """x plus the function of x, normalised before (GPT-2) or after (2017 paper)."""
        norm = _norm(config, f"{kind}_norm", dtype, kit)
        y = function(config, norm(x) if config.norm_first else x, dtype, kit)
        if config.dropout:
            y = kit.Dropout(config.dropout, name=f"{kind}_dropout", dtype=dtype)(y)
        x = layers.Add(name=f"{kind}_residual", dtype=dtype)([x, y])
        return x if config.norm_first else norm(x)

    x = sublayer(x, _attention, "attention")
    x = sublayer(x, _feed_forward, "feed_forward")
    return kit.Block(inputs, x, name=name)


def _attention(config: ModelConfig, x, dtype: str, kit: LayerKit):
    """Causal self-attention: Keras's MultiHeadAttention wherever it can express the switches."""
    common = {"name": "attention", "dtype": kit.kernels or dtype}
    common |= {"kernel_initializer": _normal()}
    common |= {"dropout": config.dropout, "use_bias": config.use_bias}
    grouped = config.num_kv_heads != config.num_heads
    if config.positions == "rotary" or grouped or config.qkv_bias != config.use_bias:
        return kit.RotaryAttention(
            head_dim=config.head_dim,
            num_query_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            context_length=config.context_length,
            rope_theta=config.rope_theta if config.positions == "rotary" else None,
            rope_scaling=config.rope_scaling,
            qkv_bias=config.qkv_bias,
            **common,
        )(x)
    attention = kit.MultiHeadAttention(config.num_heads, config.head_dim, **common)
    return attention(x, x, use_causal_mask=True)


def _feed_forward(config: ModelConfig, x, dtype: str, kit: LayerKit):
    """Two dense layers, or three with the gate of SwiGLU."""

    def dense(units: int, name: str, activation=None):
        """A dense layer of this feed-forward, over the last axis."""
        return kit.Dense(
            units,
            activation=activation,
            use_bias=config.use_bias,
            kernel_initializer=_normal(),
            name=f"feed_forward_{name}",
            dtype=kit.kernels or dtype,
        )

    if config.activation == "swiglu":
        gate = dense(config.ff_dim, "gate", kit.silu)(x)
        up = dense(config.ff_dim, "up")(x)
        hidden = layers.Multiply(name="feed_forward_product", dtype=dtype)([gate, up])  # (B, T, F)
    else:
        activation = getattr(kit, config.activation, config.activation)
        hidden = dense(config.ff_dim, "up", activation)(x)  # (B, T, F)
    return dense(config.embed_dim, "down")(hidden)


def _token_embedding(config: ModelConfig, dtype: str) -> layers.Layer:
    sizes, common = (
        (config.vocab_size, config.embed_dim),
        {"name": "token_embedding", "dtype": dtype},
    )
    if config.tie_embeddings:
        return layers.ReversibleEmbedding(
            *sizes, embeddings_initializer=_normal(), reverse_dtype="float32", **common
        )
    normal = _normal(_embedding_stddev(config))
    return layers.Embedding(*sizes, embeddings_initializer=normal, **common)


def _embedding_stddev(config: ModelConfig) -> float:
    """As an output head they must be small, else the first logits are large."""
    return INITIAL_STDDEV if config.tie_embeddings else UNTIED_EMBEDDING_STDDEV


def _logits(config: ModelConfig, embedding: layers.Layer, x):
    """Hidden states (B, T, D) -> logits (B, T, V), float32 under every dtype policy."""
    if config.tie_embeddings:
        return layers.Activation("linear", name="logits", dtype="float32")(
            embedding(x, reverse=True)
        )
    return layers.Dense(
        config.vocab_size,
        use_bias=config.logits_bias,
        kernel_initializer=_normal(),
        name="logits",
        dtype="float32",
    )(x)


def _norm(config: ModelConfig, name: str, dtype: str, kit: LayerKit) -> layers.Layer:
    if config.norm == "rms":
        return kit.RMSNormalization(epsilon=config.norm_epsilon, name=name, dtype=dtype)
    return kit.LayerNormalization(
        epsilon=config.norm_epsilon, center=config.use_bias, name=name, dtype=dtype
    )


def _normal(stddev: float = INITIAL_STDDEV) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev)


def _compute_dtype(dtype: str) -> str:
    return keras.dtype_policies.get(dtype).compute_dtype
