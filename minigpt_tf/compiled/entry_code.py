"""The function in LLVM's language that Python calls: it checks the arrays, and calls Numba's.

Numba's function takes an array as its owner (twice), size, bytes of an element, data, shape and
strides. They are read from the array itself, whose kind is compared with that of an example before.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .arguments import flags_of
from .machine_code import (
    BYTE_ORDER,
    DATA,
    DIMENSIONS,
    DTYPE,
    FLAGS,
    ITEMS,
    OTHER_ARRAYS,
    SHAPE,
    STRIDES,
    TYPE_NUMBER,
    UnsupportedCode,
)

ENTRY = "minigpt_entry"


def entry_code(name: str, declared: str, leaves: list[Any]) -> str:
    """The function ENTRY.

    Args:
        name: The symbol of Numba's function.
        declared: Its type, as LLVM writes it.
        leaves: For each leaf an array such as it will be, or LLVM's type of a number.

    Returns:
        A module in LLVM's language.

    Raises:
        UnsupportedCode: The function's type is not what follows from the leaves.
    """
    lines: list[str] = []
    passed = [("ptr", "%result"), ("ptr", "%exception")]
    numbers = 0
    for index, leaf in enumerate(leaves):
        value = f"%leaf{index}"
        if isinstance(leaf, np.ndarray):
            lines += _load(value, "ptr", "%leaves", ITEMS + 8 * index)
            lines += _check(value, leaf)
            passed += _passed_array(value, leaf, lines)
        else:
            lines += _load(value, leaf, "%numbers", 8 * numbers)
            passed.append((leaf, value))
            numbers += 1
    kinds = ", ".join(kind for kind, _ in passed)
    if declared.replace(" ", "") != f"i32({kinds})".replace(" ", ""):
        raise UnsupportedCode(f"called in an unknown way: {declared}")
    return "\n".join(
        [
            f'declare i32 @"{name}"({kinds})',
            f"define i32 @{ENTRY}(ptr %leaves, ptr %numbers, ptr %result) {{",
            "%exception = alloca i64",
            *lines,
            f'%status = call i32 @"{name}"({", ".join(map(" ".join, passed))})',
            "ret i32 %status",
            "other:",
            f"ret i32 {OTHER_ARRAYS}",
            "}",
        ]
    )


def _load(value: str, kind: str, address: str, offset: int) -> list[str]:
    """Lines that compute `value` from memory."""
    return [
        f"{value}.at = getelementptr i8, ptr {address}, i64 {offset}",
        f"{value} = load {kind}, ptr {value}.at",
    ]


def _check(value: str, array: np.ndarray) -> Iterator[str]:
    """Lines that leave if an array is of another kind than this one."""
    yield from _load(f"{value}.dtype", "ptr", value, DTYPE)
    facts = (
        ("flags", value, FLAGS, "i32", *flags_of(array)),
        ("dimensions", value, DIMENSIONS, "i32", -1, array.ndim),
        ("number", f"{value}.dtype", TYPE_NUMBER, "i32", -1, array.dtype.num),
        ("order", f"{value}.dtype", BYTE_ORDER, "i8", -1, ord(array.dtype.byteorder)),
    )
    for name, address, offset, kind, mask, expected in facts:
        yield from _load(f"{value}.{name}", kind, address, offset)
        yield f"{value}.{name}.seen = and {kind} {value}.{name}, {mask}"
        yield f"{value}.{name}.same = icmp eq {kind} {value}.{name}.seen, {expected}"
        label = f"{value}.{name}.next"
        yield f"br i1 {value}.{name}.same, label {label}, label %other"
        yield f"{label.removeprefix('%')}:"


def _passed_array(value: str, array: np.ndarray, lines: list[str]) -> list[tuple[str, str]]:
    """What Numba's function takes of an array: (LLVM's type, value) each. Adds lines."""
    lines += _load(f"{value}.data", "ptr", value, DATA)
    sizes: list[tuple[str, str]] = []
    items = "1"
    for field, offset in (("shape", SHAPE), ("strides", STRIDES)):
        lines += _load(f"{value}.{field}", "ptr", value, offset)
        for axis in range(array.ndim):
            lines += _load(f"{value}.{field}{axis}", "i64", f"{value}.{field}", 8 * axis)
            sizes.append(("i64", f"{value}.{field}{axis}"))
    for axis in range(array.ndim):
        lines.append(f"{value}.items{axis} = mul i64 {items}, {value}.shape{axis}")
        items = f"{value}.items{axis}"
    owners = [("ptr", "null"), ("ptr", "null")]
    return [
        *owners,
        ("i64", items),
        ("i64", str(array.itemsize)),
        ("ptr", f"{value}.data"),
        *sizes,
    ]
