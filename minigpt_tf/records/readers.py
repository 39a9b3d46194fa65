"""Files of records -> rows of named values: JSON, JSONL, CSV, TSV, XLSX, plain text, databases.

What the values mean is not known here; a row that is unsound in itself carries the reason.
"""

import json
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import RecordsConfig
from ..errors import DataError
from ..files.database import DATABASE_ENDINGS, read_query
from ..files.sources import is_url
from .raw import RawRow, RawTable, text_of
from .tables import cells_of, read_csv, read_xlsx, table_of

Reader = Callable[[Path, RecordsConfig, Container[str]], RawTable]

SAMPLE = 1 << 16
"""So many characters tell whether a file is JSONL."""


def read_rows(source: str | Path, config: RecordsConfig, names: Container[str]) -> RawTable:
    """The rows of a file, or of a query on a database.

    `names`: the lower-case names by which a table's header is known. Raises DataError that names
    the source, and the line where there is one.
    """
    if is_url(str(source)) or Path(source).suffix.lower() in DATABASE_ENDINGS:
        found = read_query(str(source), config.query)
        rows = [RawRow(number, values) for number, values in enumerate(found, start=1)]
        return RawTable(str(source), "row", rows, plain_cells=True)
    path = Path(source)
    if config.query is not None:
        raise DataError(
            f"{path}: --query asks a database: give --data sqlite:///FILE, or drop --query"
        )
    for option, given, endings in (
        ("--sheet", config.sheet is not None, (".xlsx",)),
        ("--quoting", config.quoting != RecordsConfig.quoting, (".csv", ".tsv", ".txt")),
    ):
        if given and path.suffix.lower() not in endings:
            raise DataError(f"{path}: {option} is for files ending in {' '.join(endings)}: drop it")
    return read_file(path, READERS, config, names, also=("sqlite:///FILE",))


def read_file(
    path: Path,
    readers: Mapping[str, Reader],
    config: RecordsConfig,
    names: Container[str],
    also: Sequence[str] = (),
) -> RawTable:
    """The rows of a file, by the one of `readers` that belongs to its ending.

    `also`: what could be named instead of a file, for the error. Otherwise as `read_rows`.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder: name the file with the records")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    ending = path.suffix.lower()
    if ending not in readers:
        kind = f"files ending in {path.suffix}" if path.suffix else "files without an ending"
        known = " ".join([*readers, *also])
        raise DataError(f"{path}: {kind} are not read (readable: {known})")
    if not path.is_file():
        raise DataError(f"{path}: is not a regular file")
    try:
        return readers[ending](path, config, names)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:  # what parsers raise on damage
        raise DataError(f"{path}: is damaged: {error}") from None


# JSON and JSONL

NO_OBJECT = "it is no object of names and values"


class DoubledName(dict):
    """An object of a JSON file in which a name stands twice: which value is meant is not known."""

    name: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """What `json` makes of an object."""
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    doubled = DoubledName(values)
    names = [name for name, _ in pairs]
    doubled.name = next(name for name in names if names.count(name) > 1)
    return doubled


def _parse(text: str, line: int = 1) -> Any:
    """The value of a JSON text that begins in `line` of its file. Raises DataError."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        place = error.lineno + line - 1
        raise DataError(f"is not valid JSON (line {place}: {error.msg})") from None
    except RecursionError:
        raise DataError("is JSON nested too deeply to read") from None


def _row_of(number: int, value: Any) -> RawRow:
    """A row from any value of a JSON file."""
    if isinstance(value, str):
        return RawRow(number, {}, NO_OBJECT, text=value)
    if isinstance(value, DoubledName):
        return RawRow(number, value, f"the name {value.name!r:.40} stands twice in it")
    if not isinstance(value, dict):
        return RawRow(number, {}, NO_OBJECT)
    return RawRow(number, value)


def read_json(path: Path, config: RecordsConfig, names: Container[str]) -> RawTable:
    """The entries of a list of JSON."""
    text = text_of(path, config)
    if not text.strip():
        raise DataError("is empty")
    try:
        value = _parse(text)
    except DataError:
        if not _is_jsonl(text):
            raise
        return _jsonl_table(path, text)
    rows = [_row_of(number, item) for number, item in enumerate(_list_in(value), start=1)]
    return RawTable(str(path), "entry", rows)


