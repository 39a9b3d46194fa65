"""What the machine code of a function was made from, so that old code is noticed.

That is the Python code of all functions that it calls, directly or not, the constants that they
use, and what closures enclose: as they are in memory, whatever has become of their files.
"""

import hashlib
from collections.abc import Iterator
from enum import Enum
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

PACKAGE = __name__.partition(".")[0]


class UnknownValue(Exception):
    """A value that a function uses, and of which nothing lasting can be said."""


def identity(function: FunctionType) -> str:
    """Which function this is, with the values that it encloses.

    Args:
        function: Perhaps made by another one, such as `compiled_step.<locals>.decode`.

    Returns:
        A text that is the same in every process.

    Raises:
        UnknownValue: A value that it encloses is neither a number, a text, an array nor a function.
    """
    names, cells = function.__code__.co_freevars, function.__closure__ or ()
    enclosed = [
        f"{name}={_text(cell.cell_contents)}" for name, cell in zip(names, cells, strict=True)
    ]
    return f"{function.__module__}.{function.__qualname__}({', '.join(enclosed)})"


def _text(value: Any) -> str:
    """A value as a text that is the same in every process."""
    if isinstance(value, Enum):
        return f"{_text(value.value)} of {type(value).__qualname__}"
    if isinstance(value, (bool, int, float, str, bytes, np.generic)):
        return repr(value)
    if value is None or value is ...:
        return repr(value)
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest = hashlib.sha256(value.tobytes()).hexdigest()
        return f"array({value.dtype.str}, {value.shape}, {digest})"
    if isinstance(value, CodeType):
        return _code_text(value)
    if isinstance(value, type):
        members = list(value) if issubclass(value, Enum) else getattr(value, "_fields", ())
        return f"{value.__module__}.{value.__qualname__}{_text(members)}"
    if isinstance(function := python_function(value), FunctionType):
        return identity(function)
    raise UnknownValue(repr(value))


def _code_text(code: CodeType) -> str:
    """All of a code object but where it stands in its file."""
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_kwonlyargcount, code.co_flags)
    return f"{code.co_code!r} {names} {counts} {_text(code.co_consts)}"


def python_function(value: Any) -> Any:
    """The function in Python that decorators have wrapped, if any."""
    while hasattr(value, "__wrapped__"):
        value = value.__wrapped__
    return value


def origin(function: FunctionType) -> str:
    """A hash of all that a function's machine code is made from.

    Args:
        function: In Python.

    Returns:
        SHA-256 as a text.
    """
    found = []
    waiting, seen = [function], {id(function)}
    while waiting:
        current = waiting.pop()
        found.append(f"{identity(current)} {_code_text(current.__code__)} {current.__defaults__}")
        for name, value in _used_values(current):
            called = python_function(value)
            if not isinstance(called, FunctionType):
                try:
                    found.append(f"{name}={_text(value)}")
                except UnknownValue:
                    continue  # such as a module
            elif id(called) not in seen and _is_ours(called, function):
                seen.add(id(called))
                waiting.append(called)
    return hashlib.sha256("\n".join(found).encode("utf-8", "surrogatepass")).hexdigest()


def _is_ours(called: FunctionType, function: FunctionType) -> bool:
    return (called.__module__ or "").startswith((PACKAGE, function.__module__ or PACKAGE))


def _used_values(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """(name, value) of what the function's code names, and of what it encloses."""
    for cell in function.__closure__ or ():
        yield "", cell.cell_contents
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        for name in code.co_names:
            value = function.__globals__.get(name)
            yield name, value
            if isinstance(value, ModuleType) and value.__name__.startswith(PACKAGE):
                yield from ((other, vars(value).get(other)) for other in code.co_names)
        codes += [const for const in code.co_consts if isinstance(const, CodeType)]
