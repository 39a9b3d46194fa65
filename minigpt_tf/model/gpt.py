"""The GPT as a Functional Keras model of nested blocks: Netron can draw all of it."""

import threading
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers, ops

from ..config import ModelConfig
from ..config.architecture import GATES
from ..config.presets import model_preset
from ..errors import ConfigError
from ..inference.positions import rotation_of
from .backend import check_backend
from .dropout import FastDropout
from .keras_model import LOGITS, LOGITS_SOFTCAP, PROBABILITIES, Model
from .layers import (
    PositionalEncoding,
    PositionEmbedding,
    RotaryAttention,
    SoftCap,
    one_of,
    register,
)
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
"""Of the embeddings of tokens and positions if the token embedding is not also the output head, as
in PyTorch. Smaller ones drown in sinusoidal positions, whose own is 0.7: for that reason the 2017
paper (section 3.4) multiplies its embeddings by sqrt(D). With learned positions and 0.02 the
model stays for long at the loss of knowing only the token frequencies (tried on
`benchmarks/verdict.py`)."""

_building = threading.Lock()
"""The seed and the first weights come from Keras's generator, which is the same in all threads."""


@register
def gelu_tanh(x):
    """GPT-2's gelu. Registered, since Keras has no name for it that a saved model could use."""
    return ops.gelu(x, approximate=True)


@register
def relu2(x):
    """The square of relu (So et al., 2021, "Primer")."""
    return ops.square(ops.relu(x))


@dataclass(frozen=True)
class LayerKit:
    """The layers that a model is built of; docs/architecture.md tells the kits apart."""

    Dropout: type
    LayerNormalization: type
    RMSNormalization: type
    MultiHeadAttention: Any
    RotaryAttention: Any
    activations: dict[str, Any]
    """What each ModelConfig.activation is: of the up projection, or of the gate."""
    Dense: Any = layers.Dense
    kernels: str | None = None
    """The dtype policy of a block's layers that have kernels (unset: the model's)."""
    Block: type = keras.Model


BUILT_IN = LayerKit(
    Dropout=layers.Dropout,
    LayerNormalization=layers.LayerNormalization,
    RMSNormalization=layers.RMSNormalization,
    MultiHeadAttention=layers.MultiHeadAttention,
    RotaryAttention=RotaryAttention,
    activations={
        "relu": "relu",
        "relu2": relu2,
        "gelu": "gelu",
        "gelu_tanh": gelu_tanh,
        "silu": "silu",
    },
)
FOR_TRAINING = LayerKit(
    Dropout=FastDropout,
    LayerNormalization=FusedLayerNormalization,
    RMSNormalization=FusedRMSNormalization,
    MultiHeadAttention=FusedAttention,
    RotaryAttention=FusedRotaryAttention,
    activations={
        "relu": "relu",
        "relu2": relu2,
        "gelu": fused_gelu,
        "gelu_tanh": fused_gelu_tanh,
        "silu": fused_silu,
    },
)


