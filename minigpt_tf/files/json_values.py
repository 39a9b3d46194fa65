"""JSON and JSONL: text -> values, for texts and for records alike."""

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from ..errors import DataError
from .notes import Notes

_BETWEEN = re.compile(r"[\s,\ufeff\x1e]*")
"""What may stand between two values of a file: also marks that joined files leave in the middle."""


class NumberText(str):
    """A number as it is written in its file: 0.10, and integers of any length."""


class DuplicateName(dict):
    """An object of a file in which a name is a duplicate: which value is meant is unknown."""

    name: str


class Pairs(list):
    """An object of a file as its names and values, for who wants all of them."""


def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its names and values.

    Args:
        pairs: The names and values in their order.

    Returns:
        A dict; a DuplicateName where a name comes twice, with the last value.
    """
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    duplicate = DuplicateName(values)
    counts = Counter(name for name, _ in pairs)
    duplicate.name = next(name for name, _ in pairs if counts[name] > 1)
    return duplicate


_DECODER = json.JSONDecoder(
    object_pairs_hook=as_object, parse_int=NumberText, parse_float=NumberText
)


def parse_json(text: str, line: int = 1) -> Any:
    """The value of a JSON text.

    Args:
        text: The text.
        line: The line of its file in which it begins, for errors.

    Returns:
        The value, with objects as `as_object` makes them and numbers as NumberText.

    Raises:
        DataError: It is not JSON, or is nested too deeply.
    """
    (_, value), *more = _sequence(text, line, _DECODER)
    if more:
        raise DataError(f"is not valid JSON (line {line}: more than one value)")
    return value


def _sequence(text: str, line: int, decoder: json.JSONDecoder) -> list[tuple[int, Any]]:
    """The values that follow each other in a text, at least one, with their lines."""
    values: list[tuple[int, Any]] = []
    place = _start_of_next(text, 0)
    counted = 0
    while place < len(text) or not values:
        line += text.count("\n", counted, place)
        counted = place
        try:
            value, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            end = min(error.pos, len(text.rstrip()))  # of a text that ends too early: its last line
            wrong = line + text.count("\n", counted, max(counted, end))
            raise DataError(f"is not valid JSON (line {wrong}: {error.msg})") from None
        except RecursionError:
            raise DataError("is JSON nested too deeply to read") from None
        values.append((line, value))
        place = _start_of_next(text, place)
    return values


def _start_of_next(text: str, place: int) -> int:
    found = _BETWEEN.match(text, place)
    return found.end() if found else place


def parse_json_lines(
    lines: Iterable[str], decoder: json.JSONDecoder = _DECODER
) -> Iterator[tuple[int, Any]]:
    """The values of JSONL.

    Args:
        lines: The lines without their ends; they may come from a file that is read meanwhile.
        decoder: What reads a value.

    Returns:
        (line, value) of each value, the lines counted from 1. Where the first line is not JSON by
        itself, values may be spread over lines, as programs write them that lay JSON out.

    Raises:
        DataError: A line is not JSON.

    Example:
        >>> from minigpt_tf.files.json_values import parse_json_lines
        >>> list(parse_json_lines(['{"a": "b"}', "", '["c"]']))
        [(1, {'a': 'b'}), (3, ['c'])]
    """
    begun = False
    lines = iter(lines)
    for number, line in enumerate(lines, start=1):
        if not line.strip("\ufeff\x1e \t\r\n\v\f"):
            continue
        try:
            values = _sequence(line, number, decoder)
        except DataError:
            if begun or line.lstrip("\ufeff \t")[:1] not in ("{", "["):
                raise
            values = _spread(line, lines, number, decoder)
        begun = True
        yield from values


def _spread(
    line: str, lines: Iterator[str], number: int, decoder: json.JSONDecoder
) -> list[tuple[int, Any]]:
    """The values of a file that begin in its first line, and end further down."""
    rest = "\n".join([line, *lines])
    return _sequence(rest, number, decoder)


def parse_json_file(text: str) -> tuple[Literal["file", "line", "entry"], list[tuple[int, Any]]]:
    """The values of a .json or .jsonl file: one, or several that follow each other.

    Args:
        text: All of the file.

    Returns:
        "file" and its one value; "line" and values with the lines in which they begin; "entry" and
        values that are counted, where several begin in one line.

    Raises:
        DataError: It is not JSON.
    """
    values = _sequence(text, 1, _DECODER)
    if len(values) == 1:
        return "file", values
    if len({line for line, _ in values}) == len(values):
        return "line", values
    return "entry", [(number, value) for number, (_, value) in enumerate(values, start=1)]


def json_texts(lines: Iterable[str], notes: Notes) -> Iterator[str]:
    """What a person reads in the values of JSON or JSONL: strings, numbers, true and false.

    Args:
        lines: The file's lines, without their ends.
        notes: Gets the names, and the values that are not a number (NaN), which are left out.

    Yields:
        The texts, in their order.

    Raises:
        DataError: It is not JSON.

    Example:
        >>> list(json_texts(['{"question": "How many days?", "answer": 30}'], Notes()))
        ['How many days?', '30']
    """
    names: dict[str, None] = {}
    not_a_number = functools.partial(_constant, notes=notes)
    decoder = json.JSONDecoder(
        object_pairs_hook=Pairs,
        parse_int=NumberText,
        parse_float=NumberText,
        parse_constant=not_a_number,
    )
    for _, value in parse_json_lines(lines, decoder):
        yield from _texts(_rows_of_columns(value), names)
    for name in names:
        notes.leave_out("name of values", name=name)


def _rows_of_columns(value: Any) -> Any:
    """A table that is written column by column, row by row; any other value as it is."""
    if not isinstance(value, Pairs) or len(value) < 2:
        return value
    columns = [column for _, column in value]
    if all(isinstance(column, Pairs) for column in columns):  # by the numbers of the rows
        numbers = [[key for key, _ in column] for column in columns]
        if any(other != numbers[0] for other in numbers):
            return value
        columns = [[item for _, item in column] for column in columns]
    if not all(isinstance(c, list) and len(c) == len(columns[0]) > 1 for c in columns):
        return value
    if any(isinstance(item, list) for column in columns for item in column):
        return value
    titles = [title for title, _ in value]
    return [Pairs(zip(titles, row, strict=True)) for row in zip(*columns, strict=True)]


def _constant(name: str, notes: Notes) -> str | None:
    if name == "NaN":
        notes.leave_out("value NaN")
        return None
    return name


def _texts(value: Any, names: dict[str, None]) -> Iterator[str]:
    """The texts in a value. Names of its objects are added to `names`."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, bool):
            yield "true" if value else "false"
        elif isinstance(value, Pairs):
            names.update(dict.fromkeys(name for name, _ in value))
            waiting += [item for _, item in reversed(value)]
        elif isinstance(value, list):
            waiting += reversed(value)
