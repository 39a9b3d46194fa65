"""config.json of a Hugging Face model -> ModelConfig. What we cannot compute is refused by name."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...config import ModelConfig
from ...config.settings import from_dict
from ...errors import ConfigError, ModelFolderError
from ..families import FAMILIES, Family, expressed, unsupported
from ..multipliers import folded_multipliers
from .config_fields import CONFIG_FIELDS, settings_of
from .layer_kinds import read_layers
from .rope import read_rope

OWN_NAME = "minigpt_tf"
"""Our exporter puts the whole ModelConfig here: it may say what the other fields cannot."""

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
    "num_local_experts": (0, 1),
    "rope_interleaved": (False,),
    "partial_rotary_factor": (1,),
    "no_rope_layers": (),
    "use_qk_norm": (False,),
    "qk_norm": (False,),
}
"""Fields that change the computation -> the values with which they do not, beside null."""

_LAYER_FIELDS = ("sliding_window", "use_sliding_window", "layer_types", "no_rope_layers")
_SCORES = "query_pre_attn_scalar"
_MULTIPLIERS = (
    *("logits_scaling", "embedding_multiplier"),
    *("residual_multiplier", "attention_multiplier"),
)


@dataclass(frozen=True)
class Described:
    """A model as config.json describes it."""

    family: Family
    config: ModelConfig
    """Of the model."""
    expressed: ModelConfig
    """What its tensors have the shapes of. The two differ where our exporter wrote zeros for biases
    that the model does not have."""
    factors: Mapping[str, float]
    """As in `source.Source`."""


def read_config(values: dict[str, Any], file: Path) -> Described:
    """Reads the content of config.json.

    Args:
        values: The parsed JSON.
        file: Names the file in errors.

    Returns:
        The model that it describes.

    Raises:
        ModelFolderError: The architecture or a setting is unsupported or damaged.
    """
    family = _family(values, file)
    known = CONFIG_FIELDS[family.name]
    _check_neutral(values, family, file)
    settings = settings_of(family, values, file)
    if settings["positions"] == "rotary":
        rotation = read_rope(values, file, known.default_thetas)
        settings |= {"rope_theta": rotation.theta, "rope_scaling": rotation.scaling}
        settings |= read_layers(family, values, settings, rotation.local_theta, file)
    if family.scales_embeddings:
        settings["embedding_scale"] = settings["embed_dim"] ** 0.5
    try:
        read = ModelConfig(**settings)
    except ConfigError as error:
        raise ModelFolderError(f"{file}: {error}") from None
    if OWN_NAME not in values:
        factors = _factors(values, read, family, file)
        return Described(family, read, read, factors)
    own = _own_config(values[OWN_NAME], read, family, file)
    return Described(family, own, expressed(own, family), {})


def _check_neutral(values: dict[str, Any], family: Family, file: Path) -> None:
    """Raises ModelFolderError that names a field with a meaning that we do not compute."""
    known = CONFIG_FIELDS[family.name]
    neutral = {**_NEUTRAL, **known.fixed}
    if known.kinds is not None:
        neutral = {name: v for name, v in neutral.items() if name not in _LAYER_FIELDS}
    read_here = {field.name for field in known.fields}
    neutral = {name: v for name, v in neutral.items() if name not in read_here}
    if known.folds_multipliers:
        neutral = {name: v for name, v in neutral.items() if name not in _MULTIPLIERS}
    for name, allowed in neutral.items():
        value = values.get(name)
        if value is not None and value not in allowed and not _is_plain(name, value):
            raise _changes(name, value, file)
    for name, allowed in (known.must_be or {}).items():
        if values.get(name) not in allowed:
            raise _changes(name, values.get(name), file)


def _changes(name: str, value: Any, file: Path) -> ModelFolderError:
    return ModelFolderError(
        f"{file}: {name}={value!r:.60} changes what the model computes, and is unsupported"
    )


def _factors(
    values: dict[str, Any], config: ModelConfig, family: Family, file: Path
) -> dict[str, float]:
    """What becomes part of the weights: Granite's multipliers, Gemma's divisor of the scores.
    Raises ModelFolderError where one is not a positive number."""
    known = CONFIG_FIELDS[family.name]
    names = _MULTIPLIERS if known.folds_multipliers else (_SCORES,)
    for name in names:
        value = values.get(name)
        if value is None:
            continue
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise ModelFolderError(f"{file}: {name}={value!r:.40}: expected a positive number")
    if known.folds_multipliers:
        return folded_multipliers(values, config)
    if _SCORES not in known.own:
        return {}
    divisor = values.get(_SCORES) or known.own[_SCORES]
    factor = (config.head_dim / divisor) ** 0.5
    where = "query_norm/scale" if config.qk_norm != "none" else "query/kernel"
    return {} if factor == 1 else {f"attention/{where}": factor}


def _family(values: dict[str, Any], file: Path) -> Family:
    """By model_type. Raises ModelFolderError that names the unknown and lists the known."""
    known = ", ".join(FAMILIES)
    kind = values.get("model_type")
    if not isinstance(kind, str):
        raise ModelFolderError(f"{file}: has no model_type, so its architecture is unknown")
    if kind not in FAMILIES:
        raise ModelFolderError(f"{file}: {unsupported(kind, FAMILIES)}")
    code = values.get("auto_map")
    if isinstance(code, dict) and any(str(name).startswith("AutoModel") for name in code):
        raise ModelFolderError(
            f"{file}: auto_map names code of the model's own, which is never run here; known are "
            f"the architectures {known} as transformers has them"
        )
    return FAMILIES[kind]


_PLAIN: dict[str, tuple[Any, ...]] = {
    "layer_types": ("full_attention", "attention"),
    "no_rope_layers": (1,),
}
"""Lists with a value for each layer -> what says of a layer what is so without the list."""


def _is_plain(name: str, value: Any) -> bool:
    """Whether a list with a value for each layer says of all what is so without it."""
    return name in _PLAIN and isinstance(value, list) and all(v in _PLAIN[name] for v in value)


def _own_config(values: Any, read: ModelConfig, family: Family, file: Path) -> ModelConfig:
    """The configuration that our exporter wrote, if it agrees with the other fields."""
    where = f"{file}: {OWN_NAME}"
    try:
        own = from_dict(ModelConfig, values, where)
    except ConfigError as error:
        raise ModelFolderError(str(error) if where in str(error) else f"{where}: {error}") from None
    problems = family.problems(own)
    if problems:
        raise ModelFolderError(
            f"{where}: model_type is {family.name}, which has no {', no '.join(problems)}"
        )
    for name in vars(read):
        ours, theirs = (
            getattr(_comparable(expressed(own, family)), name),
            getattr(_comparable(read), name),
        )
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
