"""JSON and JSONL: text -> values, for texts and for records alike."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from ..errors import DataError

SAMPLE = 1 << 16
"""So many characters show whether a file is JSONL."""


class DuplicateName(dict):
    """An object of a file in which a name is a duplicate: which value is meant is unknown."""

    name: str


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
    names = [name for name, _ in pairs]
    duplicate.name = next(name for name in names if names.count(name) > 1)
    return duplicate


_DECODER = json.JSONDecoder(object_pairs_hook=as_object)


def parse_json(text: str, line: int = 1) -> Any:
    """The value of a JSON text.

    Args:
        text: The text.
        line: The line of its file in which it begins, for errors.

    Returns:
        The value, with objects as `as_object` makes them.

    Raises:
        DataError: It is not JSON, or is nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = error.lineno + line - 1
        raise DataError(f"is not valid JSON (line {place}: {error.msg})") from None
    except RecursionError:
        raise DataError("is JSON nested too deeply to read") from None


def parse_json_lines(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """The values of JSONL.

    Args:
        lines: The lines without their ends; they may come from a file that is read meanwhile.

    Returns:
        (line, value) of each line that is not blank, counted from 1.

    Raises:
        DataError: A line is not JSON.

    Example:
        >>> from minigpt_tf.files.json_values import parse_json_lines
        >>> list(parse_json_lines(['{"a": 1}', "", "[2]"]))
        [(1, {'a': 1}), (3, [2])]
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, parse_json(line, number)


def parse_json_file(text: str) -> tuple[Literal["file", "line"], list[tuple[int, Any]]]:
    """The value of a .json file; the values of its lines where it is JSONL under that name.

    Args:
        text: All of the file.

    Returns:
        "file" and its one value, or "line" and the values of the lines, each with its line.

    Raises:
        DataError: It is neither.
    """
    try:
        return "file", [(1, parse_json(text))]
    except DataError:
        if not _is_json_lines(text):
            raise
        return "line", list(parse_json_lines(text.split("\n")))


def _is_json_lines(text: str) -> bool:
    """Whether a text that is not JSON has a JSON object in each of its first lines."""
    lines = [line for line in text[:SAMPLE].split("\n") if line.strip()][:2]
    try:
        return len(lines) > 1 and all(isinstance(parse_json(line), dict) for line in lines)
    except DataError:
        return False
