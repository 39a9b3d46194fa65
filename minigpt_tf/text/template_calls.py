"""What a method, filter or operator of a chat template would make, judged before it runs."""

import re
from collections.abc import Mapping
from typing import Any

from .template_limits import (
    COST_OF_A_VALUE,
    MOST_BITS,
    MOST_VALUES,
    Limits,
    TemplateLimit,
    length_of,
    size_of,
)

LARGEST_ARGUMENT = 1_000_000
"""Integers that say how much of something to make."""

_FREE = frozenset(
    {"default", "d", "namespace", "dict", "min", "max", "safe_range", "raise_exception"}
)
"""They take large numbers, and make nothing of that size."""
_APART = frozenset(
    {"list", "sort", "unique", "reverse", "batch", "slice", "map", "select", "reject", "join"}
    | {"split", "rsplit", "splitlines", "selectattr", "rejectattr", "groupby", "random", "sum"}
)
"""They may make a value of each character."""
_NO_LONGER = frozenset(
    {"split", "rsplit", "splitlines", "partition", "rpartition", "startswith", "endswith", "find"}
    | {"rfind", "index", "rindex", "count", "removeprefix", "removesuffix", "truncate", "default"}
    | {"d", "tojson", "raise_exception", "safe_range"}
)
"""What they make is no longer than what they are given; `tojson` checks its own arguments."""


def foresee_call(limits: Limits, name: str, subject: Any, arguments: list[Any]) -> None:
    """Judges a call of a method or filter.

    Args:
        limits: Of the rendering.
        name: The name of the method or filter.
        subject: What it is called on.
        arguments: The other arguments.

    Raises:
        TemplateLimit: It would make too much, or the rendering has taken too long.
    """
    limits.look(sum(len(value) for value in (subject, *arguments) if isinstance(value, str)))
    numbers = [abs(a) for a in arguments if isinstance(a, int)]
    if max(numbers, default=0) > LARGEST_ARGUMENT and name not in _FREE:
        raise TemplateLimit(f"{name or 'a call'} with a number above {LARGEST_ARGUMENT:,}")
    if name in _APART and isinstance(subject, str):
        limits.foresee(len(subject) * COST_OF_A_VALUE)
    if name in ("format", "format_map"):
        _foresee_format(limits, subject, arguments)
    elif name == "replace" and isinstance(subject, str):
        old, new = ([a for a in arguments if isinstance(a, str)] + ["", ""])[:2]
        limits.foresee(len(subject) + (subject.count(old) + 1) * len(new))
    elif name == "join":
        given, glue = (arguments, subject) if isinstance(subject, str) else (subject, arguments)
        items = given[0] if given is arguments and arguments else given
        length = len(items) if isinstance(items, list | tuple | Mapping | str | range) else 0
        limits.foresee(size_of(items) + length * size_of(glue))
    elif name not in _NO_LONGER:
        sizes = [*numbers, *(len(a) for a in arguments if isinstance(a, str))]
        limits.foresee((length_of(subject) + 1) * (1 + sum(sizes)))


def foresee_operation(limits: Limits, operator: str, left: Any, right: Any) -> None:
    """Judges an operation of two operands.

    Args:
        limits: Of the rendering.
        operator: One of + * ** %.
        left: The first operand.
        right: The second.

    Raises:
        TemplateLimit: It would make too much.
    """
    if operator == "*":
        _foresee_product(limits, left, right)
    elif operator == "**":
        whole = isinstance(left, int) and isinstance(right, int)
        if whole and left.bit_length() * abs(right) > MOST_BITS:
            raise TemplateLimit("it makes a number that is too long")
    elif operator == "%":
        if isinstance(left, str):
            _foresee_format(limits, left, right)
    elif not isinstance(left, int | float):
        limits.foresee(size_of(left) + size_of(right))


def _foresee_product(limits: Limits, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > MOST_BITS:
            raise TemplateLimit("it makes a number that is too long")
        return
    if isinstance(right, str | list | tuple):
        left, right = right, left
    if isinstance(left, str | list | tuple) and isinstance(right, int):
        if not isinstance(left, str) and len(left) * right > MOST_VALUES:
            raise TemplateLimit(f"it makes more than {MOST_VALUES:,} values")
        limits.foresee(size_of(left) * max(0, right))


_NESTED_FIELD = re.compile(r"\{[^{}]*\{|%[^a-zA-Z%]*\*")
_NUMBER = re.compile(r"[0-9]+")


def _foresee_format(limits: Limits, form: Any, values: Any) -> None:
    """Of '{:9}'.format(...) and '%9d' % ...: no width but such as stand in the text itself."""
    form = str(form)
    if _NESTED_FIELD.search(form):
        raise TemplateLimit("a format with a width from elsewhere")
    width = max((int(n[:9]) for n in _NUMBER.findall(form)), default=0)
    given = values if isinstance(values, list | tuple) else [values]
    limits.foresee((len(form) + 1) * (1 + width) + len(form) * sum(map(size_of, given)))
