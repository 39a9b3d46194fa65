"""Rows of named values, as they stand in their source; those of CSV, TSV and XLSX."""

import itertools
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import RecordsConfig
from ..errors import DataError
from ..files.decoding import read_text
from ..files.notes import Notes
from ..files.sheets import read_sheets
from ..files.tables import HEAD, TAB_ENDINGS, read_table


@dataclass(frozen=True)
class TableRow:
    """One row as it stands in its source."""

    number: int
    """The line, row or entry, counted from 1 as a person does."""
    values: dict[str, Any]
    fault: str = ""
    """Why the row cannot be used, whatever its values are."""
    text: str | None = None
    """What stands there in place of named values, where it is a text."""


@dataclass(frozen=True)
class Table:
    """All rows of one source."""

    where: str
    """The file, or the URL of the database."""
    unit: str
    """What the rows' numbers count: line, row or entry."""
    rows: "Sequence[TableRow] | NamedRows"
    plain_cells: bool = False
    """Whether every cell may be text: numbers stand for their text, "nan" for nothing."""
    notes: Notes = field(default_factory=Notes)
    """What was left out of the source, or taken for something else."""


Numbered = Iterable[tuple[int, list[Any]]]
"""Cells, and the line or row in which they stand."""


def read_csv(path: Path, config: RecordsConfig, names: Container[str]) -> Table:
    """Reads a CSV or TSV file. The delimiter is detected.

    Args:
        path: The file.
        config: The encoding, the quoting and the names of columns.
        names: Lower-case names of the fields that a header may have.

    Returns:
        The rows, numbered by line.

    Raises:
        DataError: The file is empty or damaged, or two columns have the same name.
    """
    notes = Notes()
    text = read_text(path, config.encoding, notes)
    if text.lstrip()[:2] in ('{"', "[{"):
        raise DataError("holds JSON, not a table: name it .jsonl")
    preferred = "\t" if path.suffix.lower() in TAB_ENDINGS else ","
    rows = read_table(text, preferred, name_finder(config, names), config.quoting, notes)
    return table_of(path, "line", rows, config, names, notes)


def table_of(
    path: Path,
    unit: str,
    numbered: Numbered,
    config: RecordsConfig,
    names: Container[str],
    notes: Notes,
) -> Table:
    """Names the cells of rows by the header, or, without one, by what the columns contain.

    Args:
        path: The file, named in the table.
        unit: What row numbers count: line or row.
        numbered: (number, cells) for each row; it is gone through several times.
        config: The names of columns.
        names: Lower-case names of the fields that a header may have.
        notes: Gets the lines above the header.

    Returns:
        The rows below the header, without empty ones.

    Raises:
        DataError: There are no rows, or two columns have the same name.
    """
    head = list(itertools.islice(_filled(numbered), HEAD))
    if not head:
        raise DataError("is empty")
    above = _lines_above([row for _, row in head], config, names)
    for number, row in head[:above]:
        said = next(str(cell) for cell in row if cell not in (None, ""))
        notes.leave_out(f"{unit} above the header", name=said, place=f"{unit} {number}")
    begin = above
    header = _header(numbered, above, config, names)
    if header is None:
        header = _names_in(head[above][1])
        begin += 1
    named = [name for name in header if name]
    doubled = next((name for name in named if named.count(name) > 1), None)
    if doubled is not None:
        raise DataError(f"the column {doubled!r:.40} is in the header twice: rename one")
    return Table(str(path), unit, NamedRows(header, numbered, begin), plain_cells=True, notes=notes)


@dataclass(frozen=True)
class NamedRows:
    """Rows under the header's names, made as they are asked for: a million would be too many."""

    header: list[str]
    numbered: Numbered
    begin: int
    """How many rows with cells stand above, the header included."""

    def __iter__(self) -> Iterator[TableRow]:
        for number, cells in itertools.islice(_filled(self.numbered), self.begin, None):
            yield _named(number, self.header, cells)

    def __bool__(self) -> bool:
        return any(True for _ in self)


def _filled(numbered: Numbered) -> Iterator[tuple[int, list[Any]]]:
    """The rows that have a cell."""
    for number, row in numbered:
        if any(cell not in (None, "") for cell in row):
            yield number, row


def _lines_above(rows: Sequence[list[Any]], config: RecordsConfig, names: Container[str]) -> int:
    """How many of the first rows are titles, which stand above the header."""
    is_name = name_finder(config, names)
    known = [sum(map(is_name, _names_in(row))) for row in rows]
    best = max(known)
    if best > 1:
        place = known.index(best)
        return place if not any(known[:place]) else 0
    widths = [sum(cell not in (None, "") for cell in row) for row in rows]
    usual = Counter(widths).most_common(1)[0][0]
    above = next(place for place, width in enumerate(widths) if width == usual)
    return above if usual > 1 and all(width == 1 for width in widths[:above]) else 0


