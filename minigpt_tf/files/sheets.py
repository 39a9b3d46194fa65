"""Sheets of an .xlsx file -> rows of cells as a person sees them: for texts and for records."""

import datetime
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from ..errors import DataError
from .notes import Notes
from .number_formats import GENERAL, format_text, format_value
from .office import Package
from .workbook import SheetPart, Workbook, unescape

MOST_ROWS = 1 << 20
MOST_COLUMNS = 256
"""Excel's own number of rows, and a bound on the columns that are read."""

MOST_MERGED = 10_000
"""Merged cells whose value is repeated; of more, each row has what is written in it."""

NO_VALUE = "formula without a stored value"
STORE_VALUES = "open the file in a spreadsheet program, which computes them, and save it"


class CellFault(NamedTuple):
    """Why a cell shows nothing that could be read."""

    reason: str


Cell = str | CellFault | None
Row = tuple[int, list[Cell]]
"""The number of a row as the sheet shows it, and its cells without empty ones at its end."""

_BESIDE = (
    (r"xl/comments\d*\.xml|xl/comments/comment\d*\.xml", "comment", "comment"),
    (r"xl/drawings/drawing\d*\.xml", "text box", "x:txBody"),
    (r"xl/charts/chart\d*\.xml", "chart", None),
    (r"xl/media/.*", "picture", None),
)
"""Members beside the cells: their names, what they are, and the elements that are counted."""

_REFERENCE = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_HIDDEN = ("1", "true")


def read_sheets(
    file: BinaryIO,
    choose: Callable[[list[str], list[str]], Sequence[str]],
    notes: Notes | None = None,
    *,
    fill_merged: bool = False,
) -> Iterator[tuple[str, int, list[Cell]]]:
    """Reads rows of the sheets of an XLSX file, one at a time.

    Args:
        file: The file, open for reading.
        choose: Takes the names of the sheets that a person sees, and of the hidden ones, and
            returns those to read.
        notes: Gets what is left out: hidden rows and columns, errors, formulas without a value.
        fill_merged: Whether each row that a merged cell covers has its value.

    Yields:
        (sheet, row, cells): The name of the sheet, the number of the row, and the texts of its
        cells, without empty ones at its end; rows without cells are passed over. A formula has the
        value last computed.

    Raises:
        DataError: The file is damaged or too large.
    """
    notes = Notes() if notes is None else notes
    book = Workbook.of(Package(file, "XLSX"))
    for sheet in book.sheets:
        if not sheet.is_table:
            notes.leave_out("sheet that is a chart", name=sheet.title)
    tables = [sheet for sheet in book.sheets if sheet.is_table]
    seen = [sheet.title for sheet in tables if not sheet.is_hidden]
    chosen = choose(seen, [sheet.title for sheet in tables if sheet.is_hidden])
    by_title = {sheet.title: sheet for sheet in tables}
    _count_beside(book.package, notes)
    for title in chosen:
        reader = _SheetReader(book, by_title[title], notes, fill_merged)
        for number, cells in reader.rows():
            yield title, number, cells


