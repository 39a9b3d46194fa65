"""The metadata of each architecture in llama.cpp: keys and our settings, one table for reading and
writing."""

from dataclasses import dataclass
from typing import Any

import gguf

from ...config import MOST_LAYERS, ModelConfig
from ...errors import ConfigError, ModelFolderError
from ..families import Family, shortest_pattern
from ..tensors import Tensor
from .metadata import Metadata


@dataclass(frozen=True)
class Key:
    """A key behind the architecture's name, and the setting of ModelConfig that it is."""

    name: str
    ours: str
    needed: bool = True
    """Whether each file must have it: else ModelConfig fills it in."""


_SIZES = (
    Key("context_length", "context_length"),
    Key("embedding_length", "embed_dim"),
    Key("block_count", "num_layers"),
    Key("feed_forward_length", "ff_dim"),
    Key("attention.head_count", "num_heads"),
    Key("attention.head_count_kv", "num_kv_heads", needed=False),
)
_ROTARY = (
    *_SIZES,
    Key("attention.key_length", "head_dim", needed=False),
    Key("attention.layer_norm_rms_epsilon", "norm_epsilon"),
    Key("rope.freq_base", "rope_theta", needed=False),
)

KEYS = {
    "gpt2": (*_SIZES, Key("attention.layer_norm_epsilon", "norm_epsilon")),
    "llama": _ROTARY,
    **dict.fromkeys(("qwen2", "qwen3", "smollm3", "olmo2", "granite", "phi3", "gemma"), _ROTARY),
    "gemma2": (
        *_ROTARY,
        Key("attn_logit_softcapping", "attention_softcap", needed=False),
        Key("final_logit_softcapping", "logits_softcap", needed=False),
    ),
    "gemma3": (*_ROTARY, Key("final_logit_softcapping", "logits_softcap", needed=False)),
}
"""By the names of `families.GGUF_FAMILIES`."""

_WIDTHS = ("attention.value_length", "rope.dimension_count")
"""Keys of rotary models that must be the width of a head."""

_MULTIPLIERS = {
    "attention.scale": "attention_multiplier",
    "residual_scale": "residual_multiplier",
    "embedding_scale": "embedding_multiplier",
    "logit_scale": "logits_scaling",
}
"""Keys of Granite -> their names in its config.json."""

LOCAL_THETA = 10000.0
"""Base of the rotary angles in Gemma 3's layers with a window."""
_SOFTCAPS = {"attention_softcap": 50.0, "logits_softcap": 30.0}
"""Of a Gemma 2 whose file does not say them."""

_WINDOW, _LOCAL_THETA = "attention.sliding_window", "rope.freq_base_swa"

_CHANGES = (
    "expert_count",
    "attention.scale",
    "attention.sliding_window",
    "attention.clamp_kqv",
    "logit_scale",
    "residual_scale",
    "embedding_scale",
)
"""Keys that change what is computed, in unsupported ways."""


