"""config.json of a Hugging Face model -> ModelConfig. What we cannot compute is refused by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...config import ModelConfig
from ...config.settings import from_dict
from ...errors import ConfigError, ModelFolderError
from ...storage.json_files import integer
from ..families import FAMILIES, GPT2, Family, expressed, family_of

OWN_NAME = "minigpt_tf"
"""Our exporter puts the whole ModelConfig here: it may say what the other fields cannot."""

GPT2_ACTIVATIONS: dict[str, Any] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}
"""Of transformers -> ours."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "quantization_config": (),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "sliding_window": (),
    "use_sliding_window": (False,),
    "layer_types": (),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "logit_scale": (1,),
    "logits_scaling": (1,),
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "attention_multiplier": (),
    "clip_qkv": (),
    "num_local_experts": (1,),
    "rope_interleaved": (False,),
    "partial_rotary_factor": (1,),
    "no_rope_layers": (),
    "use_qk_norm": (False,),
    "qk_norm": (False,),
}
"""Fields that change the computation -> the values with which they do not, beside null."""

_NEUTRAL_OF: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,)},
    "llama": {"hidden_act": ("silu", "swish"), "mlp_bias": (False,)},
}
"""The same for one family."""


def read_config(values: dict[str, Any], file: Path) -> tuple[Family, ModelConfig, ModelConfig]:
    """Reads the content of config.json.

    Args:
        values: The parsed JSON.
        file: Names the file in errors.

    Returns:
        The family, the configuration of the model, and the one that its tensors have the shapes of.
        The two differ where our exporter wrote zeros for biases that the model does not have.

    Raises:
        ModelFolderError: The architecture or a setting is unsupported or damaged.
    """
    family = _family(values, file)
    for name, neutral in (_NEUTRAL | _NEUTRAL_OF[family.name]).items():
        value = values.get(name)
        if value is not None and value not in neutral and not _is_plain(name, value):
            raise ModelFolderError(
                f"{file}: {name}={value!r:.60} changes what the model computes, and is unsupported"
            )
    try:
        read = (_gpt2_config if family is GPT2 else _llama_config)(values, file)
    except ConfigError as error:
        raise ModelFolderError(f"{file}: {error}") from None
    if OWN_NAME not in values:
        return family, read, read
    own = _own_config(values[OWN_NAME], read, family, file)
    return family, own, expressed(own)


def _family(values: dict[str, Any], file: Path) -> Family:
    """By model_type. Raises ModelFolderError that names the unknown and lists the known."""
    known = ", ".join(FAMILIES)
    kind = values.get("model_type")
    if not isinstance(kind, str):
        raise ModelFolderError(f"{file}: has no model_type, so its architecture is unknown")
    if kind not in FAMILIES:
        raise ModelFolderError(f"{file}: the architecture {kind!r:.40} is unknown; known: {known}")
    code = values.get("auto_map")
    if isinstance(code, dict) and any(str(name).startswith("AutoModel") for name in code):
        raise ModelFolderError(
            f"{file}: auto_map names code of the model's own, which is never run here; known are "
            f"the architectures {known} as transformers has them"
        )
    return FAMILIES[kind]


def _is_plain(name: str, value: Any) -> bool:
    """Whether a list with a value for each layer says of all what is so without it."""
    plain = {"layer_types": "full_attention", "no_rope_layers": 1}
    return name in plain and isinstance(value, list) and all(v == plain[name] for v in value)


def _gpt2_config(values: dict[str, Any], file: Path) -> ModelConfig:
    activation = values.get("activation_function", "gelu_new")
    if not isinstance(activation, str) or activation not in GPT2_ACTIVATIONS:
        known = ", ".join(GPT2_ACTIVATIONS)
        raise ModelFolderError(
            f"{file}: activation_function={activation!r:.40} is unknown; known: {known}"
        )
    return ModelConfig(
        vocab_size=integer(values, "vocab_size", file),
        context_length=integer(values, "n_positions", file, "max_position_embeddings"),
        embed_dim=integer(values, "n_embd", file, "hidden_size"),
        num_layers=integer(values, "n_layer", file, "num_hidden_layers"),
        num_heads=integer(values, "n_head", file, "num_attention_heads"),
        dropout=_value(values, "resid_pdrop", 0.1),
        positions="learned",
        norm_first=True,
        norm_epsilon=_value(values, "layer_norm_epsilon", 1e-5),
        activation=GPT2_ACTIVATIONS[activation],
        logits_bias=False,
        tie_embeddings=_flag(values, "tie_word_embeddings", True, file),
        **_given(values, ff_dim="n_inner"),
    )


def _llama_config(values: dict[str, Any], file: Path) -> ModelConfig:
    context = integer(values, "max_position_embeddings", file)
    theta, scaling = _rope(values, file)
    return ModelConfig(
        vocab_size=integer(values, "vocab_size", file),
        context_length=context,
        embed_dim=integer(values, "hidden_size", file),
        num_layers=integer(values, "num_hidden_layers", file),
        num_heads=integer(values, "num_attention_heads", file),
        ff_dim=integer(values, "intermediate_size", file),
        dropout=_value(values, "attention_dropout", 0.0),
        positions="rotary",
        rope_theta=theta,
        rope_scaling=scaling,
        norm="rms",
        norm_first=True,
        norm_epsilon=_value(values, "rms_norm_eps", 1e-6),
        activation="swiglu",
        use_bias=False,
        qkv_bias=_flag(values, "attention_bias", False, file),
        logits_bias=False,
        tie_embeddings=_flag(values, "tie_word_embeddings", False, file),
        **_given(values, num_kv_heads="num_key_value_heads", head_dim="head_dim"),
    )


