"""The datasets of a plain HDF5 file, such as Keras writes, found without h5py.

Importing h5py and asking it for each dataset takes longer than reading a small model. A file is
plain if its groups are symbol tables and its datasets are numbers in one piece, of the
types that weights have; of any other file, a damaged one too, nothing is read here. The format:
HDF5 File Format Specification 3.0, sections II.A, III.A, III.B, III.D, IV.A.
"""

import math
import os
import struct
from collections.abc import Iterator
from io import RawIOBase
from typing import Any

import numpy as np

_SUPERBLOCK = struct.Struct("<8s3BxB2BxHHI4Q2QII2Q")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_OBJECT = struct.Struct("<BxHII4x")
_MESSAGE = struct.Struct("<HHB3x")
_NODE = struct.Struct("<4sBBH2Q")
_SYMBOLS = struct.Struct("<4sBxH")
_SYMBOL = struct.Struct("<QQI4x16x")
_HEAP = struct.Struct("<4sB3x3Q")
_LAYOUT = struct.Struct("<BBQQ")

_DATASPACE, _DATATYPE, _DATA_LAYOUT, _CONTINUATION, _SYMBOL_TABLE = 1, 3, 8, 16, 17
_HARMLESS = {0, 4, 5, 12, 18, 21}
"""Messages that say nothing about where values are: none, two of what unwritten values would be,
attributes, the time of change, where more attributes are."""
_SHARED = 2
"""Flag of a message whose content is somewhere else."""
_CONTIGUOUS = (3, 1)
"""Version and class of the layout of a dataset in one piece."""
_TYPES: dict[bytes, np.dtype] = {
    bytes.fromhex("11200f0002000000000010000a05000a0f000000"): np.dtype("<f2"),
    bytes.fromhex("11201f00040000000000200017080017" + "7f000000"): np.dtype("<f4"),
    bytes.fromhex("11203f00080000000000400034" + "0b0034ff030000"): np.dtype("<f8"),
    bytes.fromhex("100000000100000000000800" + "0000000000000000"): np.dtype("u1"),
}
"""Datatype messages of IEEE 754's numbers, little-endian, and of bytes."""

_DEEPEST, _MOST_OBJECTS, _LARGEST_HEADER, _MOST_BYTES = 40, 100_000, 2**20, 2**26
"""Bounds of the structure: levels of a tree, objects, bytes of one and of all."""


UNDEFINED = 2**64 - 1
"""The address of nothing."""


class NotPlain(Exception):
    """The file is not plain, or damaged."""


