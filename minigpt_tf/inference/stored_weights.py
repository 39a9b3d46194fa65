"""The engine's weights from a model folder, and the files beside model.h5 that keep them small.

model.int8.h5 and model.int4.h5 hold the matrices in so many bits; model.exact.h5 those of a model
whose float32 values fit into less. They are made from model.h5 when they are first wanted, and may
be deleted.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..config import MODEL_NAME, ModelConfig
from ..config.settings import from_dict, to_dict
from ..errors import ConfigError, ModelFolderError
from ..events import SILENT, Listener
from ..inference.folder import ModelFolder
from ..machine import check_fits_memory
from ..storage.hdf5 import check_dataset, child, open_hdf5, text_attribute
from ..storage.model_folder import EXACT_NAME, INT4_NAME, QUANTIZED_NAME
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
from .weights import open_weights

FORMAT = 2
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
    laid_out = _read(kept, file, model, integers=quantize != "none")
    if laid_out is not None:
        return laid_out, ""
    needed = model.parameter_count * {"none": 4, "int8": 1.125, "int4": 9}[quantize]
    needed += Cache.nbytes(model) + 4 * model.context_length * model.embed_dim
    try:
        check_fits_memory(needed, f"{file}: weights and cache of this model")
    except ConfigError as error:
        raise ModelFolderError(str(error)) from None
    before = _state(file)
    with open_weights(file, model) as weights:
        int4 = None
        if quantize == "int4":
            passages = calibrate(lay_out_weights(weights, model, str(file)))
            quantized = quantize_model(weights, model, passages, listener)
            int4 = {name: x for name, x in quantized.items() if isinstance(x, Int4Matrix)}
        laid_out = lay_out_weights(weights, model, str(file), quantize, int4)
    if quantize == "none" and (laid_out.layout[:, Place.STORAGE] == Storage.FLOAT32).all():
        return laid_out, ""
    sha256 = sha256_of(file)
    if _state(file) != before:  # replaced in the meantime: whose hash would it be?
        return laid_out, ""
    try:
        with staging(folder.path) as scratch:
            _write(scratch / kept.name, laid_out, before, sha256, model)
    except ModelFolderError as error:
        bits = "compact" if quantize == "none" else quantize
        return laid_out, f"the {bits} weights could not be kept for the next time: {error}"
    return laid_out, ""


_KEPT = ("panels", "biases", "norms", "positions")


def _write(
    path: Path, laid_out: EngineWeights, state: list[int], sha256: str, config: ModelConfig
) -> None:
    import h5py

    reserve_space(path.parent, sum(getattr(laid_out, name).nbytes for name in _KEPT))
    with h5py.File(path, "w") as file:
        for name in _KEPT:
            file[name] = getattr(laid_out, name)
        file.attrs["format"], file.attrs["integers"] = FORMAT, laid_out.integers
        if laid_out.head_norms.size:
            file["head_norms"] = laid_out.head_norms
        file.attrs["storages"] = laid_out.layout[:, Place.STORAGE]
        file.attrs["model"] = json.dumps(to_dict(config))
        file.attrs["source_sha256"], file.attrs["source_state"] = sha256, state


def _read(path: Path, source: Path, config: ModelConfig, *, integers: bool) -> EngineWeights | None:
    """The content of such a file, for products with float32 or int8 inputs; None if it was not made
    from `source`, or is damaged."""
    D = padded(config.embed_dim)
    context = 0 if config.positions == "rotary" else config.context_length
    try:
        with open_hdf5(path, attributes=True) as file:
            if file.attrs["format"] != FORMAT:
                return None
            made_for = json.loads(text_attribute(file, "model") or "")
            if from_dict(ModelConfig, made_for, str(path)) != config:
                return None
            # The same size and time of change mean the same content, which is slow to hash.
            if list(file.attrs["source_state"]) != _state(source) and (
                text_attribute(file, "source_sha256") != sha256_of(source)
            ):
                return None
            matrices = len(make_layout(config))
            storages = [Storage(int(number)) for number in file.attrs["storages"]]
            layout = make_layout(config, storages[: matrices - config.tie_embeddings])
            if file.attrs["integers"] != integers:
                return None
            if integers and min(storages) < Storage.BLOCKS8:  # no product has int8 inputs there
                return None
            size, rows = layout_size(layout)
            check_fits_memory(size + Cache.nbytes(config), str(path))
            kept_shapes = ((size,), (rows,), norms_shape(config), (context, D))
            shapes: dict[str, tuple[int, ...]] = dict(zip(_KEPT, kept_shapes, strict=True))
            if config.qk_norm != "none":
                shapes["head_norms"] = head_norms_shape(config)
            kept = {}
            for name, shape in shapes.items():
                dataset, dtype = child(file, name), np.uint8 if name == "panels" else np.float32
                check_dataset(dataset)
                if dataset is None or dataset.shape != shape or dataset.dtype != dtype:
                    return None
                kept[name] = empty_panels(size) if name == "panels" else np.empty(shape, dtype)
                dataset.read_direct(kept[name])
                if dtype == np.float32 and not np.isfinite(kept[name]).all():
                    return None
    except Exception:  # h5py raises many kinds on a damaged or missing file
        return None
    return EngineWeights(**kept, layout=layout, integers=integers)


def _state(path: Path) -> list[int]:
    """Size and time of change."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]