def _given(values: dict[str, Any], **names: str) -> dict[str, Any]:
    """The fields `names` (ours=theirs) that are set; ModelConfig checks them, fills in others."""
    found = {ours: values.get(theirs) for ours, theirs in names.items()}
    return {ours: value for ours, value in found.items() if value is not None}


def _value(values: dict[str, Any], name: str, otherwise: Any) -> Any:
    """A field that may be missing or null; `otherwise` is what transformers takes then."""
    return otherwise if values.get(name) is None else values[name]


def _flag(values: dict[str, Any], name: str, otherwise: bool, file: Path) -> bool:
    value = _value(values, name, otherwise)
    if not isinstance(value, bool):
        raise ModelFolderError(f"{file}: {name}={value!r:.40}: expected true or false")
    return value


def _rope(values: dict[str, Any], file: Path) -> tuple[Any, dict[str, Any] | None]:
    """rope_theta and rope_scaling of ModelConfig, from rope_parameters (transformers 5) or from the
    fields of earlier versions. Raises ModelFolderError where both are there and disagree."""
    names = [name for name in ("rope_parameters", "rope_scaling") if values.get(name) is not None]
    found = [_rope_of(values, name, file) for name in names or ["rope_parameters"]]
    if found[0] != found[-1]:
        raise ModelFolderError(f"{file}: {names[0]} and {names[1]} do not say the same")
    return found[0]


def _rope_of(values: dict[str, Any], name: str, file: Path) -> tuple[Any, dict[str, Any] | None]:
    """The same from one of the two fields, or where it is missing, without scaling."""
    rope = _value(values, name, {})
    if not isinstance(rope, dict):
        raise ModelFolderError(f"{file}: {name}={rope!r:.60}: expected an object")
    rope = _rope_of_layers(values, rope, name, file)
    theta = _value(rope, "rope_theta", _value(values, "rope_theta", 10000.0))
    kind = _value(rope, "rope_type", _value(rope, "type", "default"))
    if rope.get("partial_rotary_factor") not in (None, 1):
        raise ModelFolderError(
            f"{file}: partial_rotary_factor={rope['partial_rotary_factor']!r:.40} changes what the "
            "model computes, and is unsupported"
        )
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, {"factor": rope.get("factor")}
    if kind == "llama3":
        original = _value(
            values,
            "original_max_position_embeddings",
            _value(rope, "original_max_position_embeddings", values["max_position_embeddings"]),
        )
        scaling = {key: rope.get(key) for key in ("factor", "low_freq_factor", "high_freq_factor")}
        return theta, {**scaling, "original_context_length": original}
    raise ModelFolderError(
        f"{file}: {name} of the type {kind!r:.40} is unknown; known: default, linear, llama3"
    )


def _rope_of_layers(
    values: dict[str, Any], rope: dict[str, Any], name: str, file: Path
) -> dict[str, Any]:
    """The parameters that all layers have, where the field has some for each type of layer.

    Raises ModelFolderError where the types that the model has differ.
    """
    by_type = {key: value for key, value in rope.items() if key.endswith("_attention")}
    if not by_type:
        return rope
    listed = values.get("layer_types")
    types = list(dict.fromkeys(listed)) if isinstance(listed, list) and listed else [*by_type]
    missing = [kind for kind in types if not isinstance(by_type.get(kind), dict)]
    if missing:
        raise ModelFolderError(f"{file}: {name} has no parameters for layers of type {missing[0]}")
    if any(by_type[kind] != by_type[types[0]] for kind in types):
        raise ModelFolderError(
            f"{file}: {name} differs by type of layer ({', '.join(map(str, types))}), and is "
            "unsupported"
        )
    shared = {key: value for key, value in rope.items() if key not in by_type}
    return shared | by_type[types[0]]


def _own_config(values: Any, read: ModelConfig, family: Family, file: Path) -> ModelConfig:
    """The configuration that our exporter wrote, if it agrees with the other fields."""
    where = f"{file}: {OWN_NAME}"
    try:
        own = from_dict(ModelConfig, values, where)
        own_family = family_of(own)
    except ConfigError as error:
        raise ModelFolderError(str(error) if where in str(error) else f"{where}: {error}") from None
    if own_family is not family:
        raise ModelFolderError(
            f"{where}: is a model of the family {own_family.name}, but model_type is {family.name}"
        )
    for name in vars(read):
        ours, theirs = getattr(_comparable(expressed(own)), name), getattr(_comparable(read), name)
        if ours != theirs:
            raise ModelFolderError(
                f"{where}: says {name}={ours!r:.40}, the other fields say {theirs!r:.40}"
            )
    return own


def _comparable(config: ModelConfig) -> ModelConfig:
    """The configuration without what has no part in the computation."""
    neutral: dict[str, Any] = {"dropout": 0.0}
    if config.positions != "rotary":
        neutral |= {"rope_theta": 1.0, "rope_scaling": None}
    if config.tie_embeddings:
        neutral["logits_bias"] = False
    return replace(config, **neutral)