def build_gpt_model(
    vocab_size: int | ModelConfig | None = None,
    context_length: int | None = None,
    embed_dim: int | None = None,
    num_heads: int | None = None,
    ff_dim: int | None = None,
    num_layers: int | None = None,
    dropout: float | None = None,
    *,
    max_seq_len: int | None = None,
    max_len: int | None = None,
    rate: float | None = None,
    config: ModelConfig | None = None,
    head: str | None = None,
    seed: int | None = None,
    dtype: str | None = None,
) -> Model:
    """A GPT as a Functional Keras model: token ids (B, T) -> float32 (B, T, vocab_size).

    Built from sizes, as in the lecture, it ends in probabilities (softmax); the default sizes are
    the lecture's. Built from a ModelConfig, which may be the first argument, it ends in logits.
    T may be anything up to the context. Attention is causal: the output at t depends only on the
    tokens up to t.

    Args:
        vocab_size: number of token ids, or a ModelConfig instead of all sizes.
        context_length: tokens of the longest sequence; also as `max_seq_len` or `max_len`.
        embed_dim: width of the residual stream, and of each head.
        num_heads: heads of each attention layer.
        ff_dim: width of the feed-forward layers.
        num_layers: number of blocks.
        dropout: fraction of activations dropped in training; also as `rate`.
        config: the ModelConfig by name.
        head: "softmax" or "logits" (unset: as above).
        seed: fixes the initial weights and the dropout.
        dtype: a Keras dtype policy, such as "mixed_bfloat16" (unset: Keras's global one).

    Returns:
        The model, not compiled.

    Raises:
        ConfigError: The sizes do not fit each other, both sizes and a config are given, or Keras
            does not run on TensorFlow in float32.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.build_gpt_model().count_params()
        13085576
        >>> mg.build_gpt_model(mg.model_preset("gpt2", num_layers=1)).output_shape
        (None, None, 50257)
    """
    sizes = {
        "vocab_size": vocab_size,
        "context_length": one_of(
            context_length=context_length, max_seq_len=max_seq_len, max_len=max_len
        ),
        "embed_dim": embed_dim,
        "num_heads": num_heads,
        "ff_dim": ff_dim,
        "num_layers": num_layers,
        "dropout": one_of(dropout=dropout, rate=rate),
    }
    if isinstance(vocab_size, ModelConfig):
        config, sizes["vocab_size"] = one_of(config=config, vocab_size=vocab_size), None
    given = {name: value for name, value in sizes.items() if value is not None}
    if config is None:
        config, usual_head = model_preset("lecture", **given), "softmax"
    elif given:
        raise ConfigError(f"a config has all sizes: drop {', '.join(given)}, or the config")
    else:
        usual_head = "logits"
    if head not in (None, "softmax", "logits"):
        raise ConfigError(f"head={head!r}: expected 'softmax' or 'logits'")
    dtype = dtype or keras.config.dtype_policy().name
    # In mixed precision the softmax of Keras's own attention is not float32.
    kit = BUILT_IN if _compute_dtype(dtype) == "float32" else FOR_TRAINING
    return build_from_kit(config, seed, dtype, kit, head or usual_head)[0]


def build_training_model(
    config: ModelConfig, *, seed: int, dtype: str = "float32", remat: bool = False
) -> tuple[keras.Model, keras.Model]:
    """The model of `build_gpt_model` from layers that train faster.

    Args:
        config: The architecture.
        seed: Fixes the initial weights and the dropout.
        dtype: A Keras dtype policy.
        remat: Whether a block keeps only its input for the gradients, and is computed again (Chen
            et al., 2016, "Training deep nets with sublinear memory cost").

    Returns:
        The model, and its body: ids (B, T) -> hidden states (B, T, D), which the head turns into
        logits. Both have the same variables.
    """
    kit = replace(FOR_TRAINING, Block=RecomputedModel) if remat else FOR_TRAINING
    return build_from_kit(config, seed, dtype, kit)


def build_from_kit(
    config: ModelConfig, seed: int | None, dtype: str, kit: LayerKit, head: str = "logits"
) -> tuple[Model, keras.Model]:
    """A model from the layers of a kit.

    Args:
        config: The architecture.
        seed: Fixes the initial weights and the dropout (None: random).
        dtype: A Keras dtype policy.
        kit: The classes of the layers.
        head: "softmax" or "logits".

    Returns:
        The model, and its body as in `build_training_model`.
    """
    check_backend()
    with _building:
        if seed is not None:
            keras.utils.set_random_seed(seed)
        return _built_from_kit(config, dtype, kit, head)


def _built_from_kit(
    config: ModelConfig, dtype: str, kit: LayerKit, head: str
) -> tuple[Model, keras.Model]:
    """As `build_from_kit`, from the seed that is set."""
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    embedding = _token_embedding(config, dtype)
    x = embedding(token_ids)  # (B, T, D)
    if config.embedding_scale != 1:
        x = layers.Rescaling(config.embedding_scale, name="embedding_scale", dtype=dtype)(x)
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
    if config.dropout and config.dropout_everywhere:
        x = kit.Dropout(config.dropout, name="embedding_dropout", dtype=dtype)(x)
    for layer in range(config.num_layers):
        shifted = layer == config.num_layers - 1 and not config.tie_embeddings
        kind = config.layer_kinds[layer]
        x = _block(config, f"block_{layer}", dtype, kit, kind=kind, shifted=shifted)(x)
    if config.has_final_norm:
        x = _norm(config, "final_norm", dtype, kit)(x)
    outputs = _logits(config, embedding, x)
    if head == "softmax":
        outputs = layers.Activation("softmax", name=PROBABILITIES, dtype="float32")(outputs)
    model = Model(token_ids, outputs, name="gpt")
    return model, keras.Model(token_ids, x, name="body")