def _list_in(value: Any) -> list[Any]:
    """The list that a JSON file is, or that stands alone in its object. Raises DataError."""
    if isinstance(value, list):
        return value
    if isinstance(value, DoubledName):
        raise DataError(f"the name {value.name!r:.40} stands twice in it: keep one")
    named = value if isinstance(value, dict) else {}
    lists = [name for name in named if isinstance(named[name], list)]
    if len(lists) == 1:
        return named[lists[0]]
    if lists:
        found = ", ".join(map(repr, lists))
        raise DataError(f"holds several lists ({found}): keep the one with the records")
    raise DataError("is not a list of records: expected [{...}, {...}], or an object with one list")


def _is_jsonl(text: str) -> bool:
    """Whether a text that is no JSON has a JSON object in each of its first lines."""
    lines = [line for line in text[:SAMPLE].split("\n") if line.strip()][:2]
    try:
        return len(lines) > 1 and all(isinstance(_parse(line), dict) for line in lines)
    except DataError:
        return False


def read_jsonl(path: Path, config: RecordsConfig, names: Container[str]) -> RawTable:
    """A row for each line of JSON."""
    return _jsonl_table(path, text_of(path, config))


def _jsonl_table(path: Path, text: str) -> RawTable:
    """A row for each line that is not blank."""
    lines = enumerate(text.split("\n"), start=1)
    rows = [_row_of(number, _parse(line, number)) for number, line in lines if line.strip()]
    return RawTable(str(path), "line", rows)


# Plain text

STYLES = (
    {"q": "instruction", "a": "output"},
    {"question": "instruction", "answer": "output"},
    {"instruction": "instruction", "input": "input", "output": "output"},
    {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    {"label": "label", "text": "text"},
)
"""The words that begin a field of a record in plain text, each with a colon behind it."""

_FIELD = re.compile(r"(?:#{1,6}[ \t]*)?([A-Za-z]+)[ \t]*:(.*)")

TEXT_HELP = (
    'expected "Q: ..." and "A: ..." (or Instruction, Input, Output, with a colon) at the starts of '
    "lines, or lines of a label, a tab and a text"
)


def _read_text(path: Path, config: RecordsConfig, names: Container[str]) -> RawTable:
    """Records written out, or lines of label, tab and text.

    A line that begins with the file's first word, such as "Q:", begins a record; every field goes
    on to the next such word, over blank lines too.
    """
    text = text_of(path, config)
    lines = text.split("\n")
    filled = [line for line in lines if line.strip()]
    if not filled:
        raise DataError("is empty")
    found = _FIELD.fullmatch(filled[0])
    style = next((s for s in STYLES if found and found[1].lower() in s), None)
    if style is not None and found is not None:
        return RawTable(str(path), "line", list(_written_out(lines, style, found[1].lower())))
    if all("\t" in line for line in filled[:100]):
        quoting = "never" if config.quoting == "auto" else config.quoting
        return table_of(path, "line", cells_of(text, "\t", quoting), config, names)
    raise DataError(f"holds no records: {TEXT_HELP}")


def _written_out(lines: list[str], style: dict[str, str], first: str) -> Iterator[RawRow]:
    """The records of plain text, of which each begins with the word `first`."""
    begins, fields = 0, []  # the record's line, and its (name, lines)
    for number, line in enumerate(lines, start=1):
        found = _FIELD.fullmatch(line)
        word = found[1].lower() if found else ""
        if found is None or word not in style:
            if fields:
                fields[-1][1].append(line)
            continue
        if word == first:
            if fields:
                yield _record_of(begins, fields)
            begins, fields = number, []
        fields.append((style[word], [found[2]]))
    if fields:
        yield _record_of(begins, fields)


def _record_of(number: int, fields: list[tuple[str, list[str]]]) -> RawRow:
    pairs = [(name, "\n".join(lines).strip()) for name, lines in fields]
    return _row_of(number, _object(pairs))


READERS: dict[str, Reader] = {
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".tab": read_csv,
    ".xlsx": read_xlsx,
    ".txt": _read_text,
}
"""What reads a file, by its ending."""
