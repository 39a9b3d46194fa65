"""What one rendering of a chat template may still do: work, memory, depth.

A template is a program of a stranger. Jinja's sandbox keeps it from everything but the messages; it
does not keep it from 9 ** 9 ** 9, from 'a'.center(10 ** 10), or from macros that call themselves
twice. So every operation that takes time or makes something is counted before and after it runs.
"""

import time
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import Any

from jinja2.utils import Namespace

LIMITS = "\0limits"
"""The name of a rendering's Limits in its context: no template can say it."""

MOST_WORK = 100_000_000
"""Characters, and values times COST_OF_A_VALUE, that a template makes in all; and MORE_WORK for
each that it gets."""
MORE_WORK = 200
COST_OF_A_VALUE = 16
MOST_ROUNDS = 300_000
"""Rounds of all loops of a template together: those of models need a few for each message."""
MOST_SECONDS = 1.0
"""Of the processor; templates of models need some thousandths."""
MOST_VALUES = 1_000_000
"""In one list or mapping, with all that is in it."""
DEEPEST = 200
"""Lists in lists."""
MOST_BITS = 10_000
"""Of an integer; str() writes at most 4,300 digits of one."""


class TemplateLimit(Exception):
    """A template wants more than there is."""


class Limits:
    """What one rendering may still do.

    Args:
        given: Characters and values that the template gets.
        marks: Characters in the messages that stand for others, and these.
    """

    def __init__(self, given: int, marks: Mapping[int, str]) -> None:
        self.marks = marks
        self.work, self.rounds = MOST_WORK + MORE_WORK * given, MOST_ROUNDS
        self._end = time.thread_time() + MOST_SECONDS
        self._until_look = 0

    def round(self, size: int) -> None:
        """Counts a round of a loop that writes so many characters."""
        self.rounds -= 1
        if self.rounds < 0:
            raise TemplateLimit(f"its loops run beyond {MOST_ROUNDS:,} rounds")
        self.charge(size)

    def charge(self, size: int) -> None:
        """Counts what is made; raises TemplateLimit where it is too much."""
        self.foresee(size)
        self.work -= size
        self.look(size)

    def look(self, size: int) -> None:
        """Counts work that makes nothing, and from time to time looks at the clock."""
        self._until_look -= size + 1000
        if self._until_look < 0:
            self._until_look = 200_000
            if time.thread_time() > self._end:
                raise TemplateLimit(f"it takes longer than {MOST_SECONDS:g} s")

    def foresee(self, size: float) -> None:
        """Raises TemplateLimit where something of this size would be too much."""
        if size > self.work:
            raise TemplateLimit("it makes too much text")

    def made(self, value: Any) -> Any:
        """Counts a value and returns it."""
        self.charge(size_of(value))
        return value


def size_of(value: Any) -> int:
    """The size of a value, in characters; raises TemplateLimit where it is too large or too deep.

    What is in it more than once counts more than once, as it is written so.
    """
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, int):
        if value.bit_length() > MOST_BITS:
            raise TemplateLimit("it makes a number that is too long")
        return COST_OF_A_VALUE
    size = count = 0
    left = [(value, 0)]
    while left:
        item, depth = left.pop()
        count += 1
        if isinstance(item, str):
            size += len(item)
        elif (inner := _inside(item)) is not None:
            if depth > DEEPEST:
                raise TemplateLimit(f"it makes lists that are {DEEPEST} deep")
            if count + len(left) + len(inner) > MOST_VALUES:
                raise TemplateLimit(f"it makes more than {MOST_VALUES:,} values")
            left += [(value, depth + 1) for value in inner]
    return size + count * COST_OF_A_VALUE


def length_of(value: Any) -> int:
    """The length of a text, list or mapping; 0 for anything else."""
    return len(value) if isinstance(value, str | list | tuple | Mapping) else 0


def _inside(value: Any) -> Any:
    """What a list or mapping has; None of anything else."""
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    if isinstance(value, Namespace):
        return [*value._Namespace__attrs.values()]
    if isinstance(value, list | tuple | set | frozenset | KeysView | ValuesView | ItemsView):
        return value
    return None
