"""Which layers of a model see a window, and which do not rotate: from config.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ModelFolderError
from ..families import Family, shortest_pattern
from .config_fields import CONFIG_FIELDS

TYPES = {"full_attention": "G", "attention": "G", "sliding_attention": "L"}
"""transformers' layer_types -> letters of a layer pattern."""


def read_layers(
    family: Family,
    values: Mapping[str, Any],
    settings: Mapping[str, Any],
    local_theta: Any,
    file: Path,
) -> dict[str, Any]:
    """Reads the fields that tell layers apart.

    Args:
        family: The family.
        values: The content of config.json.
        settings: Of ModelConfig, read so far.
        local_theta: The base of the angles in layers with a window, if they have their own.
        file: Names config.json in errors.

    Returns:
        layer_pattern, window and rope_theta_local of ModelConfig, as far as the model has them.

    Raises:
        ModelFolderError: A field is damaged, or says what no layer here computes.
    """
    known, layers = CONFIG_FIELDS[family.name], settings["num_layers"]
    if known.kinds is None or layers > MOST:
        return {}
    window = values.get("sliding_window", known.default_window)
    if known.window_switch and not values.get(known.window_switch):
        window = None
    if window is not None and (type(window) is not int or window < 1):
        raise ModelFolderError(f"{file}: sliding_window={window!r:.40}: expected a number")
    kinds = known.kinds(values, layers)
    types = values.get("layer_types")
    if types is not None:
        kinds = _letters(types, "layer_types", TYPES, layers, file)
    context = settings["context_length"]
    if window is None or (window >= context and local_theta is None):
        kinds = kinds.replace("L", "G")
    if family.name == "smollm3":
        kinds = _without_rotation(values, kinds, file)
    found: dict[str, Any] = {"layer_pattern": shortest_pattern(kinds)}
    if "L" in kinds and window is not None:
        found["window"] = min(window, context)
        found |= {} if local_theta is None else {"rope_theta_local": local_theta}
    return found


MOST = 2**16
"""Layers beyond which there is no model: ModelConfig refuses them."""


def _letters(given: Any, name: str, known: Mapping[Any, str], layers: int, file: Path) -> str:
    """A list with a value for each layer, as letters."""
    if not isinstance(given, list) or len(given) != layers:
        raise ModelFolderError(f"{file}: {name}={given!r:.60}: expected a list of {layers} values")
    for kind in given:
        if not isinstance(kind, (str, int)) or kind not in known:
            works = ", ".join(str(one) for one in known)
            raise ModelFolderError(
                f"{file}: {name} has {kind!r:.40}, which is unsupported; known: {works}"
            )
    return "".join(known[kind] for kind in given)


def _without_rotation(values: Mapping[str, Any], kinds: str, file: Path) -> str:
    """SmolLM3's layers without rotation, every fourth one unless a list says which."""
    listed, every = values.get("no_rope_layers"), values.get("no_rope_layer_interval", 4)
    if listed is None:
        sound = type(every) is int and every > 0
        turning = "".join("N" if sound and (i + 1) % every == 0 else "G" for i in range(len(kinds)))
    else:
        turning = _letters(listed, "no_rope_layers", {1: "G", 0: "N"}, len(kinds), file)
    for kind, turns in zip(kinds, turning, strict=True):
        if kind == "L" and turns == "N":
            raise ModelFolderError(
                f"{file}: a layer has both a window and no rotation, which is unsupported"
            )
    return "".join(
        "N" if turns == "N" else kind for kind, turns in zip(kinds, turning, strict=True)
    )
