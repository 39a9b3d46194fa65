"""Files of records -> rows of named values: JSON, JSONL, CSV, TSV, XLSX, plain text, databases.

What the values mean is for `reading.py`; a row that is unsound in itself carries the reason.
"""

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import RecordsConfig
from ..errors import DataError
from ..files.database import DATABASE_ENDINGS, read_query
from ..files.decoding import read_text
from ..files.json_values import DuplicateName, as_object, parse_json_file
from ..files.notes import Notes
from ..files.sources import is_url
from ..files.tables import HEAD, find_delimiter, read_table, split_cells
from .conversations import is_message
from .layouts import entries_of
from .tables import Table, TableRow, name_finder, read_csv, read_xlsx, table_of

Reader = Callable[[Path, RecordsConfig, Container[str]], Table]


def read_rows(source: str | Path, config: RecordsConfig, names: Container[str]) -> Table:
    """The rows of a file, or of a query on a database.

    Args:
        source: The file, or the URL of the database.
        config: How it is read.
        names: The lower-case names by which a table's header is known.

    Returns:
        The rows, with their numbers.

    Raises:
        DataError: It cannot be read; the message names the source and, if known, the line.
    """
    if is_url(str(source)) or Path(source).suffix.lower() in DATABASE_ENDINGS:
        found = read_query(str(source), config.query)
        rows = [TableRow(number, values) for number, values in enumerate(found, start=1)]
        return Table(str(source), "row", rows, plain_cells=True)
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
) -> Table:
    """Reads a file with the reader of its extension.

    Args:
        path: The file.
        readers: Readers by lower-case extension, such as ".csv".
        config: How records are read.
        names: Lower-case names of the fields that a header may have.
        also: Sources that are readable besides files, for the error message.

    Returns:
        The rows, with their numbers.

    Raises:
        DataError: The file is missing, unsupported, unreadable or damaged; the message names it.
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

NO_OBJECT = "it is not an object of names and values"


def _row_of(number: int, value: Any) -> TableRow:
    """A row from any value of a JSON file."""
    if type(value) is str:  # no number
        return TableRow(number, {}, NO_OBJECT, text=value)
    if isinstance(value, DuplicateName):
        return TableRow(number, value, f"the name {value.name!r:.40} is in it twice")
    if isinstance(value, list) and value and all(map(is_message, value)):
        return TableRow(number, {"messages": value})
    if not isinstance(value, dict):
        return TableRow(number, {}, NO_OBJECT)
    return TableRow(number, value)


def read_json(path: Path, config: RecordsConfig, names: Container[str]) -> Table:
    """Reads JSON: a list of records or one of the layouts of `layouts`, or JSON lines.

    Args:
        path: The file.
        config: Gives the encoding of the file.
        names: Not used; every reader takes it.

    Returns:
        A row for each entry of the list, or for each line.

    Raises:
        DataError: The file is empty or damaged, or it contains no list or several.
    """
    notes = Notes()
    return _json_table(path, read_text(path, config.encoding, notes), notes)


def _json_table(path: Path, text: str, notes: Notes) -> Table:
    if not text.strip():
        raise DataError("is empty")
    unit, values = parse_json_file(text)
    if unit == "file":
        value = values[0][1]
        if path.suffix.lower() != ".json" and _is_line(value):
            unit = "line"
        else:
            unit = "entry"
            values = list(enumerate(entries_of(value, notes), start=1))
    rows = [_row_of(number, value) for number, value in values]
    return Table(str(path), unit, rows, notes=notes)


def _is_line(value: Any) -> bool:
    """Whether the one value of a .jsonl file is a record, not a list or columns of them."""
    if isinstance(value, dict):
        return not all(isinstance(item, (list, dict)) for item in value.values())
    return not isinstance(value, list)


# Plain text

STYLES = (
    {"q": "instruction", "a": "output"},
    {"question": "instruction", "answer": "output"},
    {"instruction": "instruction", "input": "input", "output": "output"},
    {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    {"label": "label", "text": "text"},
)
"""The words that begin a field of a record in plain text, each with a colon behind it."""

_FIRST_WORDS = {"q", "question", "instruction", "prompt"}
"""The words that begin a record; with others text may begin as well."""

_FIELD = re.compile(r"(?:#{1,6}[ \t]*)?([A-Za-z]+)[ \t]*:(.*)")

TEXT_HELP = (
    'expected "Q: ..." and "A: ..." (or Instruction, Input, Output, with a colon) at the starts of '
    "lines, or lines of a label, a tab and a text"
)


def _read_text(path: Path, config: RecordsConfig, names: Container[str]) -> Table:
    """Records written out, or lines of label, tab and text.

    A line that begins with the file's first word, such as "Q:", begins a record; every field goes
    on to the next such word, over blank lines too.
    """
    notes = Notes()
    text = read_text(path, config.encoding, notes)
    lines = text.split("\n")
    filled = [line for line in lines if line.strip()]
    if not filled:
        raise DataError("is empty")
    for line in filled[:HEAD]:  # a title may stand above the first record
        found = _FIELD.fullmatch(line)
        style = next((s for s in STYLES if found and found[1].lower() in s), None)
        if style is not None and found is not None:
            records = list(_written_out(lines, style, found[1].lower(), notes))
            return Table(str(path), "line", records, notes=notes)
    if filled[0].lstrip()[:1] in ("{", "[") and _is_json(text):
        return _json_table(path, text, notes)
    is_name = name_finder(config, names)
    if all("\t" in line for line in filled[:100]):
        rows = split_cells(text, "\t", config.quoting, notes)
        return table_of(path, "line", rows, config, names, notes)
    delimiter = find_delimiter(text, "\t", is_name)
    if delimiter and sum(map(is_name, filled[0].split(delimiter))) > 1:
        rows = read_table(text, delimiter, is_name, config.quoting, notes)
        return table_of(path, "line", rows, config, names, notes)
    raise DataError(f"contains no records: {TEXT_HELP}")


def _is_json(text: str) -> bool:
    try:
        parse_json_file(text)
    except DataError:
        return False
    return True


def _written_out(
    lines: list[str], style: dict[str, str], first: str, notes: Notes
) -> Iterator[TableRow]:
    """The records of plain text, of which each begins with the word `first`."""
    begins = 0  # the record's line
    fields: list[tuple[str, list[str]]] = []
    for number, line in enumerate(lines, start=1):
        found = _FIELD.fullmatch(line)
        word = found[1].lower() if found else ""
        if found is None or word not in style:
            if word in _FIRST_WORDS:
                notes.remark(
                    f"begins with {word.capitalize()!r}, where records begin with "
                    f"{first.capitalize()!r}: it is part of the record above",
                    f"line {number}",
                )
            if fields:
                fields[-1][1].append(line)
            elif line.strip():
                notes.leave_out("line above the first record", name=line.strip())
            continue
        if word == first:
            if fields:
                yield _record_of(begins, fields)
            begins, fields = number, []
        fields.append((style[word], [found[2]]))
    if fields:
        yield _record_of(begins, fields)


def _record_of(number: int, fields: list[tuple[str, list[str]]]) -> TableRow:
    pairs = [(name, "\n".join(lines).strip()) for name, lines in fields]
    return _row_of(number, as_object(pairs))


READERS: dict[str, Reader] = {
    ".json": read_json,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".tab": read_csv,
    ".xlsx": read_xlsx,
    ".txt": _read_text,
}
"""What reads a file, by its ending."""
