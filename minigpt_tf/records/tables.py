"""Rows of named values, as they stand in their source; those of CSV, TSV and XLSX."""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import RecordsConfig
from ..errors import DataError
from ..files.decoding import read_text
from ..files.sheets import read_sheets
from ..files.tables import TAB_ENDINGS, find_delimiter, split_cells


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
    rows: list[TableRow]
    plain_cells: bool = False
    """Whether every cell may be text: numbers stand for their text, "nan" for nothing."""


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
    text = read_text(path, config.encoding)
    preferred = "\t" if path.suffix.lower() in TAB_ENDINGS else ","
    delimiter = find_delimiter(text, preferred, lambda cell: _known_name(cell, config, names))
    return table_of(path, "line", split_cells(text, delimiter, config.quoting), config, names)


def table_of(
    path: Path, unit: str, numbered: Numbered, config: RecordsConfig, names: Container[str]
) -> Table:
    """Names the cells of rows by the header, or, without one, by what the columns contain.

    Args:
        path: The file, named in the table.
        unit: What row numbers count: line or row.
        numbered: (number, cells) for each row.
        config: The names of columns.
        names: Lower-case names of the fields that a header may have.

    Returns:
        The rows below the header, without empty ones.

    Raises:
        DataError: There are no rows, or two columns have the same name.
    """
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
        raise DataError(f"the column {doubled!r:.40} is in the header twice: rename one")
    return Table(
        str(path), unit, [_named(n, header, cells) for n, cells in filled], plain_cells=True
    )


def _named(number: int, header: list[str], cells: list[Any]) -> TableRow:
    values = {name: cell for name, cell in zip(header, cells, strict=False) if name}
    if len(cells) < len(header):
        return TableRow(number, values, f"it has fewer columns than the header's {len(header)}")
    if any(cell not in (None, "") for cell in cells[len(header) :]):
        return TableRow(number, values, f"it has more columns than the header's {len(header)}")
    return TableRow(number, values)


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

    def choose(titles: list[str]) -> list[str]:
        if config.sheet is not None and config.sheet not in titles:
            raise DataError(f"has no sheet {config.sheet!r}: there are {str(titles)[1:-1]}")
        if not titles:
            raise DataError("has no sheet with cells")
        return titles[:1] if config.sheet is None else [config.sheet]

    with open(path, "rb") as file:
        rows = [cells for _, cells in read_sheets(file, choose)]
    width = next((len(cells) for cells in rows if cells), 0)  # of the header
    padded = [cells + [None] * (width - len(cells)) for cells in rows]
    return table_of(path, "row", list(enumerate(padded, start=1)), config, names)
