"""CSV and TSV: text -> rows of cells, for texts and for records alike."""

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any, Literal

from ..errors import DataError

DELIMITERS = ",\t;|"
"""What may separate the cells of a table; the first wins where several fit equally well."""

SAMPLE = 1 << 16
SAMPLED_ROWS = 50
"""So many characters, and rows of them, show how a table is written."""

TAB_ENDINGS = {".tsv", ".tab"}
"""Files whose cells are separated by tabs unless they look otherwise."""

NumberedRow = tuple[int, list[str]]
"""The line in which a row begins, counted from 1, and its cells."""


def find_delimiter(
    text: str, preferred: str = ",", is_name: Callable[[str], bool] = lambda cell: False
) -> str:
    """What separates the cells of a table: the header's names decide, else rows of equal width.

    Args:
        text: The table, with line ends as \\n.
        preferred: Wins where several fit equally well.
        is_name: Whether a cell of the first row is a name that is looked for.

    Returns:
        One of DELIMITERS.

    Example:
        >>> from minigpt_tf.files.tables import find_delimiter
        >>> find_delimiter("name;text\\nAda;first, programmer\\n")
        ';'
    """
    csv.field_size_limit(2**31 - 1)  # the default refuses cells above 128 kB
    sample = text[:SAMPLE].lstrip("\n")
    best, best_score = preferred, (-1, 0.0, False)
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        rows = [row for row, _ in zip(reader, range(SAMPLED_ROWS), strict=False) if row]
        if not rows or len(rows[0]) < 2:
            continue
        names = sum(is_name(cell) for cell in rows[0])
        equal = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        score = (names, equal, delimiter == preferred)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def split_cells(
    text: str, delimiter: str, quoting: Literal["auto", "always", "never"] = "auto"
) -> list[NumberedRow]:
    """The rows of a table.

    Args:
        text: The table, with line ends as \\n.
        delimiter: What separates cells.
        quoting: Whether quotes enclose cells. auto: where the whole file agrees with that; where it
            does not, tabs separate cells as they stand, and between commas quotes are taken for
            what they can be.

    Returns:
        Each row's line and cells.

    Raises:
        DataError: The text is not a table.
    """
    common: dict[str, Any] = {"delimiter": delimiter, "skipinitialspace": delimiter == ","}
    plain = {**common, "quoting": csv.QUOTE_NONE}
    try:
        if quoting != "auto":
            return list(_numbered(text, common if quoting == "always" else plain))
        try:
            return list(_numbered(text, {**common, "strict": True}))
        except csv.Error:
            return list(_numbered(text, plain if delimiter == "\t" else common))
    except csv.Error as error:
        raise DataError(f"is not a readable table: {error}") from None


def _numbered(text: str, form: dict[str, Any]) -> Iterator[NumberedRow]:
    reader = csv.reader(io.StringIO(text, newline=""), **form)
    begins = 1
    for cells in reader:
        yield begins, cells
        begins = reader.line_num + 1
