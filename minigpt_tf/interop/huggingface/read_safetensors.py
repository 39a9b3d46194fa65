"""Tensors in safetensors files, one or several, read one at a time as float32.

The library checks a file's header; the values are read at the places that it names, since mapped
pages of a file would count as memory, and NumPy has no bfloat16.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...errors import ModelFolderError
from ...storage.json_files import read_object
from ...storage.reading import open_safetensors

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""The format's name of a type -> NumPy's; bfloat16 is read as its bits."""

CHUNK = 2**20
"""Values that are read and converted at a time."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file (`tensors.Tensor`)."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    """A key of DTYPES."""
    first: int
    """The byte of the file where its values begin."""

    def read(self) -> np.ndarray:
        """The values as float32. Raises ModelFolderError."""
        values = np.empty(self.shape, dtype=np.float32)
        flat, filled = values.reshape(-1), 0
        for chunk in self.chunks():
            flat[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        return values

    def chunks(self) -> Iterator[np.ndarray]:
        """The values (n,) as float32, one part after the other. Raises ModelFolderError."""
        try:
            with open(self.file, "rb") as file:
                file.seek(self.first)
                for begin in range(0, math.prod(self.shape), CHUNK):
                    yield self._chunk(file, min(CHUNK, math.prod(self.shape) - begin))
        except OSError as error:
            raise ModelFolderError(f"{self.file}: cannot be read: {error.strerror}") from None

    def _chunk(self, file: BinaryIO, size: int) -> np.ndarray:
        """The next `size` values as float32."""
        values = np.fromfile(file, dtype=DTYPES[self.dtype], count=size)
        if len(values) < size:
            raise ModelFolderError(f"{self.file}: ends within the tensor {self.name}")
        if self.dtype == "BF16":  # the upper half of a float32
            return (values.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            return values.astype(np.float32, copy=False)


def open_folder(folder: Path) -> dict[str, StoredTensor]:
    """The tensors in a folder's model.safetensors, or in the files that its index names.

    Raises ModelFolderError if there is none, or one is damaged or holds types of numbers that
    are not in DTYPES.
    """
    if (folder / SINGLE_NAME).is_file():
        return open_file(folder / SINGLE_NAME)
    index = folder / INDEX_NAME
    if not index.is_file():
        raise ModelFolderError(f"{folder}: contains no {SINGLE_NAME} and no {INDEX_NAME}")
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(map(_is_plain_name, places.values())):
        raise ModelFolderError(f"{index}: its weight_map does not give files of this folder")
    tensors: dict[str, StoredTensor] = {}
    for name in sorted(set(places.values())):
        if not (folder / name).is_file():
            raise ModelFolderError(f"{folder}: {name:.80} is missing, which {INDEX_NAME} names")
        for tensor in open_file(folder / name).values():
            if tensor.name in tensors:
                raise ModelFolderError(f"{folder}: {tensor.name:.80} lies in two of its files")
            tensors[tensor.name] = tensor
    for name, file in places.items():
        if name not in tensors or tensors[name].file.name != file:
            raise ModelFolderError(f"{index}: {name:.80} does not lie in {file:.80}")
    return tensors


def _is_plain_name(name: Any) -> bool:
    """Whether this is the name of a file, and leads to no other folder."""
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name


def open_file(file: Path) -> dict[str, StoredTensor]:
    """The tensors in one file by name. Raises ModelFolderError."""
    with open_safetensors(file, "a safetensors file"):
        header, first = _read_header(file)
    header.pop("__metadata__", None)
    return {name: _tensor(file, name, entry, first) for name, entry in header.items()}


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The header of a file that the library has checked, and the byte where the values begin."""
    with open(file, "rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        return json.loads(stream.read(size)), 8 + size


def _tensor(file: Path, name: str, entry: dict[str, Any], first: int) -> StoredTensor:
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    if dtype not in DTYPES:
        known = ", ".join(DTYPES)
        raise ModelFolderError(
            f"{file}: the tensor {name:.80} holds {dtype}: known are {known}; quantized weights "
            "must be converted to one of them"
        )
    begin, end = entry["data_offsets"]
    if end - begin != math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize:
        raise ModelFolderError(f"{file}: is damaged: the tensor {name:.80} has another size")
    return StoredTensor(file, name, shape, dtype, first + begin)