def transformer_block(
    embed_dim: int | ModelConfig | None = None,
    num_heads: int | None = None,
    ff_dim: int | None = None,
    dropout: float | None = None,
    *,
    rate: float | None = None,
    name: str | None = None,
    dtype: str | None = None,
) -> keras.Model:
    """One block as a Functional model, (B, T, D) -> (B, T, D): causal attention and feed-forward,
    each with dropout, residual and LayerNormalization.

    Args:
        embed_dim: the width D, and that of each head, as in the lecture; or a ModelConfig, for
            blocks of any other kind.
        num_heads: attention heads.
        ff_dim: width of the feed-forward layer.
        dropout: fraction dropped after attention and feed-forward; also as `rate`.
        name: of the block; its layers' names begin with it (unset: block_0, block_1, ...).
        dtype: a Keras dtype policy (unset: Keras's global one).

    Returns:
        The block.

    Raises:
        ConfigError: The sizes do not fit each other.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.transformer_block(256, 8, 1024, dropout=0.1).count_params()
        2630144
    """
    given = {
        "num_heads": num_heads,
        "ff_dim": ff_dim,
        "dropout": one_of(dropout=dropout, rate=rate),
    }
    given = {key: value for key, value in given.items() if value is not None}
    if not isinstance(embed_dim, ModelConfig):
        given |= {} if embed_dim is None else {"embed_dim": embed_dim}
        config = model_preset("lecture", **given)
    elif given:
        raise ConfigError(f"a config has all sizes: drop {', '.join(given)}, or the config")
    else:
        config = embed_dim
    dtype = dtype or keras.config.dtype_policy().name
    name = name or f"block_{keras.backend.get_uid('minigpt_tf_block') - 1}"
    kit = BUILT_IN if _compute_dtype(dtype) == "float32" else FOR_TRAINING
    return _block(config, name, dtype, kit)


def _block(
    config: ModelConfig,
    name: str,
    dtype: str,
    kit: LayerKit,
    *,
    kind: str | None = None,
    shifted: bool = False,
) -> keras.Model:
    """The block of `transformer_block` from the layers of `kit`; `kind` is its letter in the layer
    pattern (unset: the first one), `shifted` as in `_norm`."""
    x = inputs = keras.Input(
        (None, config.embed_dim), dtype=_compute_dtype(dtype), name=f"{name}_input"
    )

    def norm(sublayer: str, *, shifted: bool = False):
        """A norm of this block."""
        return _norm(config, f"{name}_{sublayer}", dtype, kit, shifted=shifted)

    def sublayer(x, function, which: str):
        """x plus the function of x, with norms where the configuration places them."""
        path = f"{name}_{which}"  # names are unique in the whole model: Keras's files need that
        placed = config.norm_placement
        y = norm(f"{which}_norm")(x) if placed in ("before", "both") else x
        y = function(y, path)
        if placed in ("both", "output"):
            y = norm(f"{which}_output_norm")(y)
        if config.dropout:
            y = kit.Dropout(config.dropout, name=f"{path}_dropout", dtype=dtype)(y)
        x = layers.Add(name=f"{path}_residual", dtype=dtype)([x, y])
        if placed != "after":
            return x
        return norm(f"{which}_norm", shifted=shifted and which == "feed_forward")(x)

    kind = kind or config.layer_pattern[0]
    x = sublayer(x, lambda x, path: _attention(config, x, path, dtype, kit, kind), "attention")
    x = sublayer(x, lambda x, path: _feed_forward(config, x, path, dtype, kit), "feed_forward")
    return kit.Block(inputs, x, name=name)


