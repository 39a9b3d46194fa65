"""Rows of named values, as they stand in their source."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in its source."""

    number: int
    """The line, row or entry, counted from 1 as a person does."""
    values: dict[str, Any]
    fault: str = ""
    """Why the row cannot be used, whatever its values are."""
    text: str | None = None
    """What stands there in place of named values, where it is a text."""


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
