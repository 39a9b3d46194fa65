"""Writes safetensors files, one tensor in memory at a time, and reads them back.

The library's own writer wants all tensors of a file at once. The format is a header (eight bytes
with its size, then JSON: type, shape and place of each tensor) and the values one after the other;
the library checks what was written.
"""

import json
import math
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ...errors import ModelFolderError
from ...events import SILENT, Listener
from ...storage.replacing import reserve_space

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
SHARD_NAME = "model-{number:05}-of-{count:05}.safetensors"

DTYPES = {"f32": ("F32", 4), "f16": ("F16", 2), "bf16": ("BF16", 2)}
"""Our name of a type -> the format's, and the bytes of a number."""

SHARD_BYTES = 2 * 10**9
"""Values of one file at most, but for a tensor that is larger alone."""

CHUNK = 2**24
"""Bytes that are read back at a time."""

PIECE = 2**20
"""Values that are rounded at a time."""

Shapes = Mapping[str, tuple[int, ...]]


def write_safetensors(
    folder: Path,
    shapes: Shapes,
    dtype: str,
    read: Callable[[str], np.ndarray],
    listener: Listener = SILENT,
) -> None:
    """Writes model.safetensors, or several files and their index if it would be large.

    Args:
        folder: An existing folder.
        shapes: The shape of each tensor by name.
        dtype: f32, f16 or bf16.
        read: Gives the float32 values of a tensor by name; called once each, in order of `shapes`.
        listener: Notified of progress, in bytes.

    Raises:
        ModelFolderError: A value does not fit into the type, or a file cannot be read back as
            written.
        OSError: The disk is full.
    """
    size = DTYPES[dtype][1]
    total = size * sum(math.prod(shape) for shape in shapes.values())
    reserve_space(folder, total + 2**10 * len(shapes))
    shards = _shards(shapes, size)
    names = [SINGLE_NAME]
    if len(shards) > 1:
        count = len(shards)
        names = [SHARD_NAME.format(number=n, count=count) for n in range(1, count + 1)]
        places = {tensor: n for n, shard in zip(names, shards, strict=True) for tensor in shard}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    done = 0
    for name, shard in zip(names, shards, strict=True):

        def report(written: int, before: int = done) -> None:
            """Adds the bytes of the earlier files."""
            listener.preparation("writing", before + written, total)

        sums = _write_file(folder / name, shard, dtype, read, report)
        _check_file(folder / name, shard, dtype, sums)
        done += size * sum(math.prod(shape) for shape in shard.values())


def _shards(shapes: Shapes, size: int) -> list[dict[str, tuple[int, ...]]]:
    """The tensors of each file, in their order."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    room = SHARD_BYTES
    for name, shape in shapes.items():
        needed = size * math.prod(shape)
        if needed > room and shards[-1]:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][name] = shape
        room -= needed
    return shards


def _write_file(
    file: Path,
    shapes: Shapes,
    dtype: str,
    read: Callable[[str], np.ndarray],
    report: Callable[[int], None],
) -> dict[str, int]:
    """Writes one file; returns a checksum of each tensor's bytes."""
    kind, size = DTYPES[dtype]
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers 4 asks for it
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + size * math.prod(shape)
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # values begin at a multiple of eight
    sums = {}
    with open(file, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            values = encode_values(read(name), dtype, name)
            assert values.shape == shape
            sums[name] = zlib.crc32(values.data)
            stream.write(values.data)
            report(stream.tell() - 8 - len(text))
    return sums


def encode_values(values: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """Converts values to the type of a file, little-endian. Rounds to nearest, ties to even.

    Args:
        values: float32, of any shape.
        dtype: f32, f16 or bf16.
        name: Names the tensor in errors.

    Returns:
        An array of the same shape; bfloat16 as its bits (uint16).

    Raises:
        ModelFolderError: A value is too large for the type.
    """
    values = np.ascontiguousarray(values, dtype="<f4")
    if dtype == "f32":
        return values
    encoded = np.empty(values.shape, dtype="<f2" if dtype == "f16" else "<u2")
    source, target = values.reshape(-1), encoded.reshape(-1)
    for first in range(0, len(source), PIECE):
        piece = source[first : first + PIECE]
        numbers, finite = (_as_float16 if dtype == "f16" else _as_bfloat16)(piece)
        if not finite:
            largest = float(np.abs(piece).max())
            raise ModelFolderError(
                f"{name}: the value {largest:.3g} does not fit into {dtype}: choose --dtype f32"
            )
        target[first : first + PIECE] = numbers
    return encoded


def _as_float16(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """float16, and whether all of them are finite."""
    with np.errstate(over="ignore"):
        encoded = values.astype("<f2")
    return encoded, bool(np.isfinite(encoded).all())


def _as_bfloat16(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """The upper halves of float32, rounded, and whether all of them are finite."""
    bits = values.view("<u4")
    encoded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return encoded, bool(((encoded & 0x7F80) != 0x7F80).all())


def _check_file(file: Path, shapes: Shapes, dtype: str, sums: dict[str, int]) -> None:
    """Raises ModelFolderError where the file is not what was to be written."""
    import safetensors

    kind = DTYPES[dtype][0]
    try:
        with safetensors.safe_open(file, "numpy") as stored:
            if set(stored.keys()) != set(shapes):
                raise ModelFolderError(f"{file}: self-check failed: it has other tensors")
            for name, shape in shapes.items():
                tensor = stored.get_slice(name)
                if (tuple(tensor.get_shape()), tensor.get_dtype()) != (shape, kind):
                    raise ModelFolderError(f"{file}: self-check failed: {name} has another shape")
    except safetensors.SafetensorError as error:
        raise ModelFolderError(f"{file}: self-check failed: {error}") from None
    for name, found in _stored_sums(file).items():
        if found != sums[name]:
            raise ModelFolderError(f"{file}: {name} could not be read back as written")


def _stored_sums(file: Path) -> dict[str, int]:
    """A checksum of each tensor's bytes, at the places that the header names."""
    sums = {}
    with open(file, "rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        del header["__metadata__"]
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            stream.seek(8 + size + begin)
            sums[name], left = 0, end - begin
            while left and (part := stream.read(min(CHUNK, left))):
                sums[name] = zlib.crc32(part, sums[name])
                left -= len(part)
    return sums
