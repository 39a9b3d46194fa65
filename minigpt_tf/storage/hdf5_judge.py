"""Whether the HDF5 library may follow the structure of a file, which may come from anyone.

The library believes a file: a damaged or hostile one can send it round in circles that nothing
ends, or make it ask for any amount of memory. A file as Keras writes it is judged by its own bytes:
every object, name and attribute is looked at once, and has a form in which the library is safe. Of
any other file the library reads the structure in a process of its own first, which has little time
and memory. The format: HDF5 File Format Specification 3.0, II.A, III.A to III.E, IV.A.
"""

import contextlib
import math
import os
import struct
import subprocess
import sys
from io import RawIOBase
from pathlib import Path
from typing import IO, Any

from ..errors import ModelFolderError
from .plain_hdf5 import UNDEFINED, NotPlain, PlainReader, unpack_shape

SECONDS, MEMORY = 10, 2**30
"""What the process may take."""

_ATTRIBUTE = 12
_HARMLESS = {0, 4, 5, 18}
"""Messages without structure: none, two of what unwritten values would be, the time of change."""
_COMPACT, _CONTIGUOUS = (3, 0), (3, 1)
"""Versions and classes of layouts whose values are in one piece."""

_INTEGER, _FLOAT, _STRING, _VARIABLE = 0, 1, 3, 9
"""Classes of types."""

_HEAP, _HEAP_OBJECT, _SMALLEST_HEAP = struct.Struct("<4sB3xQ"), struct.Struct("<H6xQ"), 4096
_REFERENCE = struct.Struct("<IQI")
"""Of a text in a heap: its length, the heap, which of its objects."""
_NO_FREE, _MOST_FREE = 1, 10_000


def judge(path: str | Path, content: IO[bytes] | None = None) -> None:
    """Checks that the HDF5 library can read a file's structure, in little time and memory.

    What is merely damaged passes: the library will say it.

    Args:
        path: The file; names it in errors.
        content: The file's bytes, if they lie elsewhere.

    Raises:
        ModelFolderError: It cannot.
        OSError: The file cannot be read.
    """
    with contextlib.ExitStack() as stack:
        if content is None:
            content = stack.enter_context(open(path, "rb"))
        raw: Any = getattr(content, "raw", content)
        place = os.fstat(content.fileno())
        start, size = getattr(raw, "first", 0), getattr(raw, "size", place.st_size)
        key = (place.st_dev, place.st_ino, place.st_size, place.st_mtime_ns, start)
        if key in _judged:
            return
        try:
            _Judge(raw).check()
        except _EndlessHeapError:
            raise ModelFolderError(f"{path}: is damaged (a heap of texts has no end)") from None
        except (NotPlain, struct.error, ValueError, IndexError, RecursionError):
            _judge_by_library(path, content.fileno(), start, size)
        content.seek(0)
        _judged.add(key)


_judged: set[tuple[int, ...]] = set()
"""Files that were found good, by what changes with their content: weights are read one by one."""


class _EndlessHeapError(Exception):
    pass