@dataclass
class _SheetReader:
    """Takes one sheet apart."""

    book: Workbook
    sheet: SheetPart
    notes: Notes
    fill_merged: bool
    ready: list[Row] = field(default_factory=list)
    cells: dict[int, Cell] = field(default_factory=dict)
    row: int = 0
    column: int = -1
    hidden_columns: list[tuple[int, int]] = field(default_factory=list)
    in_hidden: Counter[int] = field(default_factory=Counter)
    """Cells with a value in hidden columns."""
    row_is_hidden: bool = False
    style: str = ""
    kind: str = ""
    formula: bool = False
    element: str = ""
    aloud: bool = False
    chunks: list[str] = field(default_factory=list)
    value: str | None = None
    merged: list[tuple[int, int, int]] = field(default_factory=list)
    """First row, last row and column of the cells that stand for several rows."""

    def rows(self) -> Iterator[Row]:
        """The rows that have cells. Raises DataError."""
        package = self.book.package
        if self.fill_merged:
            self._read_merged()
        spans = {first: (last, column) for first, last, column in self.merged}
        covered = _Merged(self.merged) if spans else None
        for _ in package.stream(self.sheet.member, self._start, self._end, self._text):
            for number, cells in self.ready:
                yield number, covered.filled(number, cells) if covered else cells
            self.ready.clear()
        for column, count in sorted(self.in_hidden.items()):
            name = f"{self.sheet.title}!{_letters(column)}"
            self.notes.leave_out("cell of a hidden column", count, name=name)

    def _read_merged(self) -> None:
        """Finds the merged cells, which stand behind the rows."""

        def start(name: str, attributes: dict[str, str]) -> None:
            """Collects those that cover several rows."""
            if name != "mergeCell":
                return
            first, _, last = attributes.get("ref", "").partition(":")
            (column, begin), (_, end) = _place(first), _place(last)
            if 0 < begin < end <= MOST_ROWS and column >= 0 and len(self.merged) < MOST_MERGED:
                self.merged.append((begin, end, column))

        member = self.sheet.member
        if self.book.package.mentions(member, "mergeCell"):
            self.book.package.parse(member, start, lambda name: None, lambda text: None)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "c":
            self._begin_cell(attributes)
        elif name in ("v", "t", "f"):
            self.element = name
            if name == "f":
                self.formula = True
        elif name == "row":
            self._begin_row(attributes)
        elif name == "rPh":
            self.aloud = True
        elif name == "col" and (
            attributes.get("hidden") in _HIDDEN or attributes.get("width") == "0"
        ):
            first, last = (attributes.get(key, "") for key in ("min", "max"))
            if first.isdigit() and last.isdigit() and len(first + last) < 20:
                self.hidden_columns.append((int(first) - 1, int(last) - 1))

    def _begin_row(self, attributes: dict[str, str]) -> None:
        number = attributes.get("r", "")
        self.row = int(number) if number.isdigit() and len(number) < 9 else self.row + 1
        if self.row > MOST_ROWS:
            raise DataError(f"has more than {MOST_ROWS:,} rows: save the sheet as CSV")
        self.row_is_hidden = attributes.get("hidden") in _HIDDEN or attributes.get("ht") == "0"
        self.column = -1
        self.cells = {}

    def _begin_cell(self, attributes: dict[str, str]) -> None:
        column, _ = _place(attributes.get("r", ""))
        self.column = column if column >= 0 else self.column + 1
        self.style, self.kind = attributes.get("s", ""), attributes.get("t", "n")
        self.formula, self.value = False, None
        self.chunks.clear()

    def _text(self, content: str) -> None:
        if self.element in ("v", "t") and not self.aloud:
            self.chunks.append(content)

    def _end(self, name: str) -> None:
        if name in ("v", "t"):
            self.value = "".join(self.chunks)
            self.element = ""
        elif name == "f":
            self.element = ""
        elif name == "rPh":
            self.aloud = False
        elif name == "c":
            self._end_cell()
        elif name == "row":
            self._end_row()

    def _end_cell(self) -> None:
        cell = self._cell()
        if cell in (None, ""):
            return
        if self.hidden_columns and any(
            first <= self.column <= last for first, last in self.hidden_columns
        ):
            self.in_hidden[self.column] += 1
            return
        if self.column >= MOST_COLUMNS:
            raise DataError(
                f"has more than {MOST_COLUMNS} columns in row {self.row} of the sheet "
                f"{self.sheet.title!r}: save the sheet as CSV"
            )
        self.cells[self.column] = cell

    def _cell(self) -> Cell:
        """What the cell shows."""
        if self.value is None or (self.value == "" and self.formula and self.kind != "str"):
            if not self.formula:
                return None
            self.notes.leave_out(NO_VALUE, place=self._place())
            return CellFault(f"a {NO_VALUE}: {STORE_VALUES}")
        if self.kind == "e":
            self.notes.leave_out("cell with an error", name=self.value, place=self._place())
            return CellFault(f"the error {self.value}")
        code = self._format()
        if self.kind == "s":
            shown = format_text(self.book.text(self.value), code)
        elif self.kind in ("str", "inlineStr"):
            shown = format_text(unescape(self.value), code)
        elif self.kind == "b":
            return "TRUE" if self.value in ("1", "true") else "FALSE"
        elif self.kind == "d":
            return self.value.removesuffix("T00:00:00").replace("T", " ")
        else:
            shown = self._number(code)
        if not shown and self.value.strip():
            self.notes.leave_out("cell whose format hides it", place=self._place())
        return shown

    def _place(self) -> str:
        """Where the cell is, such as Sheet!B7."""
        return f"{self.sheet.title}!{_letters(self.column)}{self.row}"

    def _number(self, code: str) -> str:
        try:
            value = float(self.value or "")
        except ValueError:
            raise DataError(
                f"is not a readable XLSX file: {self._place()} has the number {self.value!r:.20}"
            ) from None
        if value != value or value in (float("inf"), float("-inf")):
            return str(value)
        if code == GENERAL and self.value and self.value.isdigit() and len(self.value) < 16:
            return self.value
        return format_value(value, code, from_1904=self.book.from_1904)

    def _format(self) -> str:
        if not self.style.isdigit() or len(self.style) > 6:
            return GENERAL
        number = int(self.style)
        return self.book.formats[number] if number < len(self.book.formats) else GENERAL

    def _end_row(self) -> None:
        if not self.cells:
            return
        if self.row_is_hidden:
            self.notes.leave_out("hidden row", place=f"{self.sheet.title}, row {self.row}")
            return
        width = max(self.cells) + 1
        self.ready.append((self.row, [self.cells.get(column) for column in range(width)]))
        self.cells = {}