def _names_in(row: Sequence[Any]) -> list[str]:
    """The cells of a header as names."""
    return [str(cell).strip() if isinstance(cell, str) else "" for cell in row]


def _named(number: int, header: list[str], cells: list[Any]) -> TableRow:
    values = {name: cell for name, cell in zip(header, cells, strict=False) if name}
    if _names_in(cells[:1]) == header[:1] and _names_in(cells) == header:
        return TableRow(number, {}, "it repeats the header")
    if len(cells) < len(header):
        return TableRow(number, values, f"it has fewer columns than the header's {len(header)}")
    if any(cell not in (None, "") for cell in cells[len(header) :]):
        return TableRow(number, values, f"it has more columns than the header's {len(header)}")
    return TableRow(number, values)


def name_finder(config: RecordsConfig, names: Container[str]) -> Callable[[str], bool]:
    """What decides whether a cell names a column.

    Args:
        config: Its `map` has names of the file's own.
        names: Lower-case names of the fields that a header may have.

    Returns:
        A function of a cell.
    """
    mapped = set((config.map or {}).values())
    return lambda cell: cell.strip().lower() in names or cell.strip() in mapped


def _header(
    numbered: Numbered, above: int, config: RecordsConfig, names: Container[str]
) -> list[str] | None:
    """Names for the columns of a table without a header; None where the first row is one.

    Without a header columns are called 1, 2, ... where --map says so. Two columns of which one has
    the first row's cell again and again are a label and a text, as in the SMS Spam Collection.
    """
    rows = itertools.islice(_filled(numbered), above, None)
    _, first = next(rows)
    if any(map(name_finder(config, names), _names_in(first))):
        return None
    numbers = [str(number) for number in range(1, len(first) + 1)]
    if set(numbers) & set((config.map or {}).values()):
        return numbers
    if config.map or len(first) != 2:
        return None
    left: set[Any] = set()
    right: set[Any] = set()
    for _, row in rows:
        if len(row) == 2:
            left.add(row[0])
            right.add(row[1])
    if first[0] in left and len({first[0], *left}) <= len({first[1], *right}):
        return ["label", "text"]
    if first[1] in right and len({first[1], *right}) < len({first[0], *left}):
        return ["text", "label"]
    return None


def read_xlsx(path: Path, config: RecordsConfig, names: Container[str]) -> Table:
    """Reads one sheet of an XLSX file.

    Args:
        path: The file.
        config: The sheet (unset: the first) and the names of columns.
        names: Lower-case names of the fields that a header may have.

    Returns:
        The rows, numbered from 1.

    Raises:
        DataError: The file is damaged, the sheet is missing or empty, or two columns have the same
            name.
    """

    notes = Notes()

    def choose(seen: list[str], hidden: list[str]) -> list[str]:
        """The sheet that is asked for, or all that a person sees."""
        titles = [*seen, *hidden]
        if config.sheet is not None and config.sheet not in titles:
            raise DataError(f"has no sheet {config.sheet!r}: there are {str(titles)[1:-1]}")
        if not seen and config.sheet is None:
            more = f" that is seen: give --sheet {hidden[0]!r}" if hidden else " with cells"
            raise DataError(f"has no sheet{more}")
        for title in hidden:
            if title != config.sheet:
                notes.leave_out("hidden sheet", name=title)
        others.extend(title for title in seen if title != config.sheet)
        return [config.sheet] if config.sheet is not None else seen

    others: list[str] = []
    rows: list[tuple[int, list[Any]]] = []
    with open(path, "rb") as file:
        first = config.sheet
        for title, number, cells in read_sheets(file, choose, notes, fill_merged=True):
            if first not in (None, title):
                break  # the first sheet with cells is read
            first = title
            rows.append((number, cells))
    for title in others:
        if title != first:
            notes.leave_out("other sheet", name=title)
    width = _width([cells for _, cells in rows], config, names)
    padded = [(number, cells + [None] * (width - len(cells))) for number, cells in rows]
    return table_of(path, "row", padded, config, names, notes)


def _width(rows: Sequence[list[Any]], config: RecordsConfig, names: Container[str]) -> int:
    """How many columns the header of a sheet has; its rows have no empty cells at their ends."""
    filled = [row for row in rows if row]
    if not filled:
        return 0
    return len(filled[_lines_above(filled[:HEAD], config, names)])
