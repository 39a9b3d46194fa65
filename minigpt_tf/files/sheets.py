"""Sheets of an .xlsx file -> rows of cells, as openpyxl reads them: for texts and for records."""

import datetime
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from ..errors import DataError

MOST_BYTES = 1 << 30
MOST_ROWS = 1 << 20
MOST_COLUMNS = 256
"""Excel's own number of rows, and bounds on what an .xlsx file may unpack to."""


def read_sheets(
    file: BinaryIO, choose: Callable[[list[str]], Sequence[str]]
) -> Iterator[tuple[str, list[Any]]]:
    """Reads rows of the sheets of an XLSX file, one at a time.

    Args:
        file: The file, open for reading.
        choose: Takes the names of all sheets and returns those to read.

    Yields:
        (sheet, cells): The name of the sheet and the values of a row, without empty cells at its
        end. A formula has the value last computed; a missing row has no cells.

    Raises:
        DataError: The file is damaged or too large, or openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError:
        raise DataError(
            "needs openpyxl to be read: install it, or the extra 'documents', or save the sheet as "
            "CSV"
        ) from None
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > MOST_BYTES:
            raise DataError(f"unpacks to {size:,} bytes: save the sheet as CSV")
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        try:
            tables = {sheet.title: sheet for sheet in book.worksheets}
            for title in choose(list(tables)):
                for cells in _rows(tables[title]):
                    yield title, cells
        finally:
            book.close()
    except DataError:
        raise
    except Exception as error:  # openpyxl raises KeyError, BadZipFile, ParseError ... on damage
        raise DataError(f"is not a readable XLSX file: {error}") from None


def _rows(sheet: Any) -> Iterator[list[Any]]:
    """The rows of a sheet. The size that a sheet claims to have is not believed."""
    sheet.reset_dimensions()
    rows = sheet.iter_rows(max_row=MOST_ROWS, max_col=MOST_COLUMNS + 1, values_only=True)
    for number, row in enumerate(rows, start=1):
        cells = list(row)
        while cells and cells[-1] is None:
            cells.pop()
        if len(cells) > MOST_COLUMNS:
            raise DataError(
                f"has more than {MOST_COLUMNS} columns in row {number} of the sheet "
                f"{sheet.title!r}: save the sheet as CSV"
            )
        yield cells


def text_of_cell(value: Any) -> Any:
    """A number or date of a spreadsheet or database as the text that a person sees there."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    return str(value)
