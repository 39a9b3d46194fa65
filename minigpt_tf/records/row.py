"""A row of a source under the names of records, its texts checked as they are asked for."""

import functools
import math
from collections.abc import Sequence
from typing import Any

from ..config import RecordsConfig
from ..files.decoding import tidy_text
from ..files.json_values import DuplicateName
from ..files.sheets import CellFault, text_of_cell
from .conversations import Unusable, adapted
from .schema import NAMES, NEEDS
from .tables import TableRow

MOST_CHARACTERS = 1_000_000
"""Longer than any context; a text of more is not a record, but a file that was not taken apart."""


class Row:
    """A row under our names, its texts checked as they are asked for."""

    def __init__(self, raw: TableRow, plain_cells: bool, config: RecordsConfig) -> None:
        self.number, self.fault, self.plain_cells = raw.number, raw.fault, plain_cells
        self.unanswered = 0
        """Messages behind the last answer."""
        self.unused_fields: list[str] = []
        """Names of values in its messages that are not read."""
        mapped = tuple((config.map or {}).items())
        taken = frozenset(name for _, name in mapped)
        self.raw = raw.values
        values = adapted(raw.values, taken, cells_are_texts=plain_cells)
        self.stand_ins = raw.values.keys() - values.keys() if values is not raw.values else set()
        """Names of the file whose values have other names here."""
        self.file_names = _file_names(tuple(values), mapped)
        self.values = {ours: values.get(name) for ours, name in self.file_names.items()}
        self.names = {ours for ours, value in self.values.items() if value is not None}

    def has_all_of(self, kind: str) -> bool:
        """Whether it has what a record of the kind needs."""
        return all(self.names & set(group) for group in NEEDS[kind])

    def used(self, kind: str) -> set[str]:
        """The names that a record of the kind is made of."""
        used = {next((n for n in group if n in self.names), group[0]) for group in NEEDS[kind]}
        return used | ({"input"} if kind in ("instruction", "preference") else set())

    def shown(self, name: str) -> str:
        """A name as the file has it."""
        return self.file_names.get(name, name)

    def first_of(self, names: Sequence[str]) -> str:
        """The first of several names that is there, or the first of all."""
        return next((name for name in names if name in self.names), names[0])

    def text(self, name: str) -> str:
        """A text that must be there. Raises Unusable."""
        text = self.optional_text(name, self.values.get(name))
        if text is None:
            raise Unusable(f"{self.shown(name)!r} is missing")
        if not text.strip():
            raise Unusable(f"{self.shown(name)!r} is empty")
        return text

    def optional_text(self, name: str, value: Any) -> str | None:
        """A value as text.

        Args:
            name: Its name here, for errors.
            value: A value of the row.

        Returns:
            The text; None if absent.

        Raises:
            Unusable: It is something else, or too long.
        """
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if isinstance(value, CellFault):
            raise Unusable(f"{self.shown(name)!r} is {value.reason}")
        if isinstance(value, bool):
            value = str(value) if self.plain_cells else str(value).lower()
        if self.plain_cells:
            value = text_of_cell(value)
            if value in NOTHING:
                return None
        if not isinstance(value, str):
            kind = JSON_KINDS.get(type(value), type(value).__name__)
            raise Unusable(f"{self.shown(name)!r} is {kind}, not text")
        if len(value) > MOST_CHARACTERS:
            raise Unusable(f"{self.shown(name)!r} has more than {MOST_CHARACTERS:,} characters")
        return tidy_text(str(value))


@functools.lru_cache(maxsize=100)  # the rows of most files have the same names
def _file_names(names: tuple[str, ...], mapped: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Our names -> those of the file."""
    found = dict(mapped)
    for name in names:
        ours = name.strip().lower()
        if ours in NAMES and name not in dict(mapped).values():
            found.setdefault(ours, name)
    return found


NOTHING = {"nan", "NaN", "<NA>", "#N/A", "#REF!", "#DIV/0!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!"}
"""What stands in a table for nothing: pandas's missing value, and the errors of spreadsheets."""

JSON_KINDS: dict[type, str] = {
    list: "a list",
    dict: "an object",
    DuplicateName: "an object",
    bytes: "binary data",
}