class PlainDataset:
    """Values in one piece of an open file.

    Args:
        file: Open for reading, without a buffer.
        start: Where the values begin.
        shape: Of the values.
        dtype: Of the values.
    """

    def __init__(
        self, file: RawIOBase, start: int, shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        self._file, self._start, self.shape, self.dtype = file, start, shape, dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Reads all values, or a slice along the first axis (step 1).

        Args:
            rows: A slice, or `...`.

        Returns:
            The values.

        Raises:
            OSError: They cannot be read.
        """
        shape, start = self.shape, self._start
        if isinstance(rows, slice) and shape:
            first, last, _ = rows.indices(shape[0])
            shape = (max(0, last - first), *shape[1:])
            start += first * math.prod(shape[1:]) * self.dtype.itemsize
        values = np.empty(shape, self.dtype)
        self._read(start, values)
        return values

    def read_into(self, values: np.ndarray) -> None:
        """Reads all values into an array.

        Args:
            values: Of the same shape and type, in one piece.

        Raises:
            OSError: They cannot be read.
        """
        assert values.shape == self.shape and values.dtype == self.dtype
        self._read(self._start, values)

    def _read(self, start: int, values: np.ndarray) -> None:
        unread = memoryview(values.reshape(-1).view(np.uint8).data)
        self._file.seek(start)
        while len(unread):
            count = self._file.readinto(unread)
            if not count:
                raise OSError("the file ends before its values do")
            unread = unread[count:]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[...] if dtype is None else self[...].astype(dtype, copy=False)


def plain_datasets(file: RawIOBase, group: str) -> dict[str, PlainDataset]:
    """All datasets below a group.

    Args:
        file: Open for reading, without a buffer; the datasets read from it later.
        group: A group of the root; "" for the root itself.

    Returns:
        Path below the group -> dataset.

    Raises:
        NotPlain: h5py may be able to read the file.
    """
    try:
        return PlainReader(file).datasets(group)
    except (struct.error, ValueError, IndexError, RecursionError) as error:
        raise NotPlain(str(error)) from None


class PlainReader:
    """Finds the objects of a plain file. All methods raise NotPlain, and what `struct` raises.

    Args:
        file: Open for reading.
    """

    def __init__(self, file: RawIOBase) -> None:
        self.file, self.size = file, file.seek(0, os.SEEK_END)
        self.objects = self.bytes = 0
        self.others: list[bytes] = []
        """Messages of the latest object that `other_message` has kept."""

    def read(self, start: int, length: int) -> bytes:
        """Some bytes of the structure.

        Args:
            start: Where they begin in the file.
            length: How many.

        Returns:
            The bytes.
        """
        if not 0 <= start <= self.size - length:
            raise NotPlain("a part beyond the file's end")
        self.bytes += length
        if self.bytes > _MOST_BYTES:
            raise NotPlain("too large a structure")
        self.file.seek(start)
        return self.file.read(length) or b""

    def unpack(self, layout: struct.Struct, start: int) -> tuple:
        """Some fields of the structure.

        Args:
            layout: Their types.
            start: Where they begin in the file.

        Returns:
            Their values.
        """
        return layout.unpack(self.read(start, layout.size))

    def root(self) -> int:
        """The address of the outermost group."""
        signature, *versions, _, _, _, base, _, end, driver, _, root, _, _, _, _ = self.unpack(
            _SUPERBLOCK, 0
        )
        if signature != _SIGNATURE or versions != [0, 0, 0, 0, 8, 8] or base or end != self.size:
            raise NotPlain("another version of the format")
        if driver != UNDEFINED:
            raise NotPlain("another driver")
        return root

    @staticmethod
    def is_group(messages: dict[int, bytes]) -> bool:
        """Whether an object of such messages is a group."""
        return _SYMBOL_TABLE in messages

    def datasets(self, group: str) -> dict[str, PlainDataset]:
        """As `plain_datasets`."""
        root = self.root()
        addresses = dict(self.entries(self.messages(root))) if group else {"": root}
        if group not in addresses:
            raise NotPlain(f"no group {group}")
        found: dict[str, PlainDataset] = {}
        waiting, groups = [("", addresses[group])], set[int]()
        while waiting:
            path, address = waiting.pop()
            messages = self.messages(address)
            if not self.is_group(messages):
                found[path] = self.dataset(messages)
                continue
            if address in groups:
                raise NotPlain("a group in two places")
            groups.add(address)
            for name, each in self.entries(messages):
                waiting.append((f"{path}/{name}" if path else name, each))
        return found

    def messages(self, address: int) -> dict[int, bytes]:
        """The messages of an object; attributes and the like are left out.

        Args:
            address: Of the object.

        Returns:
            By type.
        """
        self.objects += 1
        self.others = []
        if self.objects > _MOST_OBJECTS:
            raise NotPlain("too many objects")
        version, count, _, length = self.unpack(_OBJECT, address)
        if version != 1:
            raise NotPlain("another version of an object")
        found: dict[int, bytes] = {}
        blocks = [(address + _OBJECT.size, length)]
        while blocks and count:
            start, length = blocks.pop(0)
            if length > _LARGEST_HEADER:
                raise NotPlain("a long header")
            block, place = self.read(start, length), 0
            while place + _MESSAGE.size <= len(block) and count:
                kind, size, flags = _MESSAGE.unpack_from(block, place)
                content = block[place + _MESSAGE.size : place + _MESSAGE.size + size]
                place, count = place + _MESSAGE.size + size, count - 1
                if kind == _CONTINUATION:
                    blocks.append(struct.unpack("<QQ", content))
                elif kind in (_DATASPACE, _DATATYPE, _DATA_LAYOUT, _SYMBOL_TABLE):
                    if flags & _SHARED or kind in found or len(content) < size:
                        raise NotPlain("a shared message")
                    found[kind] = content
                else:
                    self.other_message(kind, content)
        return found

    def other_message(self, kind: int, content: bytes) -> None:
        """Called for a message of an object that says nothing about where values are.

        Args:
            kind: Its type.
            content: What it says.
        """
        if kind not in _HARMLESS:
            raise NotPlain(f"a message of type {kind}")

    def check_free(self, start: int, length: int, head: int) -> None:
        """Called for the list of what is free in a heap of names, which is not needed here.

        Args:
            start: Where the names begin in the file.
            length: Their bytes.
            head: Where the list begins among them.
        """

    def entries(self, messages: dict[int, bytes]) -> Iterator[tuple[str, int]]:
        """The items of a group.

        Args:
            messages: Of the group.

        Yields:
            (name, address) of each.
        """
        tree, heap = struct.unpack("<QQ", messages.get(_SYMBOL_TABLE, b""))
        signature, version, length, free, start = self.unpack(_HEAP, heap)
        if signature != b"HEAP" or version or length > _LARGEST_HEADER:
            raise NotPlain("no heap of names")
        self.check_free(start, length, free)
        names = self.read(start, length)
        for node in self.leaves(tree, 0):
            signature, version, count = self.unpack(_SYMBOLS, node)
            if signature != b"SNOD" or version != 1:
                raise NotPlain("no table of names")
            table = self.read(node + _SYMBOLS.size, count * _SYMBOL.size)
            for place, address, cached in _SYMBOL.iter_unpack(table):
                if cached > 1:
                    raise NotPlain("a link")
                yield names[place : names.index(b"\0", place)].decode(), address

    def leaves(self, address: int, depth: int) -> Iterator[int]:
        """Addresses of the tables of names below a node of a tree.

        Args:
            address: Of the node.
            depth: How many nodes are above it.

        Yields:
            The addresses.
        """
        signature, kind, level, count, _, _ = self.unpack(_NODE, address)
        if signature != b"TREE" or kind or depth > _DEEPEST:
            raise NotPlain("no tree of names")
        keys = self.read(address + _NODE.size, 16 * count)
        for _, child in struct.iter_unpack("<QQ", keys):
            self.objects += 1
            if self.objects > _MOST_OBJECTS:
                raise NotPlain("too many objects")
            if level:
                yield from self.leaves(child, depth + 1)
            else:
                yield child

    def dataset(self, messages: dict[int, bytes]) -> PlainDataset:
        space, kind, layout = (
            messages.get(each, b"") for each in (_DATASPACE, _DATATYPE, _DATA_LAYOUT)
        )
        dtype = _TYPES.get(kind[:20].ljust(20, b"\0"))
        if dtype is None or any(kind[20:]) or len(space) < 4 or len(layout) < _LAYOUT.size:
            raise NotPlain("no floating-point numbers")
        shape = unpack_shape(space)
        *form, start, length = _LAYOUT.unpack_from(layout)
        if tuple(form) != _CONTIGUOUS or length != math.prod(shape) * dtype.itemsize:
            raise NotPlain("not in one piece")
        if start + length > self.size:
            raise NotPlain("values beyond the file's end")
        return PlainDataset(self.file, start, shape, dtype)


def unpack_shape(space: bytes) -> tuple[int, ...]:
    """The sizes in a dataspace message; () for one value.

    Args:
        space: The message.

    Returns:
        The sizes.

    Raises:
        NotPlain: It is of another form, or of no values.
        struct.error: It is damaged.
    """
    version, rank = space[0], space[1]
    if version == 1 or (version == 2 and space[3] < 2):
        return struct.unpack_from(f"<{rank}Q", space, 8 if version == 1 else 4)
    raise NotPlain("no shape")