def settings_of(family: Family, values: Metadata, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Reads the metadata of an architecture.

    Args:
        family: The family.
        values: The metadata of a file.
        tensors: Its tensors: they say what has a bias.

    Returns:
        Settings of ModelConfig, but those of the vocabulary and of scaled rotary angles.

    Raises:
        ModelFolderError: A key is missing, of another type, or changes what is computed.
    """
    root = family.gguf_name
    _check_changes(family, values)
    settings = {name: allowed[0] for name, allowed in family.needs.items() if allowed}
    settings |= {"dropout": 0.0, "logits_bias": False, "use_bias": family.name == "gpt2"}
    settings |= _SOFTCAPS if root == "gemma2" else {}
    for key in KEYS[str(root)]:
        value = _read(key, f"{root}.{key.name}", values)
        if value is not None:
            settings[key.ours] = value
    settings |= _layers(family, values, settings)
    if family.scales_embeddings:
        settings["embedding_scale"] = settings["embed_dim"] ** 0.5
    settings["qkv_bias"] = settings["use_bias"] or "blk.0.attn_q.bias" in tensors
    return settings


def _layers(family: Family, values: Metadata, settings: dict[str, Any]) -> dict[str, Any]:
    """What tells layers apart: llama.cpp has a pattern for each architecture."""
    root = family.gguf_name
    layers = min(settings["num_layers"], MOST_LAYERS)  # more are refused with the other sizes
    pattern = family.gguf_patterns[0]
    if "L" in pattern and f"{root}.{_WINDOW}" not in values:
        return {}
    period = values.whole(f"{root}.attention.sliding_window_pattern")
    if "L" in pattern and period is not None and 1 <= period <= layers:
        pattern = "L" * (period - 1) + "G"
    kinds = (pattern * layers)[:layers]
    if "L" not in kinds:
        return {"layer_pattern": shortest_pattern(kinds)}
    window, context = values.whole(f"{root}.{_WINDOW}", 4096), settings["context_length"]
    local = values.number(f"{root}.{_LOCAL_THETA}", LOCAL_THETA) if root == "gemma3" else None
    if window >= context and local is None:
        return {}
    found = {"layer_pattern": shortest_pattern(kinds), "window": min(window, context)}
    return found | ({"rope_theta_local": local} if local is not None else {})


def _read(key: Key, name: str, values: Metadata) -> Any:
    if "float" in str(ModelConfig.__annotations__[key.ours]):
        value: Any = values.number(name)
    else:
        value = values.required(name) if key.needed else values.whole(name)
    if value is None and key.needed:
        raise ModelFolderError(f"{values.file}: its metadata lack {name}")
    return value


def _check_changes(family: Family, values: Metadata) -> None:
    """Raises ModelFolderError that names a key with a meaning that we do not compute."""
    root = family.gguf_name
    context = values.whole(f"{root}.context_length", 0)
    for name in _CHANGES:
        key = f"{root}.{name}"
        if family.name == "granite" and name in _MULTIPLIERS:
            continue
        number = values.number(key, 0.0)
        if name == _WINDOW and number is not None and number >= context:
            continue
        if name == _WINDOW and "L" in family.gguf_patterns[0]:
            continue
        if number:
            raise ModelFolderError(f"{values.file}: {key} is not supported here")


def check_widths(family: Family, values: Metadata, config: ModelConfig) -> None:
    """Checks that all heads are as wide as they are assumed to be, and rotated as a whole.

    Args:
        family: The family.
        values: The metadata of a file.
        config: The configuration that they describe.

    Raises:
        ModelFolderError: A key says something else.
    """
    for name in _WIDTHS:
        width = values.whole(f"{family.gguf_name}.{name}", config.head_dim)
        if width != config.head_dim:
            raise ModelFolderError(
                f"{values.file}: {family.gguf_name}.{name}={width} is not the width of a head, "
                f"{config.head_dim}: that is not supported"
            )


def multipliers_of(family: Family, values: Metadata) -> dict[str, float]:
    """Reads Granite's multipliers.

    Args:
        family: The family.
        values: The metadata of a file.

    Returns:
        Their values by their names in config.json; none in other architectures.
    """
    if family.name != "granite":
        return {}
    found = {ours: values.number(f"granite.{name}") for name, ours in _MULTIPLIERS.items()}
    return {name: value for name, value in found.items() if value}


def write_settings(writer: gguf.GGUFWriter, family: Family, config: ModelConfig) -> None:
    """The inverse of `settings_of`.

    Args:
        writer: Gets the metadata.
        family: One that can express the model.
        config: The model's configuration.
    """
    root = family.gguf_name
    for key in KEYS[str(root)]:
        value = getattr(config, key.ours)
        if value is None:
            continue
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{root}.{key.name}", value)
    if config.positions == "rotary":
        for name in _WIDTHS:
            writer.add_uint32(f"{root}.{name}", config.head_dim)
    if "L" in family.gguf_patterns[0]:
        writer.add_uint32(f"{root}.{_WINDOW}", config.window or config.context_length)
    if config.rope_theta_local is not None:
        writer.add_float32(f"{root}.{_LOCAL_THETA}", config.rope_theta_local)


def check_layers(family: Family, config: ModelConfig) -> None:
    """Checks that llama.cpp has the architecture, and computes its layers as we do.

    Args:
        family: One that can express the model.
        config: The model's configuration.

    Raises:
        ConfigError: It does not; the message says what it has.
    """
    if family.gguf is None:
        raise ConfigError(f"llama.cpp has no windows in models of the family {family.name}")
    if family.name == "gemma2" and None in (config.attention_softcap, config.logits_softcap):
        raise ConfigError("llama.cpp bounds scores and logits in each Gemma 2: this one does not")
    if family.name == "gemma3_text" and config.attention_softcap is not None:
        raise ConfigError(f"attention_softcap={config.attention_softcap}: llama.cpp has none there")
    if family.name == "gemma3_text" and config.rope_theta_local != LOCAL_THETA:
        raise ConfigError(
            f"rope_theta_local={config.rope_theta_local}: llama.cpp computes Gemma 3 with "
            f"{LOCAL_THETA:.0f}"
        )
    layers = config.num_layers
    works = [(pattern * layers)[:layers] for pattern in family.gguf_patterns]
    if config.layer_kinds not in works and not (
        config.window is None and "L" in works[0] and config.layer_kinds == "G" * layers
    ):
        raise ConfigError(
            f"layer_pattern={config.layer_pattern}: llama.cpp computes {family.name} with "
            f"{' or '.join(family.gguf_patterns)} only"
        )