def _count_beside(package: Package, notes: Notes) -> None:
    """Counts what stands beside the cells: comments, text boxes, charts and pictures."""
    for pattern, what, element in _BESIDE:
        for member in package.matching(pattern):
            found: list[str] = []
            if element is None:
                found = [member]
            else:
                wanted = element

                def start(name: str, attributes: dict[str, str]) -> None:
                    """Counts an element."""
                    if name == wanted:  # noqa: B023 - called in this round
                        found.append(name)  # noqa: B023

                package.parse(member, start, lambda name: None, lambda text: None)
            notes.leave_out(what, len(found))


class _Merged:
    """Gives each row that a merged cell covers the value that a person sees beside it."""

    def __init__(self, spans: list[tuple[int, int, int]]) -> None:
        self.waiting = sorted(spans, reverse=True)
        self.open: list[tuple[int, int, Cell]] = []  # last row, column, value

    def filled(self, number: int, cells: list[Cell]) -> list[Cell]:
        """The cells of a row, with those that merged cells cover."""
        self.open = [span for span in self.open if span[0] >= number]
        for _, column, value in self.open:
            if value is not None:
                cells += [None] * (column + 1 - len(cells))
                cells[column] = cells[column] or value
        while self.waiting and self.waiting[-1][0] <= number:
            first, last, column = self.waiting.pop()
            if first == number and column < len(cells):
                self.open.append((last, column, cells[column]))
        return cells


def _place(reference: str) -> tuple[int, int]:
    """The column, counted from 0, and the row of a reference such as B7; (-1, 0) if it is none."""
    found = _REFERENCE.fullmatch(reference)
    return (_column(found[1]), int(found[2])) if found else (-1, 0)


@functools.lru_cache(maxsize=1000)
def _column(letters: str) -> int:
    """The number of a column, counted from 0."""
    column = 0
    for letter in letters:
        column = 26 * column + ord(letter) - 64
    return column - 1


def _letters(column: int) -> str:
    """The letters of a column that is counted from 0: A, ..., Z, AA."""
    letters = ""
    column += 1
    while column > 0:
        column, letter = divmod(column - 1, 26)
        letters = chr(65 + letter) + letters
    return letters


def text_of_cell(value: Any) -> Any:
    """A number or date of a database as the text that a person sees there."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    return str(value)
