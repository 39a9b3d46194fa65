"""The engine's weights from a model folder, and the files beside model.h5 that keep them small.

model.int8.h5 and model.int4.h5 hold the matrices in so many bits; model.exact.h5 those of a model
whose float32 values fit into less. They are made from model.h5 when they are first wanted, and may
be deleted.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..config import MODEL_NAME, ModelConfig
from ..config.settings import from_dict, to_dict
from ..errors import ConfigError, ModelFolderError
from ..events import SILENT, Listener
from ..inference.folder import ModelFolder
from ..machine import check_fits_memory
from ..storage.manifest import check_file
from ..storage.model_folder import EXACT_NAME, INT4_NAME, QUANTIZED_NAME
from ..storage.plain_hdf5 import plain_datasets
from ..storage.regular import check_regular
from ..storage.replacing import reserve_space, sha256_of, staging
from .key_value_cache import Cache
from .panels import Storage, empty_panels, padded
from .quantization import Int4Matrix, quantize_model
from .step_arrays import Place
from .weight_layout import (
    EngineWeights,
    head_norms_shape,
    lay_out_weights,
    layout_size,
    make_layout,
    norms_shape,
)

FORMAT = 3
"""Version of the files; one of another version is replaced."""


Calibrate = Callable[[EngineWeights], np.ndarray]
"""Passages (P, T) of ids on which the 4-bit weights are chosen, for the weights in float32."""

_NAMES = {"none": EXACT_NAME, "int8": QUANTIZED_NAME, "int4": INT4_NAME}


def load_weights(
    folder: ModelFolder,
    quantize: str,
    calibrate: Calibrate,
    listener: Listener = SILENT,
) -> tuple[EngineWeights, str]:
    """The weights of a model folder in the engine's layout.

    Args:
        folder: From `load_folder`.
        quantize: "none", "int8" or "int4".
        calibrate: Called where 4-bit weights must be made.
        listener: Receives the progress of that.

    Returns:
        The weights, and a notice for the user, perhaps empty.

    Raises:
        ModelFolderError: The weights are missing or damaged, or larger than memory.
    """
    file, model = folder.path / MODEL_NAME, folder.model
    kept = folder.path / _NAMES[quantize]
    laid_out = _read(kept, folder, integers=quantize != "none")
    if laid_out is not None:
        return laid_out, ""
    needed = model.parameter_count * {"none": 4, "int8": 1.125, "int4": 9}[quantize]
    needed += Cache.nbytes(model) + 4 * model.context_length * model.embed_dim
    try:
        check_fits_memory(needed, f"{file}: weights and cache of this model")
    except ConfigError as error:
        raise ModelFolderError(str(error)) from None
    before = _state(file)
    with folder.open_weights() as weights:
        int4 = None
        if quantize == "int4":
            passages = calibrate(lay_out_weights(weights, model, str(file)))
            quantized = quantize_model(weights, model, passages, listener)
            int4 = {name: x for name, x in quantized.items() if isinstance(x, Int4Matrix)}
        laid_out = lay_out_weights(weights, model, str(file), quantize, int4)
    if quantize == "none" and (laid_out.layout[:, Place.STORAGE] == Storage.FLOAT32).all():
        return laid_out, ""
    sha256 = _noted_hash(folder) or sha256_of(file)
    if _state(file) != before:  # replaced in the meantime: whose hash would it be?
        return laid_out, ""
    try:
        with staging(folder.path) as scratch:
            _write(scratch / kept.name, laid_out, before, sha256, model)
    except ModelFolderError as error:
        bits = "compact" if quantize == "none" else quantize
        return laid_out, f"the {bits} weights could not be kept for the next time: {error}"
    return laid_out, ""


_KEPT = ("panels", "biases", "norms", "positions", "head_norms")
_ABOUT = "about"
"""What the file was made from and how, as JSON."""


def _write(
    path: Path, laid_out: EngineWeights, state: list[int], sha256: str, config: ModelConfig
) -> None:
    import h5py

    about = {
        "format": FORMAT,
        "model": to_dict(config),
        "integers": laid_out.integers,
        "storages": laid_out.layout[:, Place.STORAGE].tolist(),
        "source_sha256": sha256,
        "source_state": state,
    }
    reserve_space(path.parent, sum(getattr(laid_out, name).nbytes for name in _KEPT))
    with h5py.File(path, "w") as file:
        file[_ABOUT] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        for name in _KEPT:
            if getattr(laid_out, name).size:
                file[name] = getattr(laid_out, name)


def _read(path: Path, folder: ModelFolder, *, integers: bool) -> EngineWeights | None:
    """The content of such a file, for products with float32 or int8 inputs; None if it was not made
    from the folder's model.h5, or is damaged. h5py, which can be led astray, is not needed."""
    config = folder.model
    D = padded(config.embed_dim)
    context = 0 if config.positions == "rotary" else config.context_length
    try:
        check_regular(path)
        with open(path, "rb", buffering=0) as file:
            datasets = plain_datasets(file, "")
            about = json.loads(datasets[_ABOUT][...].tobytes())
            # What follows is safe whatever it says; but not every text is of this program.
            if about["format"] != FORMAT:
                return None
            if from_dict(ModelConfig, about["model"], str(path)) != config:
                return None
            if not _is_of(about, folder) or about["integers"] != integers:
                return None
            matrices = len(make_layout(config))
            storages = [Storage(int(number)) for number in about["storages"]]
            layout = make_layout(config, storages[: matrices - config.tie_embeddings])
            if integers and min(storages) < Storage.BLOCKS8:  # no product has int8 inputs there
                return None
            size, rows = layout_size(layout)
            check_fits_memory(size + Cache.nbytes(config), str(path))
            shapes = ((size,), (rows,), norms_shape(config), (context, D), head_norms_shape(config))
            kept = {}
            for name, shape in zip(_KEPT, shapes, strict=True):
                dtype = np.uint8 if name == "panels" else np.float32
                if math.prod(shape):
                    dataset = datasets[name]
                    if dataset.shape != shape or dataset.dtype != dtype:
                        return None
                kept[name] = empty_panels(size) if name == "panels" else np.empty(shape, dtype)
                if math.prod(shape):
                    dataset.read_into(kept[name])
                if dtype == np.float32 and not np.isfinite(kept[name]).all():
                    return None
    except Exception:  # a damaged or missing file raises many kinds
        return None
    return EngineWeights(**kept, layout=layout, integers=integers)


def _is_of(about: dict[str, Any], folder: ModelFolder) -> bool:
    """Whether a file was made from the folder's model.h5."""
    source, noted = folder.path / MODEL_NAME, _noted_hash(folder)
    if noted is not None:
        check_file(source, folder.files)
        return about["source_sha256"] == noted
    # The same size and time of change mean the same content, which is slow to hash.
    return about["source_state"] == _state(source) or about["source_sha256"] == sha256_of(source)


def _noted_hash(folder: ModelFolder) -> str | None:
    """The hash of model.h5 in the folder's manifest, if it has one."""
    return (folder.files or {}).get(MODEL_NAME, {}).get("sha256")


def _state(path: Path) -> list[int]:
    """Size and time of change."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]
