"""model.bin: a header of text lines and aligned arrays, so that a reader fits on a page.

    MGPT1
    vocab_size 49152
    ...
    array block_0/attention/query/kernel f32 576 576 28311552

    (the arrays)

A matrix has a row for each output. `q8` is GGUF's Q8_0 with its factors apart: int8 in blocks of 32
inputs, rows filled up to whole blocks, and float32 factors in the array NAME/factors. Everything is
little-endian, and an array begins at a multiple of 64 bytes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...config import ModelConfig
from ...config.architecture import GATES
from ...config.running import ExportDType
from ...inference.blocks import BLOCK, round_to_int8
from ...inference.folder import ModelFolder
from ...inference.positions import (
    frequencies_of_pairs,
    rotary_divisors,
    rotation_of,
    sinusoidal_table,
)
from ...inference.stages import rows_of
from ...storage.replacing import reserve_space
from .vocabulary import vocabulary_of

MAGIC = b"MGPT1\n"
ALIGNMENT = 64
TYPES = {"float32": "f32", "int32": "i32", "uint8": "u8", "int8": "q8"}
"""NumPy's names -> the file's."""

PLAIN_SWITCHES = (
    *("vocab_size", "context_length", "embed_dim", "num_layers", "num_heads", "num_kv_heads"),
    *("head_dim", "ff_dim", "norm", "norm_placement", "norm_epsilon", "embedding_scale"),
)
"""Fields of ModelConfig that stand in the header as they are."""


def write_portable(folder: ModelFolder, file: Path, dtype: ExportDType) -> None:
    """Writes model.bin.

    Args:
        folder: The model.
        file: What is written.
        dtype: Of the matrices; norms, biases and positions are float32 in any case.

    Raises:
        ConfigError: The readers have no such tokenizer.
        ModelFolderError: The weights are damaged, or the disk is full.
    """
    settings, small = vocabulary_of(folder)
    lines = [f"{name} {value}" for name, value in (_switches(folder.model) | settings).items()]
    small |= _tables(folder.model)
    with folder.open_weights() as weights:
        sizes = dict(_places(weights, small, dtype))
        offset = 0
        for name, (kind, rows, columns, nbytes) in sizes.items():
            lines.append(f"array {name} {kind} {rows} {columns} {offset}")
            offset += _aligned(nbytes)
        header = MAGIC + ("\n".join(lines) + "\n\n").encode()
        reserve_space(file.parent, _aligned(len(header)) + offset)
        with open(file, "wb") as out:
            _write(out, header)
            for name in weights:
                values = _matrix(np.asarray(weights[name], dtype=np.float32), name)
                for _, array, _ in _arrays(name, values, dtype):
                    _write(out, np.ascontiguousarray(array).tobytes())
            for array in small.values():
                _write(out, np.ascontiguousarray(array).tobytes())


def _switches(model: ModelConfig) -> dict[str, Any]:
    """What a reader must know of the architecture. 0 stands for none."""
    switches = {name: getattr(model, name) for name in PLAIN_SWITCHES}
    for name in ("window", "attention_softcap", "logits_softcap"):
        switches[name] = getattr(model, name) or 0
    switches["layer_kinds"] = model.layer_kinds
    switches["gated"] = int(model.gated)
    switches["activation"] = GATES.get(model.activation, model.activation)
    return switches


def _tables(model: ModelConfig) -> dict[str, np.ndarray]:
    """Positions beside the weights: a sinusoidal table, or rotary frequencies.

    A frequency is two float32, a number and what it lacks, since angles of late positions need more
    digits than one has.
    """
    if model.positions == "sinusoidal":
        table = sinusoidal_table(model.context_length, model.embed_dim)
        return {"position_encoding/embeddings": table}
    tables: dict[str, np.ndarray] = {}
    for name, kind in (("rotary", "G"), ("rotary_local", "L")):
        theta, scaling = rotation_of(model, kind)
        if theta is None:
            continue
        frequencies = frequencies_of_pairs(model.head_dim, theta)
        frequencies = frequencies / rotary_divisors(frequencies, scaling)
        high = frequencies.astype(np.float32)
        low = (frequencies - high).astype(np.float32)
        tables[name] = np.stack([high, low], axis=1)
    return tables


def _places(
    weights: dict[str, Any], small: dict[str, np.ndarray], dtype: str
) -> Iterator[tuple[str, tuple[str, int, int, int]]]:
    """(name, (type, rows, columns, bytes)) of all arrays in their order; no weight is read."""
    for name, dataset in weights.items():
        rows, columns = _matrix(np.broadcast_to(np.float32(0), dataset.shape), name).shape
        if dtype == "q8_0" and _quantized(name):
            blocks = -(-columns // BLOCK)
            yield name, ("q8", rows, columns, rows * blocks * BLOCK)
            yield f"{name}/factors", ("f32", rows, blocks, 4 * rows * blocks)
        else:
            yield name, ("f32", rows, columns, 4 * rows * columns)
    for name, array in small.items():
        rows, columns = _matrix_shape(array)
        yield name, (TYPES[array.dtype.name], rows, columns, array.nbytes)


def _arrays(name: str, rows: np.ndarray, dtype: str) -> Iterator[tuple[str, np.ndarray, int]]:
    """(name, array, columns) of a weight (outputs, inputs), as `_places` has announced them."""
    if dtype != "q8_0" or not _quantized(name):
        yield name, rows.astype(np.float32), rows.shape[-1]
        return
    found = round_to_int8(np.ascontiguousarray(rows))
    filling = -rows.shape[1] % BLOCK
    values = (found.u.astype(np.int16) - 128).astype(np.int8)
    yield name, np.pad(values, ((0, 0), (0, filling))), rows.shape[1]
    yield f"{name}/factors", found.d.astype(np.float32), found.d.shape[1]


def _quantized(name: str) -> bool:
    """Whether a weight is a matrix of products."""
    return name.endswith("/kernel") or name == "token_embedding/embeddings"


def _matrix(weight: np.ndarray, name: str) -> np.ndarray:
    """A weight with a row for each output; a norm or a bias is one row."""
    if name.endswith(("/kernel", "/embeddings")):
        return rows_of(weight, name)
    return weight.reshape(1, -1)


def _matrix_shape(array: np.ndarray) -> tuple[int, int]:
    """Rows and columns; a list is one column."""
    return len(array), array.size // max(1, len(array))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _write(out: BinaryIO, content: bytes) -> None:
    out.write(content)
    out.write(b"\0" * (-len(content) % ALIGNMENT))
