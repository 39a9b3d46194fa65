"""Files of records -> rows of named values: JSON, JSONL, CSV, TSV, XLSX, plain text, databases.

What the values mean is not known here; a row that is unsound in itself carries the reason.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import RecordsConfig
from ..errors import DataError
from ..text.decoding import decode_text, tidy
from .database import DATABASE_ENDINGS, is_url, read_query

DELIMITERS = ",\t;|"
"""What may stand between the cells of a table; the first wins where several fit equally well."""

SAMPLE = 1 << 16
"""So many characters tell how a table is written."""


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in its source."""

    number: int
    """The line, row or entry, counted from 1 as a person does."""
    values: dict[str, Any]
    fault: str = ""
    """Why the row cannot be used, whatever its values are."""


@dataclass(frozen=True)
class RawTable:
    """All rows of one source."""

    where: str
    """The file, or the URL of the database."""
    unit: str
    """What the rows' numbers count: line, row or entry."""
    rows: list[RawRow]
    plain_cells: bool = False
    """Whether every cell may be text: numbers stand for their text, "nan" for nothing."""


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
    if path.is_dir():
        raise DataError(f"{path}: is a folder: name the file with the records")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    ending = path.suffix.lower()
    if ending not in READERS:
        kind = f"files ending in {path.suffix}" if path.suffix else "files without an ending"
        known = " ".join(READERS)
        raise DataError(f"{path}: {kind} are not read (readable: {known}, sqlite:///FILE)")
    if not path.is_file():
        raise DataError(f"{path}: is not a regular file")
    try:
        return READERS[ending](path, config, names)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:  # what parsers raise on damage
        raise DataError(f"{path}: is damaged: {error}") from None


def _text_of(path: Path, config: RecordsConfig) -> str:
    """The text of a file, with line ends as \\n."""
    return "".join(tidy([decode_text(path.read_bytes(), config.encoding)]))


# JSON and JSONL


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
    if isinstance(value, DoubledName):
        return RawRow(number, value, f"the name {value.name!r:.40} stands twice in it")
    if not isinstance(value, dict):
        return RawRow(number, {}, "it is no object of names and values")
    return RawRow(number, value)


def _read_json(path: Path, config: RecordsConfig, names: Container[str]) -> RawTable:
    text = _text_of(path, config)
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
    lists = [name for name in value if isinstance(value[name], list)] if value else []
    if isinstance(value, dict) and len(lists) == 1:
        return value[lists[0]]
    if isinstance(value, dict) and lists:
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


def _read_jsonl(path: Path, config: RecordsConfig, names: Container[str]) -> RawTable:
    return _jsonl_table(path, _text_of(path, config))


def _jsonl_table(path: Path, text: str) -> RawTable:
    """A row for each line that is not blank."""
    lines = enumerate(text.split("\n"), start=1)
    rows = [_row_of(number, _parse(line, number)) for number, line in lines if line.strip()]
    return RawTable(str(path), "line", rows)


# Tables: CSV, TSV, XLSX

Numbered = Iterable[tuple[int, list[Any]]]
"""Cells, and the line or row in which they stand."""


def _read_csv(path: Path, config: RecordsConfig, names: Container[str]) -> RawTable:
    text = _text_of(path, config)
    preferred = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    delimiter = _delimiter(text, preferred, config, names)
    return _table(path, "line", _cells(text, delimiter, config.quoting), config, names)


def _delimiter(
    text: str, preferred: str, config: RecordsConfig, names: Container[str]
) -> str:
    """What stands between the cells: the header's names tell, else rows of equal width."""
    csv.field_size_limit(2**31 - 1)  # the default refuses cells above 128 kB
    sample = text[:SAMPLE].lstrip("\n")
    best, best_score = preferred, (-1, 0.0, False)
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        rows = [row for row, _ in zip(reader, range(50), strict=False) if row]
        if not rows or len(rows[0]) < 2:
            continue
        known = sum(_known_name(cell, config, names) for cell in rows[0])
        equal = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        score = (known, equal, delimiter == preferred)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _cells(text: str, delimiter: str, quoting: str) -> Numbered:
    """The rows of a table, each with the line in which it begins.

    With `quoting` auto, quotes enclose cells where the whole file agrees with that. Where it does
    not, tabs separate cells as they stand; between commas, quotes are taken for what they can be.
    """
    common = {"delimiter": delimiter, "skipinitialspace": delimiter == ","}
    lenient: dict[str, Any] = dict(common)
    plain: dict[str, Any] = {**common, "quoting": csv.QUOTE_NONE}
    if quoting != "auto":
        return list(_numbered(text, lenient if quoting == "always" else plain))
    try:
        return list(_numbered(text, {**common, "strict": True}))
    except csv.Error:
        return list(_numbered(text, plain if delimiter == "\t" else lenient))


