"""Layouts of JSON that people have -> a list of records: splits, columns, and pandas's own."""

from collections.abc import Sequence
from typing import Any

from ..errors import DataError
from ..files.json_values import DuplicateName
from ..files.notes import Notes
from .schema import NAMES

SPLITS = ("train", "training", "train_sft", "train_prefs", "data", "records", "rows", "examples")
"""Names of the list that is read where an object has several."""

KNOWN = NAMES | {"conversations", "conversation", "completion", "contents"}
"""Names that records have."""


_TURNS = ("prompt", "completion", "chosen", "rejected", "preferred_output", "non_preferred_output")
"""Names of parts of a record that may be lists of messages."""


def entries_of(value: Any, notes: Notes) -> list[Any]:
    """The records in the one value of a JSON file.

    Args:
        value: A list of records, or an object that has one: as splits, as columns, or as pandas
            writes tables with any `orient`.
        notes: Gets what is not read.

    Returns:
        The records, in their order.

    Raises:
        DataError: There is no list of records, or several; the message names the layout.

    Example:
        >>> entries_of({"text": ["one", "two"], "label": ["a", "b"]}, Notes())
        [{'text': 'one', 'label': 'a'}, {'text': 'two', 'label': 'b'}]
    """
    if isinstance(value, list):
        return _of_list(value)
    if isinstance(value, DuplicateName):
        raise DataError(f"the name {value.name!r:.40} is in it twice: keep one")
    if not isinstance(value, dict) or not value:
        raise DataError(
            "is not a list of records: expected [{...}, {...}], or an object with one list"
        )
    if _is_split(value):
        return _table(value["columns"], value["data"])
    if _is_record(value):
        return [value]
    if _are_columns(value):
        return _of_columns(value, notes)
    return _of_object(value, notes)


def _of_list(value: list[Any]) -> list[Any]:
    """The records of a list; of a list of lists, the first may be a header."""
    if len(value) > 1 and all(isinstance(row, list) for row in value):
        if all(_are_messages(row) for row in value):
            return [{"messages": row} for row in value]
        header = value[0]
        if all(isinstance(name, str) for name in header) and _known(header):
            return _table(header, value[1:])
        raise DataError(
            "is a list of lists without names (pandas: orient='values'): save it with "
            "orient='records'"
        )
    return [_inner(entry) for entry in value]


def _are_messages(row: Any) -> bool:
    """Whether a list is a conversation."""
    return isinstance(row, list) and all(
        isinstance(item, dict) and ("role" in item or "from" in item) for item in row
    )


def _inner(entry: Any) -> Any:
    """An entry without what the Hugging Face Hub's server puts around it."""
    if isinstance(entry, dict) and "row_idx" in entry and isinstance(entry.get("row"), dict):
        return entry["row"]
    return entry


def _known(names: Sequence[str]) -> int:
    return sum(name.strip().lower() in KNOWN for name in names if isinstance(name, str))


def _is_record(value: dict[str, Any]) -> bool:
    """Whether an object is one record, not a table."""
    for name in ("messages", "conversations", "contents"):
        found = value.get(name)
        if isinstance(found, list) and found and all(isinstance(item, dict) for item in found):
            return any(key in found[0] for key in ("role", "from", "content", "value"))
    turns = [value.get(name) for name in _TURNS]
    lists = [item for item in turns if isinstance(item, list)]
    if lists:
        return all(isinstance(turn, dict) and "role" in turn for item in lists for turn in item)
    texts = [name for name, item in value.items() if isinstance(item, str)]
    return _known(texts) > 1


def _is_split(value: dict[str, Any]) -> bool:
    """Whether an object is a table as pandas writes it with orient='split'."""
    columns, rows = value.get("columns"), value.get("data")
    return (
        isinstance(columns, list)
        and isinstance(rows, list)
        and all(isinstance(name, str) for name in columns)
        and all(isinstance(row, list) for row in rows)
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows of values under the names of columns."""
    return [dict(zip(columns, row, strict=False)) for row in rows]


def _are_columns(value: dict[str, Any]) -> bool:
    """Whether every name has the values of all records: a list, or an object by row numbers."""
    lists = {name: item for name, item in value.items() if isinstance(item, list)}
    if _known(list(lists)) and (len(lists) == len(value) or len(lists) > 1):
        return not all(isinstance(entry, dict) for item in lists.values() for entry in item)
    objects = [item for item in value.values() if isinstance(item, dict)]
    if len(objects) < len(value) or not _known(list(value)):
        return False
    return all(item.keys() == objects[0].keys() for item in objects)


def _of_columns(value: dict[str, Any], notes: Notes) -> list[dict[str, Any]]:
    """Records out of columns. What is not a column is about the whole file."""
    for name in [name for name, item in value.items() if not isinstance(item, (list, dict))]:
        notes.leave_out("value beside the columns", name=name)
        value = {other: item for other, item in value.items() if other != name}
    sizes = {name: len(item) for name, item in value.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name!r:.30} {size:,}" for name, size in list(sizes.items())[:6])
        raise DataError(f"has columns of different lengths ({shown}): give each as many values")
    columns = [list(i.values()) if isinstance(i, dict) else i for i in value.values()]
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def _of_object(value: dict[str, Any], notes: Notes) -> list[Any]:
    """Records out of an object with lists, or one that numbers its records."""
    lists = {
        name: item
        for name, item in value.items()
        if isinstance(item, list) and any(isinstance(entry, dict) for entry in item)
    }
    name = next((name for name in SPLITS if name in lists), None)
    if len(lists) == 1:
        (name,) = lists
    if name is not None:
        for other, item in lists.items():
            if other != name and other not in ("fields", "features"):
                notes.leave_out(f"record of the list {other!r:.30}", len(item))
        return _of_list(lists[name])
    if lists:
        shown = ", ".join(f"{name!r:.30}: {len(item):,}" for name, item in lists.items())
        raise DataError(f"holds several lists of records ({shown}): keep the one with the records")
    objects = [item for item in value.values() if isinstance(item, dict)]
    if len(objects) == len(value) and all(_known(list(item)) for item in objects):
        if not all(_is_column_of(item) for item in objects):
            return objects  # pandas: orient='index'
        name = next((name for name in SPLITS if name in value), next(iter(value)))
        for other in value.keys() - {name}:
            notes.leave_out("table", name=other)
        return entries_of(value[name], notes)
    if len(objects) == 1 and len(value) <= 3:
        return entries_of(objects[0], notes)
    plain = {name: item for name, item in value.items() if isinstance(item, list)}
    if len(plain) == 1:
        return _of_list(*plain.values())
    if plain:
        shown = ", ".join(f"{name!r:.30}" for name in plain)
        raise DataError(f"holds several lists ({shown}): keep the one with the records")
    raise DataError(
        "is not a list of records: expected [{...}, {...}], an object with one list, or columns "
        'such as {"instruction": [...], "output": [...]}'
    )


def _is_column_of(item: dict[str, Any]) -> bool:
    return all(isinstance(value, list) for value in item.values())
