"""The header of a GGUF file: its metadata and where its tensors lie, read without trusting it.

The format is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: counts, then
pairs of key and value, then a name, shape, type and offset for each tensor, then their values.
Every number is checked against the bytes that are there before anything is allocated.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np

from ...errors import ModelFolderError
from ...storage.regular import check_regular

VERSIONS = (2, 3)
"""Both have the same layout; version 1 counted in 32 bits."""
MOST_STRINGS = 2**22
"""Texts in one list: eight times the largest vocabularies."""
LARGEST_HEADER = 2**28
"""Bytes before the tensors: ten times those of the largest vocabularies."""
DEFAULT_ALIGNMENT = 32
SMALLEST_PAIR, SMALLEST_TENSOR = 8 + 4 + 1, 8 + 4 + 8 + 4 + 8
"""Bytes that a pair of metadata and a tensor's description take at least."""
CHUNK = 2**20
"""Bytes of a tensor that are read and dequantized at a time."""

TYPES = {kind.value: kind for kind in gguf.GGMLQuantizationType}
READABLE = (
    *("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"),
)
"""Types of tensors that are dequantized."""

_STRING, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", _BOOL: "<?"}
_NUMBERS |= {10: "<Q", 11: "<q", 12: "<d"}
"""The types of values in the metadata, as struct and NumPy write them."""


