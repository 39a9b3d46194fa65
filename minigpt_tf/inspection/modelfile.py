"""Opening an .h5 model file, one's own or a stranger's, without running code from it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import MODEL_NAME
from ..errors import ModelFolderError

if TYPE_CHECKING:
    import keras

TRUSTED_MODULES = ("keras", "builtins", "minigpt_tf")
"""Packages whose classes an architecture may name; Keras imports whatever module it reads."""


def model_file(path: Path) -> Path:
    """The .h5 file of a model folder, or the .h5 file itself. Raises ModelFolderError."""
    file = path / MODEL_NAME if path.is_dir() else path
    if not file.is_file():
        raise ModelFolderError(f"{file}: no such model file")
    return file


def check_model_file(file: Path) -> None:
    """Refuses a file that is damaged, holds no Keras architecture, or names foreign code."""
    import h5py

    try:
        with h5py.File(file, "r") as contents:
            config = contents.attrs.get("model_config")
            has_weights = "model_weights" in contents
    except Exception as error:  # h5py raises many kinds on a damaged file
        reason = str(error).split("\n")[0]
        raise ModelFolderError(f"{file}: is damaged or not an .h5 file ({reason:.120})") from None
    if config is None or not has_weights:
        raise ModelFolderError(f"{file}: holds no Keras model (it may hold weights alone)")
    try:
        architecture = json.loads(config)
    except (ValueError, TypeError, RecursionError):
        raise ModelFolderError(f"{file}: its architecture is damaged") from None
    _refuse_code(architecture, file)


def _refuse_code(item: Any, file: Path) -> None:
    if isinstance(item, list):
        for value in item:
            _refuse_code(value, file)
    elif isinstance(item, dict):
        if item.get("class_name") in ("Lambda", "__lambda__"):
            raise ModelFolderError(
                f"{file}: has a Lambda layer, which holds code: it is not loaded"
            )
        module = item.get("module")
        if isinstance(module, str) and module.split(".")[0] not in TRUSTED_MODULES:
            raise ModelFolderError(f"{file}: names code in the module {module!r}: it is not loaded")
        for value in item.values():
            _refuse_code(value, file)


def load_keras_model(file: Path) -> "keras.Model":
    """The Keras model in an .h5 file that `check_model_file` has passed."""
    import keras

    import minigpt_tf.model  # noqa: F401 (registers the layers)

    try:
        return keras.models.load_model(file, compile=False)
    except Exception as error:  # Keras raises many kinds for an architecture it cannot rebuild
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelFolderError(f"{file}: Keras cannot load this model: {reason:.200}") from None