def _attention(config: ModelConfig, x, path: str, dtype: str, kit: LayerKit, kind: str):
    """Causal self-attention: Keras's MultiHeadAttention wherever it can express the switches."""
    common: dict[str, Any] = {"name": path, "dtype": kit.kernels or dtype}
    common |= {"kernel_initializer": _normal(), "use_bias": config.use_bias}
    common |= {"dropout": config.dropout if config.dropout_everywhere else 0.0}
    special: dict[str, Any] = {}
    if config.qk_norm != "none":
        special |= {"qk_norm": config.qk_norm, "norm_epsilon": config.norm_epsilon}
    if kind == "L":
        special["window"] = config.window
    if config.attention_softcap is not None:
        special["softcap"] = config.attention_softcap
    grouped = config.num_kv_heads != config.num_heads
    differs = grouped or config.qkv_bias != config.use_bias
    if config.positions == "rotary" or differs or special:
        theta, scaling = rotation_of(config, kind)
        return kit.RotaryAttention(
            head_dim=config.head_dim,
            num_query_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            context_length=config.context_length,
            rope_theta=theta,
            rope_scaling=scaling,
            qkv_bias=config.qkv_bias,
            **special,
            **common,
        )(x)
    attention = kit.MultiHeadAttention(config.num_heads, config.head_dim, **common)
    return attention(x, x, use_causal_mask=True)


def _feed_forward(config: ModelConfig, x, path: str, dtype: str, kit: LayerKit):
    """Two dense layers, or three with a gate."""

    def dense(units: int, name: str, activation=None):
        """A dense layer of this feed-forward, over the last axis."""
        return kit.Dense(
            units,
            activation=activation,
            use_bias=config.use_bias,
            kernel_initializer=_normal(),
            name=f"{path}_{name}",
            dtype=kit.kernels or dtype,
        )

    activation = kit.activations[GATES.get(config.activation, config.activation)]
    if config.gated:
        gate = dense(config.ff_dim, "gate", activation)(x)
        up = dense(config.ff_dim, "up")(x)
        hidden = layers.Multiply(name=f"{path}_product", dtype=dtype)([gate, up])  # (B, T, F)
    else:
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
    """Small if they are the output head too: otherwise the first logits would be large."""
    return INITIAL_STDDEV if config.tie_embeddings else UNTIED_EMBEDDING_STDDEV


def _logits(config: ModelConfig, embedding: layers.Layer, x):
    """Hidden states (B, T, D) -> logits (B, T, V), float32 under every dtype policy."""
    if config.tie_embeddings:
        x = layers.Activation("linear", name=LOGITS, dtype="float32")(embedding(x, reverse=True))
    else:
        x = layers.Dense(
            config.vocab_size,
            use_bias=config.logits_bias,
            kernel_initializer=_normal(),
            name=LOGITS,
            dtype="float32",
        )(x)
    if config.logits_softcap is None:
        return x
    return SoftCap(config.logits_softcap, name=LOGITS_SOFTCAP, dtype="float32")(x)


def _norm(
    config: ModelConfig, name: str, dtype: str, kit: LayerKit, *, shifted: bool = False
) -> layers.Layer:
    """A norm over the last axis. One that is `shifted` starts with a beta of 1.

    That is for the last norm of a post-norm model, right before the output head. All hidden states
    then have a component in common, from which the head learns the token frequencies in some 30
    steps. Without it the first steps push all hidden states the same way to learn them. Every
    position then looks alike, and training stays on that plateau for several epochs; for some
    seeds, for all of them (tried on data/ramanujan.txt: `benchmarks/lecture.py`).
    """
    if config.norm == "rms":
        return kit.RMSNormalization(epsilon=config.norm_epsilon, name=name, dtype=dtype)
    return kit.LayerNormalization(
        epsilon=config.norm_epsilon,
        center=config.use_bias,
        beta_initializer="ones" if shifted else "zeros",
        name=name,
        dtype=dtype,
    )


def _normal(stddev: float = INITIAL_STDDEV) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev)


def _compute_dtype(dtype: str) -> str:
    return keras.dtype_policies.get(dtype).compute_dtype
