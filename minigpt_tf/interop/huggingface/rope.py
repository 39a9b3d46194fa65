"""Rotary angles in config.json: base and scaling, in the words of transformers 4 and 5."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config import ModelConfig
from ...errors import ConfigError, ModelFolderError

LOCAL, GLOBAL = "sliding_attention", "full_attention"
"""Kinds of layers under which rope_parameters may have an object each."""


@dataclass(frozen=True)
class Rotation:
    """The rotary angles of a model, as in ModelConfig."""

    theta: Any
    scaling: dict[str, Any] | None
    local_theta: Any = None


def read_rope(
    values: Mapping[str, Any], file: Path, thetas: tuple[float, float | None] = (10000.0, None)
) -> Rotation:
    """Reads rope_parameters (transformers 5), or the fields of earlier versions.

    Args:
        values: The content of config.json.
        file: Names it in errors.
        thetas: The bases where it is silent: of all layers, and of those with a window if they
            have their own.

    Returns:
        The angles.

    Raises:
        ModelFolderError: Both are there and disagree, or the kind of scaling is unsupported.
    """
    names = [name for name in ("rope_parameters", "rope_scaling") if values.get(name) is not None]
    found = [_rope_of(values, name, file, thetas) for name in names or ["rope_parameters"]]
    if found[0] != found[-1]:
        raise ModelFolderError(f"{file}: {names[0]} and {names[1]} do not say the same")
    return found[0]


def _value(values: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """A field that may be missing or null; `otherwise` is what transformers takes then."""
    return otherwise if values.get(name) is None else values[name]


def _rope_of(
    values: Mapping[str, Any], name: str, file: Path, thetas: tuple[float, float | None]
) -> Rotation:
    """The same from one of the two fields, or where it is missing, without scaling."""
    rope = _value(values, name, {})
    if not isinstance(rope, dict):
        raise ModelFolderError(f"{file}: {name}={rope!r:.60}: expected an object")
    if thetas[1] is None:
        rope = _of_layers(values, rope, name, file)
    theta = _value(values, "rope_theta", thetas[0])
    local = None if thetas[1] is None else _value(values, "rope_local_base_freq", thetas[1])
    if LOCAL not in rope and GLOBAL not in rope:
        return Rotation(*_scaled(values, rope, name, theta, file), local)
    for kind in (LOCAL, GLOBAL):
        if not isinstance(_value(rope, kind, {}), dict):
            raise ModelFolderError(f"{file}: {name}: {kind}={rope[kind]!r:.60}: expected an object")
    found = _scaled(values, _value(rope, GLOBAL, {}), name, theta, file)
    near = _scaled(values, _value(rope, LOCAL, {}), name, local, file)
    if near[1] is not None:
        raise ModelFolderError(
            f"{file}: {name}: the angles of {LOCAL} and {GLOBAL} differ, which is unsupported here"
        )
    return Rotation(*found, near[0])


def _scaled(
    values: Mapping[str, Any], rope: dict[str, Any], name: str, theta: Any, file: Path
) -> tuple[Any, dict[str, Any] | None]:
    """Base and scaling of one object."""
    theta = _value(rope, "rope_theta", theta)
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


def _of_layers(
    values: Mapping[str, Any], rope: dict[str, Any], name: str, file: Path
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
            f"{file}: {name}: the angles of {' and '.join(map(str, types))} differ, which is "
            "unsupported here"
        )
    shared = {key: value for key, value in rope.items() if key not in by_type}
    return shared | by_type[types[0]]


def written_rope(config: ModelConfig) -> dict[str, Any]:
    """The inverse of `read_rope`.

    Args:
        config: A model with rotary positions.

    Returns:
        Fields of config.json: transformers 4 reads the first two, transformers 5 the third.

    Raises:
        ConfigError: transformers has no such scaling.
    """
    scaling = _scaling(config)
    if config.rope_theta_local is not None:
        angles = {"rope_theta": config.rope_theta, **(scaling or {"rope_type": "default"})}
        near = {"rope_theta": config.rope_theta_local, "rope_type": "default"}
        return {
            "rope_theta": config.rope_theta,
            "rope_scaling": scaling,
            "rope_local_base_freq": config.rope_theta_local,
            "rope_parameters": {GLOBAL: angles, LOCAL: near},
        }
    return {
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling,
        "rope_parameters": {
            "rope_theta": config.rope_theta,
            **(scaling or {"rope_type": "default"}),
        },
    }


def _scaling(config: ModelConfig) -> dict[str, Any] | None:
    """In transformers' words, whose context is an integer."""
    if config.rope_scaling is None:
        return None
    scaling = dict(config.rope_scaling)
    if "original_context_length" not in scaling:
        return {"rope_type": "linear", **scaling}
    original = scaling.pop("original_context_length")
    if original != math.floor(original):
        raise ConfigError(f"rope_scaling: original_context_length={original} is not an integer")
    return {"rope_type": "llama3", **scaling, "original_max_position_embeddings": int(original)}
