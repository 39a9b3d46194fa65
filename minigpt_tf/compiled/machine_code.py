"""Machine code in memory, called from Python without Numba and LLVM."""

import ctypes
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class UnsupportedCode(Exception):
    """Machine code that can only be run by Numba itself, or not be kept on this system."""


@dataclass
class Image:
    """Machine code."""

    content: bytes
    entry: int
    """Where the function begins."""
    absolute: list[int] = field(default_factory=list)
    """Places of 64 bits to which the image's address in memory is added."""
    external: list[tuple[int, str]] = field(default_factory=list)
    """Places of 64 bits that get the address of a function of the C library: (place, name)."""
    result: str = "none"
    """Type of the function's result."""


ITEMS = 24
"""Where a tuple has the addresses of its items, in CPython."""
DATA, DIMENSIONS, SHAPE, STRIDES, DTYPE, FLAGS = 16, 24, 32, 40, 56, 64
"""Where an array has the addresses of its data, its number of dimensions, and so on: fixed by
NumPy's binary interface for C (`PyArrayObject_fields` in ndarraytypes.h)."""
BYTE_ORDER, TYPE_NUMBER = 26, 28
"""The same of a dtype (`PyArray_Descr`)."""
OTHER_ARRAYS = 1 << 20
"""Status of a call whose arrays are of other kinds than those that the code was compiled for."""

RESULTS: dict[str, Any] = {
    "none": ctypes.c_void_p,
    "int64": ctypes.c_int64,
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
    "bool": ctypes.c_bool,
}
"""Results that a function may have, by their types' names in Numba, as ctypes gives them. A null
pointer is None."""

_LIBRARIES = (None, "libm.so.6")


def check_layouts() -> None:
    """Raises UnsupportedCode if tuples or arrays do not have their fields where they should be."""
    array = np.zeros((2, 3), dtype=np.float32)[:, ::2]
    found: list[Any] = [_read(ctypes.c_uint64, id((None, array)) + ITEMS + 8)]
    found += [_read(ctypes.c_uint64, id(array) + place) for place in (DATA, DTYPE)]
    found += [_read(ctypes.c_int32, id(array) + place) for place in (DIMENSIONS, FLAGS)]
    for place in (SHAPE, STRIDES):
        start = _read(ctypes.c_uint64, id(array) + place)
        found += [_read(ctypes.c_int64, start + 8 * axis) for axis in range(2)]
    found.append(_read(ctypes.c_uint8, id(array.dtype) + BYTE_ORDER))
    found.append(_read(ctypes.c_int32, id(array.dtype) + TYPE_NUMBER))
    expected = [id(array), array.ctypes.data, id(array.dtype), array.ndim, array.flags.num]
    expected += [*array.shape, *array.strides, ord(array.dtype.byteorder), array.dtype.num]
    if found != expected:
        raise UnsupportedCode("arrays have another layout in memory")


def _read(kind: Any, address: int) -> int:
    return kind.from_address(address).value


def load(image: Image) -> Callable[[tuple, bytes, Any], int]:
    """Puts machine code into memory, for as long as the process lasts.

    Args:
        image: From `object_file.link`.

    Returns:
        (arrays and numbers, bytes of the numbers, pointer to the result) -> status. It releases the
        interpreter.

    Raises:
        UnsupportedCode: This system lacks a function that the code calls, or forbids code that is
            not a file's.
    """
    memory = mmap.mmap(
        -1,
        len(image.content),
        flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
        prot=mmap.PROT_READ | mmap.PROT_WRITE,
    )
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[:] = image.content
    for place in image.absolute:
        (offset,) = struct.unpack_from("<q", memory, place)
        struct.pack_into("<Q", memory, place, base + offset)
    for place, name in image.external:
        struct.pack_into("<Q", memory, place, _address_of(name))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if protect(base, len(image.content), mmap.PROT_READ | mmap.PROT_EXEC):
        raise UnsupportedCode("this system forbids to run what was written to memory")
    _IN_USE.append(memory)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.py_object, ctypes.c_char_p, ctypes.c_void_p)
    return prototype(base + image.entry)


_IN_USE: list[mmap.mmap] = []


def _address_of(name: str) -> int:
    for library in _LIBRARIES:
        try:
            function = getattr(ctypes.CDLL(library), name)
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    raise UnsupportedCode(f"{name}: no such function in the C library")