class _Judge(PlainReader):
    """Walks through a whole file. Raises NotPlain for other forms than Keras's."""

    def __init__(self, file: RawIOBase) -> None:
        super().__init__(file)
        self.heaps = set[int]()

    def check(self) -> None:
        """Looks at everything, once."""
        waiting, seen = [self.root()], set[int]()
        while waiting:
            address = waiting.pop()
            if address in seen:
                continue
            seen.add(address)
            messages = self.messages(address)
            for content in self.others:
                self._check_attribute(content)
            if self.is_group(messages):
                waiting += [each for _, each in self.entries(messages)]
            else:
                self._check_dataset(messages)

    def other_message(self, kind: int, content: bytes) -> None:
        """Keeps an attribute for `check`."""
        if kind == _ATTRIBUTE:
            self.others.append(content)
        elif kind not in _HARMLESS:
            raise NotPlain(f"a message of type {kind}")

    def check_free(self, start: int, length: int, head: int) -> None:
        """The list of what is free in a heap of names."""
        for _ in range(_MOST_FREE):
            if head in (_NO_FREE, UNDEFINED):
                return
            if not 0 <= head <= length - 16:
                break
            (head,) = struct.unpack("<Q8x", self.read(start + head, 16))
        raise NotPlain("a free list without end")

    def _check_dataset(self, messages: dict[int, bytes]) -> None:
        space, kind, layout = (messages.get(each, b"") for each in (1, 3, 8))
        values = _size(kind) * _count(space)
        if tuple(layout[:2]) == _COMPACT:
            (length,) = struct.unpack_from("<H", layout, 2)
            if length > len(layout) - 4:
                raise NotPlain("values beyond their message")
            return
        form, begin, length = tuple(layout[:2]), *struct.unpack_from("<QQ", layout, 2)
        if form != _CONTIGUOUS:
            raise NotPlain("not in one piece")
        if begin != UNDEFINED and (begin + length > self.size or length < values):
            raise NotPlain("values beyond the file's end")

    def _check_attribute(self, content: bytes) -> None:
        version = content[0]
        name, kind, space = struct.unpack_from("<HHH", content, 2)
        place = 9 if version == 3 else 8
        if version not in (1, 2, 3) or (version > 1 and content[1]):
            raise NotPlain("a shared type")
        parts = []
        for length in (name, kind, space):
            parts.append(content[place : place + length])
            place += (length + 7) // 8 * 8 if version == 1 else length
        count, size, values = _count(parts[2]), _size(parts[1]), content[place:]
        if count * size > len(values):
            raise NotPlain("values beyond their message")
        if parts[1][0] & 15 == _VARIABLE:
            for number in range(count):
                length, heap, _ = _REFERENCE.unpack_from(values, number * size)
                if length:
                    self._check_heap(heap)

    def _check_heap(self, start: int) -> None:
        """Every object of a heap leads to the next: a step of 0 would never end."""
        if start in self.heaps:
            return
        self.heaps.add(start)
        signature, version, length = _HEAP.unpack(self.read(start, _HEAP.size))
        if signature != b"GCOL" or version != 1 or length < _SMALLEST_HEAP:
            raise NotPlain("no heap of texts")
        heap, at = self.read(start, length), _HEAP.size
        while at + _HEAP_OBJECT.size <= len(heap):
            index, content = _HEAP_OBJECT.unpack_from(heap, at)
            step = content if index == 0 else _HEAP_OBJECT.size + (content + 7) // 8 * 8
            if step % 2**64 == 0 or at + step > len(heap):
                raise _EndlessHeapError
            at += step


def _count(space: bytes) -> int:
    """How many values a dataspace has."""
    return math.prod(unpack_shape(space))


def _size(kind: bytes) -> int:
    """Bytes of a value of a type: a number, a text, or a text in a heap."""
    (size,) = struct.unpack_from("<I", kind, 4)
    form, version = kind[0] & 15, kind[0] >> 4
    text = form == _VARIABLE and kind[1] & 15 == 1 and size == _REFERENCE.size
    if version not in (1, 3) or not (text or form in (_INTEGER, _FLOAT, _STRING)):
        raise NotPlain("a type of another kind")
    return size


def _judge_by_library(path: str | Path, file: int, start: int, size: int) -> None:
    """Lets the library read the structure in another process. Raises ModelFolderError."""
    home = str(Path(__file__).parents[2])
    code = (
        f"import sys; sys.path.insert(0, {home!r}); "
        f"from minigpt_tf.storage.hdf5_look import look; look({file}, {start}, {size}, {MEMORY})"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[file],
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ModelFolderError(
            f"{path}: is damaged: to read its structure takes more than {SECONDS} seconds"
        ) from None
    except OSError as error:
        raise ModelFolderError(
            f"{path}: cannot be checked in another process: {error.strerror}"
        ) from None
    if done.returncode:
        raise ModelFolderError(
            f"{path}: is damaged: reading its structure ends the process, or takes more than "
            f"{MEMORY >> 30} GiB"
        )
