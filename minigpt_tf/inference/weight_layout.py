"""Weights as the engine reads them: all matrices one after the other, row by row, in one array.

Decoding a token reads every weight once, so they are stored in the order of their use, a row for
each output. As int8, a weight is an integer from -127 to 127 times a scale of its row; such
weights are made once and kept beside the model, in model.int8.h5.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import MODEL_NAME, ModelConfig
from ..config.settings import to_dict
from ..errors import ConfigError, ModelFolderError
from ..inference.folder import ModelFolder
from ..machine import check_fits_memory
from ..storage.hdf5 import check_dataset, child, open_hdf5, text_attribute
from ..storage.model_folder import QUANTIZED_NAME
from ..storage.replacing import reserve_space, sha256_of, staging
from .kernels import BlockMatrix
from .key_value_cache import Cache
from .positions import sinusoidal_table
from .weights import check_finite, check_shapes, open_weights

FORMAT = 1
"""Version of model.int8.h5; a file of another version is replaced."""

ROWS_AT_ONCE = 4096
"""Rows of the token embedding that are read together."""

SPARE_BYTES = 2**28
"""Address space that must be left beside the weights: without it LLVM ends the process."""

COLUMNS_AT_ONCE = 16
"""Columns of a transposed matrix that are copied together: four times as fast as all at once."""


@dataclass(frozen=True)
class EngineWeights:
    """The weights of a model. R is the number of rows of all matrices together, L of layers."""

    matrices: np.ndarray
    """float32 or int8, one dimension: the token embedding (V, D); for each block query, key and
    value ((N + 2 K) H, D), attention output (D, N H), feed-forward gate (F or 0, D), up (F, D) and
    down (D, F); the output head (V, D), if it is not the token embedding."""
    scales: np.ndarray
    """(R,) float32: what each row is multiplied by."""
    biases: np.ndarray
    """(R,) float32, 0 for a layer without."""
    norms: np.ndarray
    """(2 L + 1, 2, D) float32: scale and shift of the norms in the order of their use. The first
    is the one before the first block; only pre-norm has it."""
    positions: np.ndarray
    """(C, D) float32, added to the token embedding; (0, D) with rotary positions."""
    layout: np.ndarray
    """(matrices, 4) int64: start in `matrices`, first row, outputs, inputs; the head comes last."""

    @property
    def nbytes(self) -> int:
        """Bytes that decoding a token reads, nearly: all but the embeddings of other tokens."""
        return self.matrices.nbytes + self.scales.nbytes + self.biases.nbytes

    def matrix(self, index: int) -> np.ndarray:
        """Matrix `index` of the layout, (outputs, inputs)."""
        start, _, outputs, inputs = self.layout[index]
        return self.matrices[start : start + outputs * inputs].reshape(outputs, inputs)

    def rows(self, index: int) -> slice:
        """Where the scales and biases of matrix `index` are."""
        _, row, outputs, _ = self.layout[index]
        return slice(row, row + outputs)


def lay_out_weights(
    weights: Mapping[str, Any], config: ModelConfig, where: str, dtype: type = np.float32
) -> EngineWeights:
    """Lays out named weights, arrays or datasets of an .h5 file, one matrix after the other.

    Args:
        weights: By the names of `inference.weights`.
        config: The architecture.
        where: Names the weights in errors.
        dtype: np.float32 or np.int8.

    Returns:
        The weights in the engine's layout.

    Raises:
        ModelFolderError: A weight is missing, extra, of another shape or not finite; or there is
            not enough memory.
    """
    check_shapes({name: weight.shape for name, weight in weights.items()}, config, where)
    source = _Source(weights, where)
    layout = _layout(config)
    rows, D = int(layout[:, 1:3].sum(axis=1).max()), config.embed_dim
    try:
        laid_out = EngineWeights(
            matrices=np.empty(_size(layout), dtype=dtype),
            scales=np.ones(rows, dtype=np.float32),
            biases=np.zeros(rows, dtype=np.float32),
            norms=np.zeros((2 * config.num_layers + 1, 2, D), dtype=np.float32),
            positions=_positions(config, source),
            layout=layout,
        )
        np.empty(SPARE_BYTES, dtype=np.int8)
    except MemoryError:
        raise ModelFolderError(
            f"{where}: its weights need {_size(layout) * np.dtype(dtype).itemsize / 2**30:.2f} GiB "
            "of memory, which is unavailable"
        ) from None
    for index, names in enumerate(_kernels(config)):
        matrix, scales = laid_out.matrix(index), laid_out.scales[laid_out.rows(index)]
        first = 0
        for name in names:
            for rows_of_kernel in source.rows(name, matrix.shape[1]):
                last = first + len(rows_of_kernel)
                _store(rows_of_kernel, matrix[first:last], scales[first:last])
                first = last
        biases = [source.values(bias) for bias in map(_bias_of, names) if bias in weights]
        if biases:
            laid_out.biases[laid_out.rows(index)] = np.concatenate([b.ravel() for b in biases])
    for norm, path in zip(
        laid_out.norms[int(not config.norm_first) :], _norms(config), strict=True
    ):
        norm[0] = source.values(f"{path}/scale" if config.norm == "rms" else f"{path}/gamma")
        if f"{path}/beta" in weights:
            norm[1] = source.values(f"{path}/beta")
    return laid_out


class _Source:
    """Reads weights, and checks that they are finite."""

    def __init__(self, weights: Mapping[str, Any], where: str) -> None:
        self.weights, self.where = weights, where

    def values(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """The weight, or some of its rows, as float32."""
        values = np.asarray(self.weights[name][rows], dtype=np.float32)
        check_finite(values, name, self.where)
        return values

    def rows(self, name: str, inputs: int):
        """The rows (outputs, inputs) of a matrix, in chunks. Keras stores (inputs, outputs),
        except for an embedding."""
        if name.endswith("/embeddings"):
            for first in range(0, self.weights[name].shape[0], ROWS_AT_ONCE):
                yield self.values(name, slice(first, first + ROWS_AT_ONCE))
        else:
            yield self.values(name).reshape(inputs, -1).T


def _store(rows: np.ndarray, matrix: np.ndarray, scales: np.ndarray) -> None:
    """Writes rows (outputs, inputs) into a matrix of float32 or int8."""
    if matrix.dtype == np.int8:
        largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
        scales[...] = np.where(largest > 0, largest / 127, 1)
        rows = np.rint(rows / scales[:, None]).astype(np.int8)
    for first in range(0, rows.shape[1], COLUMNS_AT_ONCE):
        columns = slice(first, first + COLUMNS_AT_ONCE)
        matrix[:, columns] = rows[:, columns]


def _layout(config: ModelConfig) -> np.ndarray:
    """EngineWeights.layout; a tied head is the token embedding once more."""
    D, F, H, V = config.embed_dim, config.ff_dim, config.head_dim, config.vocab_size
    heads = config.num_heads + 2 * config.num_kv_heads
    gate = F if config.activation == "swiglu" else 0
    block = {
        BlockMatrix.QKV: (heads * H, D),
        BlockMatrix.OUT: (D, config.num_heads * H),
        BlockMatrix.GATE: (gate, D),
        BlockMatrix.UP: (F, D),
        BlockMatrix.DOWN: (D, F),
    }
    shapes = [(V, D)]
    for _ in range(config.num_layers):
        shapes += [block[matrix] for matrix in BlockMatrix]
    if not config.tie_embeddings:
        shapes.append((V, D))
    layout = np.zeros((len(shapes), 4), dtype=np.int64)
    layout[:, 2:] = shapes
    layout[1:, 0] = np.cumsum(layout[:, 2] * layout[:, 3])[:-1]
    layout[1:, 1] = np.cumsum(layout[:, 2])[:-1]
    return np.concatenate([layout, layout[:1]]) if config.tie_embeddings else layout


def _size(layout: np.ndarray) -> int:
    """Number of weights in all matrices."""
    return int((layout[:, 0] + layout[:, 2] * layout[:, 3]).max())


def _kernels(config: ModelConfig) -> list[list[str]]:
    """The weights that make up each matrix of the layout, in its order."""
    layers = {
        BlockMatrix.QKV: ["attention/query", "attention/key", "attention/value"],
        BlockMatrix.OUT: ["attention/attention_output"],
        BlockMatrix.GATE: ["feed_forward_gate"] if config.activation == "swiglu" else [],
        BlockMatrix.UP: ["feed_forward_up"],
        BlockMatrix.DOWN: ["feed_forward_down"],
    }
    kernels = [["token_embedding/embeddings"]]
    for layer in range(config.num_layers):
        for matrix in BlockMatrix:
            kernels.append([f"block_{layer}/{path}/kernel" for path in layers[matrix]])
    return kernels if config.tie_embeddings else [*kernels, ["logits/kernel"]]


def _bias_of(kernel: str) -> str:
    return kernel.removesuffix("/kernel") + "/bias"


def _norms(config: ModelConfig) -> list[str]:
    """The norms in the order of their use."""
    names = ("attention_norm", "feed_forward_norm")
    norms = [f"block_{layer}/{name}" for layer in range(config.num_layers) for name in names]
    return [*norms, "final_norm"] if config.norm_first else norms


def _positions(config: ModelConfig, source: _Source) -> np.ndarray:
    if config.positions == "sinusoidal":
        return sinusoidal_table(config.context_length, config.embed_dim)
    if config.positions == "learned":
        return source.values("position_encoding/embeddings")
    return np.zeros((0, config.embed_dim), dtype=np.float32)


# ---------------------------------------------------------------- from and to the model folder


def load_weights(folder: ModelFolder, quantize: str) -> tuple[EngineWeights, str]:
    """The weights of a model folder in the engine's layout.

    int8 weights come from model.int8.h5, which is written first if it is missing or belongs to
    other weights.

    Args:
        folder: From `load_folder`.
        quantize: "none" (float32) or "int8".

    Returns:
        The weights, and a notice for the user, perhaps empty.

    Raises:
        ModelFolderError: The weights are missing or damaged, or larger than memory.
    """
    file, model = folder.path / MODEL_NAME, folder.model
    needed = model.parameter_count * (1 if quantize == "int8" else 4)
    needed += Cache.nbytes(model) + 4 * model.context_length * model.embed_dim
    try:
        check_fits_memory(needed, f"{file}: weights and cache of this model")
    except ConfigError as error:
        raise ModelFolderError(str(error)) from None
    if quantize == "none":
        with open_weights(file, model) as weights:
            return lay_out_weights(weights, model, str(file)), ""
    kept = folder.path / QUANTIZED_NAME
    laid_out = _read_quantized(kept, file, model)
    if laid_out is not None:
        return laid_out, ""
    before = _state(file)
    with open_weights(file, model) as weights:
        laid_out = lay_out_weights(weights, model, str(file), np.int8)
    sha256 = sha256_of(file)
    if _state(file) != before:  # replaced in the meantime: whose hash would it be?
        return laid_out, ""
    try:
        with staging(folder.path) as scratch:
            _write_quantized(scratch / QUANTIZED_NAME, laid_out, before, sha256, model)
    except ModelFolderError as error:
        return laid_out, f"the int8 weights could not be kept for the next time: {error}"
    return laid_out, ""


_KEPT = ("matrices", "scales", "biases", "norms", "positions")


def _write_quantized(
    path: Path, laid_out: EngineWeights, state: list[int], sha256: str, config: ModelConfig
) -> None:
    import h5py

    reserve_space(path.parent, sum(getattr(laid_out, name).nbytes for name in _KEPT))
    with h5py.File(path, "w") as file:
        for name in _KEPT:
            file[name] = getattr(laid_out, name)
        file.attrs["format"] = FORMAT
        file.attrs["model"] = json.dumps(to_dict(config))
        file.attrs["source_sha256"], file.attrs["source_state"] = sha256, state


def _read_quantized(path: Path, source: Path, config: ModelConfig) -> EngineWeights | None:
    """The content of model.int8.h5; None if it was not made from `source`, or is damaged."""
    layout = _layout(config)
    rows, D, L = int(layout[:, 1:3].sum(axis=1).max()), config.embed_dim, config.num_layers
    context = 0 if config.positions == "rotary" else config.context_length
    shapes = ((_size(layout),), (rows,), (rows,), (2 * L + 1, 2, D), (context, D))
    kept = {}
    try:
        with open_hdf5(path, attributes=True) as file:
            made_for = text_attribute(file, "model")
            if file.attrs["format"] != FORMAT or made_for != json.dumps(to_dict(config)):
                return None
            # The same size and time of change mean the same content, which is slow to hash.
            if list(file.attrs["source_state"]) != _state(source) and (
                text_attribute(file, "source_sha256") != sha256_of(source)
            ):
                return None
            for name, shape in zip(_KEPT, shapes, strict=True):
                dataset, dtype = child(file, name), np.int8 if name == "matrices" else np.float32
                check_dataset(dataset)
                if dataset is None or dataset.shape != shape or dataset.dtype != dtype:
                    return None
                kept[name] = dataset[...]
                if dtype == np.float32 and not np.isfinite(kept[name]).all():
                    return None
    except Exception:  # h5py raises many kinds on a damaged or missing file
        return None
    return EngineWeights(**kept, layout=layout)


def _state(path: Path) -> list[int]:
    """Size and time of change."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]