@dataclass(frozen=True)
class GGUFTensor:
    """A tensor in a GGUF file; its values are read when they are asked for."""

    file: Path
    name: str
    shape: tuple[int, ...]
    """Sizes, the slowest axis first."""
    kind: gguf.GGMLQuantizationType
    start: int
    """Where its bytes begin in the file."""

    @property
    def nbytes(self) -> int:
        """Bytes of its values in the file."""
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return math.prod(self.shape) // block * size

    def read(self) -> np.ndarray:
        """The values as float32, of that shape. Raises ModelFolderError."""
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        values = np.empty(math.prod(self.shape), dtype=np.float32)
        blocks = CHUNK // size
        try:
            with open(self.file, "rb") as file:
                file.seek(self.start)
                for first in range(0, values.size // block, blocks):
                    count = min(blocks, values.size // block - first)
                    raw = file.read(count * size)
                    if len(raw) < count * size:
                        raise _damaged(self.file, f"ends within the tensor {self.name}")
                    part = values[first * block : (first + count) * block]
                    part[:] = _dequantized(raw, self.kind)
        except OSError as error:
            raise ModelFolderError(f"{self.file}: cannot be read: {error.strerror}") from None
        return values.reshape(self.shape)


def _dequantized(raw: bytes, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """Whole blocks of a tensor as float32, one dimension."""
    row = np.frombuffer(raw, dtype=np.uint8)[None]  # as one row: the package goes row by row
    with np.errstate(all="ignore"):  # damaged scales; whoever reads checks that all is finite
        return gguf.dequantize(row, kind)[0]


@dataclass(frozen=True)
class GGUFHeader:
    """What a GGUF file says of itself."""

    metadata: dict[str, Any]
    """Numbers, texts, lists of texts, arrays of numbers."""
    tensors: dict[str, GGUFTensor]


def read_header(file: Path) -> GGUFHeader:
    """Reads and checks everything before the values of the tensors.

    Raises ModelFolderError, at once and without large allocations, where the file is damaged, lies
    about its sizes or has a tensor of a type that is not read here.
    """
    check_regular(file)
    try:
        with open(file, "rb") as stream:
            return _Reader(file, stream).header()
    except OSError as error:
        raise ModelFolderError(f"{file}: cannot be read: {error.strerror}") from None


def _damaged(file: Path, reason: str) -> ModelFolderError:
    return ModelFolderError(f"{file}: is damaged: it {reason}")


class _Reader:
    """Reads a header from its beginning on."""

    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self.file, self.stream = file, stream
        self.file_size = stream.seek(0, 2)
        self.left = min(self.file_size, LARGEST_HEADER)
        """Bytes that may still belong to the header."""
        stream.seek(0)

    def header(self) -> GGUFHeader:
        """The whole header."""
        magic = self.stream.read(4)
        if magic != b"GGUF":
            raise ModelFolderError(f"{self.file}: is not a GGUF file: it begins with {magic!r}")
        self.left -= 4
        version = self.number("<I")
        if version not in VERSIONS:
            raise ModelFolderError(
                f"{self.file}: GGUF version {version} is unsupported: version 2 or 3 is "
                "expected, with the lowest byte of a number first"
            )
        tensor_count, pair_count = self.number("<Q"), self.number("<Q")
        if tensor_count * SMALLEST_TENSOR + pair_count * SMALLEST_PAIR > self.left:
            raise self.damaged(
                f"claims {tensor_count} tensors and {pair_count} metadata, more than it has bytes"
            )
        metadata = self.metadata(pair_count)
        described = [self.tensor() for _ in range(tensor_count)]
        return GGUFHeader(metadata, self.placed(described, metadata))

    def damaged(self, reason: str) -> ModelFolderError:
        """An error to raise."""
        return _damaged(self.file, reason)

    def take(self, size: int) -> bytes:
        """The next bytes. Nothing is read if fewer are left."""
        if size > self.left:
            raise self.damaged("ends within its header, or a size in its header is wrong")
        self.left -= size
        raw = self.stream.read(size)
        if len(raw) < size:
            raise self.damaged("became shorter while it was read")
        return raw

    def number(self, form: str) -> Any:
        """One number in `struct`'s form."""
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return value

    def text(self) -> str:
        """A length and so many bytes of UTF-8."""
        raw = self.take(self.number("<Q"))
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.damaged(f"has a text that is not UTF-8 ({raw[:20]!r})") from None

    def metadata(self, count: int) -> dict[str, Any]:
        """All pairs of key and value."""
        metadata: dict[str, Any] = {}
        for _ in range(count):
            key = self.text()
            if key in metadata:
                raise self.damaged(f"has the key {key:.60} twice")
            metadata[key] = self.value(self.number("<I"), key)
        return metadata

    def value(self, kind: int, key: str) -> Any:
        """A value of the metadata. Booleans become True or False whatever their byte."""
        if kind == _STRING:
            return self.text()
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind != _ARRAY:
            raise self.damaged(f"has a value of the unknown type {kind} for {key:.60}")
        item, count = self.number("<I"), self.number("<Q")
        if item == _STRING:
            if count > min(MOST_STRINGS, self.left // 8):
                raise self.damaged(f"claims {count} texts for {key:.60}")
            return [self.text() for _ in range(count)]
        if item not in _NUMBERS:
            raise self.damaged(f"has a list of the unknown type {item} for {key:.60}")
        raw = self.take(count * struct.calcsize(_NUMBERS[item]))
        return np.frombuffer(raw, dtype=_NUMBERS[item])

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape, type and offset of a tensor, each sound in itself."""
        name, axes = self.text(), self.number("<I")
        if not 1 <= axes <= 4:
            raise self.damaged(f"gives the tensor {name:.60} {axes} axes")
        shape = tuple(self.number("<Q") for _ in range(axes))[::-1]
        kind, offset = self.number("<I"), self.number("<Q")
        if kind not in TYPES or TYPES[kind].name not in READABLE:
            known = TYPES[kind].name if kind in TYPES else f"number {kind}"
            raise ModelFolderError(
                f"{self.file}: the tensor {name:.60} is of type {known}, which is not read here: "
                f"choose a file of {', '.join(READABLE)}"
            )
        if min(shape) < 1 or shape[-1] % gguf.GGML_QUANT_SIZES[TYPES[kind]][0]:
            raise self.damaged(f"gives the tensor {name:.60} the shape {shape}")
        return name, shape, kind, offset

    def placed(
        self, described: list[tuple[str, tuple[int, ...], int, int]], metadata: dict[str, Any]
    ) -> dict[str, GGUFTensor]:
        """The tensors by name. Raises ModelFolderError where they lie beyond the end of the file or
        one upon another."""
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        sound = type(alignment) is int and 0 < alignment <= 2**16 and alignment % 8 == 0
        if not sound:
            raise self.damaged(f"has general.alignment={alignment!r:.20}")
        begin = -(-self.stream.tell() // alignment) * alignment
        tensors: dict[str, GGUFTensor] = {}
        end = 0
        for name, shape, kind, offset in sorted(described, key=lambda tensor: tensor[3]):
            tensor = GGUFTensor(self.file, name, shape, TYPES[kind], begin + offset)
            if name in tensors:
                raise self.damaged(f"has the tensor {name:.60} twice")
            if tensor.start + tensor.nbytes > self.file_size:
                raise self.damaged(f"ends before the values of the tensor {name:.60}")
            if offset % alignment or tensor.start < end:
                raise self.damaged(f"says wrongly where the tensor {name:.60} begins")
            end = tensor.start + tensor.nbytes
            tensors[name] = tensor
        return tensors