def _numbered(text: str, form: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), **form)
    begins = 1
    for cells in reader:
        yield begins, cells
        begins = reader.line_num + 1


def _table(
    path: Path, unit: str, numbered: Numbered, config: RecordsConfig, names: Container[str]
) -> RawTable:
    """Rows named by the table's header, or by what stands in it."""
    filled = [(n, row) for n, row in numbered if any(cell not in (None, "") for cell in row)]
    if not filled:
        raise DataError("is empty")
    header = _header([row for _, row in filled], config, names)
    if header is None:
        header = [str(cell).strip() if cell is not None else "" for cell in filled[0][1]]
        filled = filled[1:]
    named = [name for name in header if name]
    doubled = next((name for name in named if named.count(name) > 1), None)
    if doubled is not None:
        raise DataError(f"the column {doubled!r:.40} stands twice in the header: rename one")
    return RawTable(
        str(path), unit, [_named(n, header, cells) for n, cells in filled], plain_cells=True
    )


def _named(number: int, header: list[str], cells: list[Any]) -> RawRow:
    values = {name: cell for name, cell in zip(header, cells, strict=False) if name}
    if len(cells) < len(header):
        return RawRow(number, values, f"it has fewer columns than the header's {len(header)}")
    if any(cell not in (None, "") for cell in cells[len(header) :]):
        return RawRow(number, values, f"it has more columns than the header's {len(header)}")
    return RawRow(number, values)


def _known_name(cell: Any, config: RecordsConfig, names: Container[str]) -> bool:
    """Whether a cell of the first row names a column."""
    name = str(cell).strip()
    return name.lower() in names or name in (config.map or {}).values()


def _header(
    rows: list[list[Any]], config: RecordsConfig, names: Container[str]
) -> list[str] | None:
    """Names for the columns of a table without a header; None where the first row is one.

    Without a header columns are called 1, 2, ... where --map says so. Two columns of which one has
    the first row's cell again and again are a label and a text, as in the SMS Spam Collection.
    """
    first = rows[0]
    if any(_known_name(cell, config, names) for cell in first):
        return None
    numbers = [str(number) for number in range(1, len(first) + 1)]
    if set(numbers) & set((config.map or {}).values()):
        return numbers
    if config.map or len(first) != 2 or len(rows) < 2:
        return None
    left, right = ([row[i] for row in rows if len(row) == 2] for i in (0, 1))
    if first[0] in left[1:] and len(set(left)) <= len(set(right)):
        return ["label", "text"]
    if first[1] in right[1:] and len(set(right)) < len(set(left)):
        return ["text", "label"]
    return None


MOST_SHEET_BYTES = 1 << 30
MOST_SHEET_ROWS = 1 << 20
MOST_SHEET_COLUMNS = 256
"""Excel's own number of rows, and bounds on what an .xlsx file may unpack to."""


def _read_xlsx(path: Path, config: RecordsConfig, names: Container[str]) -> RawTable:
    try:
        import openpyxl
    except ImportError:
        raise DataError(
            "needs openpyxl to be read: install it, or the extra 'documents', or save the sheet as "
            "CSV"
        ) from None
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > MOST_SHEET_BYTES:
            raise DataError(f"unpacks to {size:,} bytes: save the sheet as CSV")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            rows = list(enumerate(_sheet(book, config.sheet), start=1))
        finally:
            book.close()
    except DataError:
        raise
    except Exception as error:  # openpyxl raises KeyError, BadZipFile, ParseError ... on damage
        raise DataError(f"is not a readable XLSX file: {error}") from None
    return _table(path, "row", rows, config, names)


def _sheet(book: Any, name: str | None) -> Iterator[list[Any]]:
    """The rows of a sheet. The size that a sheet claims to have is not believed."""
    tables = {sheet.title: sheet for sheet in book.worksheets}
    if name is not None and name not in tables:
        raise DataError(f"has no sheet {name!r}: there are {', '.join(map(repr, tables))}")
    if not tables:
        raise DataError("has no sheet with cells")
    sheet = tables[name] if name is not None else next(iter(tables.values()))
    sheet.reset_dimensions()
    width = 0
    for row in sheet.iter_rows(
        max_row=MOST_SHEET_ROWS, max_col=MOST_SHEET_COLUMNS, values_only=True
    ):
        cells = list(row)
        while cells and cells[-1] is None:
            cells.pop()
        width = width or len(cells)
        yield cells + [None] * (width - len(cells))


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
    text = _text_of(path, config)
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
        return _table(path, "line", _cells(text, "\t", quoting), config, names)
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


READERS: dict[str, Callable[[Path, RecordsConfig, Container[str]], RawTable]] = {
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".tab": _read_csv,
    ".xlsx": _read_xlsx,
    ".txt": _read_text,
}
"""What reads a file, by its ending."""
