"""Arguments of compiled functions, taken apart and checked before machine code gets them.

A compiled function is called with arrays, numbers, and named tuples of these. Their *kinds* say all
that the machine code depends on.
"""

import functools
import operator
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

C_ORDER, FORTRAN_ORDER, ALIGNED, WRITEABLE = 0x1, 0x2, 0x100, 0x400
"""Flags of an array, as NumPy's interface for C numbers them (NPY_ARRAY_...)."""

_NUMBERS: dict[type, str] = {
    bool: "?7x",
    int: "q",
    float: "d",
    np.float32: "f4x",
    np.bool_: "?7x",
    np.int64: "q",
    np.float64: "d",
}
"""Types of numbers, and how the `struct` module writes each into 8 bytes."""
_ELEMENTS = "biufc"
"""Kinds of NumPy types that an array may have."""

Classes = tuple[type, ...]
Kinds = tuple[Any, ...]
Leaves = tuple[Any, ...]
Packer = Callable[[Leaves], bytes]


def take_apart(arguments: Sequence[Any]) -> tuple[Classes, Leaves]:
    """The classes of all arguments and of what is in tuples among them, and their leaves.

    Args:
        arguments: Of the function.

    Returns:
        The classes, each tuple's behind it; and the arrays and numbers in order.
    """
    classes: list[type] = []
    leaves: list[Any] = []
    _take_apart(arguments, classes, leaves)
    return tuple(classes), tuple(leaves)


def _take_apart(items: Sequence[Any], classes: list[type], leaves: list[Any]) -> None:
    own = tuple(map(type, items))
    classes += own
    places = _tuples(own)
    if not places:
        leaves += items
        return
    first = 0
    for place in places:
        leaves += items[first:place]
        _take_apart(items[place], classes, leaves)
        first = place + 1
    leaves += items[first:]


@functools.lru_cache(maxsize=1000)
def _tuples(classes: Classes) -> list[int]:
    """Which of some classes are tuples."""
    return [place for place, cls in enumerate(classes) if issubclass(cls, tuple)]


def kinds_of(classes: Classes, leaves: Leaves) -> Kinds:
    """What machine code for some arguments depends on.

    Args:
        classes: From `take_apart`.
        leaves: From `take_apart`.

    Returns:
        The classes, and what kind of array each leaf is, if it is one.
    """
    arrays = [(a.dtype, a.ndim, *flags_of(a)) for a in leaves if type(a) is np.ndarray]
    return (classes, *arrays)


def flags_of(array: np.ndarray) -> tuple[int, int]:
    """What machine code depends on among an array's flags.

    Args:
        array: Any.

    Returns:
        Which flags count, and those of them that the array has. An array in C's order may be in
        Fortran's too, which does not count.
    """
    counting = ALIGNED | WRITEABLE | C_ORDER
    if not array.flags.c_contiguous:
        counting |= FORTRAN_ORDER
    return counting, array.flags.num & counting


def packer(leaves: Leaves) -> Packer | None:
    """Packs the numbers among leaves as machine code reads them: 8 bytes each.

    Args:
        leaves: Such as it will get.

    Returns:
        The function, which raises struct.error if an integer has more than 64 bits; None if only
        Numba knows what to do with such arguments.
    """
    if not all(type(leaf) in _NUMBERS or _is_plain_array(leaf) for leaf in leaves):
        return None
    places = [place for place, leaf in enumerate(leaves) if type(leaf) in _NUMBERS]
    pack = struct.Struct("<" + "".join(_NUMBERS[type(leaves[place])] for place in places)).pack
    if len(places) < 2:
        return lambda leaves: pack(*(leaves[place] for place in places))
    numbers = operator.itemgetter(*places)
    return lambda leaves: pack(*numbers(leaves))


def _is_plain_array(leaf: Any) -> bool:
    if type(leaf) is not np.ndarray or not leaf.flags.aligned:
        return False
    dtype = leaf.dtype
    is_usual = dtype.num == np.dtype(dtype.str).num and dtype.isnative  # not C's long long, say
    return dtype.kind in _ELEMENTS and is_usual and leaf.ndim > 0


def describe(classes: Classes, leaves: Leaves) -> str:
    """The kinds of arguments as a text that means the same in every process.

    Args:
        classes: From `take_apart`.
        leaves: From `take_apart`.

    Returns:
        Such as "int, float32 2d C".
    """
    waiting = iter(leaves)
    return ", ".join(
        _describe_tuple(cls) if issubclass(cls, tuple) else _describe(next(waiting))
        for cls in classes
    )


def _describe_tuple(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}{getattr(cls, '_fields', '')}"


def _describe(leaf: Any) -> str:
    if not isinstance(leaf, np.ndarray):
        return type(leaf).__name__
    order = "C" if leaf.flags.c_contiguous else "F" if leaf.flags.f_contiguous else "A"
    return f"{leaf.dtype.name} {leaf.ndim}d {order}{'' if leaf.flags.writeable else ' read-only'}"
