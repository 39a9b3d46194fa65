"""Records for fine-tuning: questions with answers, pairs of answers, labeled texts, conversations.

`read_records` takes them from a file or a database, finds which of the four kinds they are, and
drops what cannot be used, with the reason and the place.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import RecordsConfig
from ..errors import ConfigError, DataError
from ..files.decoding import tidy
from ..files.json_values import DuplicateName
from ..files.sheets import text_of_cell
from ..text.chat_template import Message, message
from .record_files import read_rows
from .schema import (
    KINDS,
    NAMES,
    NEEDS,
    OLD_KINDS,
    ConversationRecord,
    InstructionRecord,
    LabeledRecord,
    PreferenceRecord,
    Record,
)
from .tables import Table, TableRow

MOST_CHARACTERS = 1_000_000
"""Longer than any context; a text of more is not a record, but a file that was not taken apart."""

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Dropped:
    """A row that is not used."""

    row: int
    reason: str


@dataclass(frozen=True)
class Records:
    """The records of one source, all of one kind."""

    where: str
    """The file, or the URL of the database."""
    unit: str
    """What row numbers count: line, row or entry."""
    kind: str
    """preference, conversation, instruction or labeled."""
    records: list[Record]
    dropped: list[Dropped]

    @property
    def labels(self) -> list[str]:
        """The labels of labeled records, in alphabetical order."""
        return sorted({r.label for r in self.records if isinstance(r, LabeledRecord)})


def read_records(
    source: str | Path, config: RecordsConfig, kinds: Collection[str] = KINDS
) -> Records:
    """The records of a file, or of a query on a database (sqlite:///FILE).

    Args:
        source: The file, or the URL of the database.
        config: How it is read.
        kinds: Those that the caller can use. A file that fits several is read as the first of them
            in the order of NEEDS.

    Returns:
        The records, and the rows that were dropped.

    Raises:
        ConfigError: `config.map` names something unknown.
        DataError: The source cannot be read, is of another kind or of two, or has no usable row.
    """
    kinds = [OLD_KINDS.get(kind, kind) for kind in kinds]
    _check_map(config)
    table = read_rows(source, config, NAMES)
    if not table.rows:
        raise DataError(f"{table.where}: contains no records")
    _check_mapped_names(table, config)
    rows = [_Row(row, table.plain_cells, config) for row in table.rows]
    kind, first = _kind_of_all(rows, table, kinds)
    records: list[Record] = []
    dropped: list[Dropped] = []
    for row in rows:
        _check_kind(row, kind, first, table)
        try:
            records.append(_BUILDERS[kind](row))
        except _Unusable as error:
            dropped.append(Dropped(row.number, str(error)))
    if not records:
        raise DataError(f"{table.where}: no row can be used: {reasons(dropped, table.unit)}")
    return Records(table.where, table.unit, kind, records, dropped)


def reasons(dropped: Sequence[Dropped], unit: str) -> str:
    """Summarizes why rows were dropped.

    Args:
        dropped: The dropped rows, at least one.
        unit: What row numbers count: line, row or entry.

    Returns:
        The three most common reasons in one line, each with its count and its first row.
    """
    commonest = Counter(item.reason for item in dropped).most_common(3)
    places = {item.reason: item.row for item in reversed(dropped)}  # the first of each
    return "; ".join(
        f"{reason} ({count} {'row' if count == 1 else 'rows'}, the first is {unit} "
        f"{places[reason]})"
        for reason, count in commonest
    )


def _check_map(config: RecordsConfig) -> None:
    """Raises ConfigError where --map gives a name to nothing known, or one name to two."""
    given = config.map or {}
    for name in given:
        if name not in NAMES:
            known = ", ".join(sorted(NAMES))
            raise ConfigError(f"map {name}={given[name]}: {name!r} is not one of {known}")
    for name, foreign in given.items():
        if list(given.values()).count(foreign) > 1:
            raise ConfigError(f"map {name}={foreign}: {foreign!r} is given to two names")


def _check_mapped_names(table: Table, config: RecordsConfig) -> None:
    """Raises DataError where no row has a name that --map speaks of."""
    there = dict.fromkeys(name for row in table.rows for name in row.values)
    for name, foreign in (config.map or {}).items():
        if foreign not in there:
            raise DataError(
                f"{table.where}: map {name}={foreign}: there is no {foreign!r}, but "
                f"{_listed(there)}"
            )


def _listed(names: Collection[str]) -> str:
    """Some names, quoted and truncated."""
    shown = ", ".join(f"{name!r:.30}" for name in list(names)[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown or "no names"


class _Unusable(Exception):
    """Why a row is dropped."""


class _Row:
    """A row under our names, its texts checked as they are asked for."""

    def __init__(self, raw: TableRow, plain_cells: bool, config: RecordsConfig) -> None:
        self.number, self.fault, self.plain_cells = raw.number, raw.fault, plain_cells
        self.file_names = dict(config.map or {})
        taken = set(self.file_names.values())
        for name in raw.values:
            ours = name.strip().lower()
            if (
                ours in NAMES
                and name not in taken
                and (ours not in self.file_names or name == ours)
            ):
                self.file_names.setdefault(ours, name)
        self.raw = raw.values
        self.values = {ours: raw.values.get(name) for ours, name in self.file_names.items()}
        self.names = {ours for ours, value in self.values.items() if value is not None}

    def has_all_of(self, kind: str) -> bool:
        """Whether it has what a record of the kind needs."""
        return all(self.names & set(group) for group in NEEDS[kind])

    def shown(self, name: str) -> str:
        """A name as the file has it."""
        return self.file_names.get(name, name)

    def first_of(self, names: Sequence[str]) -> str:
        """The first of several names that is there, or the first of all."""
        return next((name for name in names if name in self.names), names[0])

    def text(self, name: str) -> str:
        """A text that must be there. Raises _Unusable."""
        text = self.optional_text(name, self.values.get(name))
        if text is None:
            raise _Unusable(f"{self.shown(name)!r} is missing")
        if not text.strip():
            raise _Unusable(f"{self.shown(name)!r} is empty")
        return text

    def optional_text(self, name: str, value: Any) -> str | None:
        """A value as text; None if absent. Raises _Unusable."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if self.plain_cells:
            value = text_of_cell(value)
            if value in NOTHING:
                return None
        if not isinstance(value, str):
            kind = _JSON_KINDS.get(type(value), type(value).__name__)
            raise _Unusable(f"{self.shown(name)!r} is {kind}, not text")
        if len(value) > MOST_CHARACTERS:
            raise _Unusable(f"{self.shown(name)!r} has more than {MOST_CHARACTERS:,} characters")
        return "".join(tidy([value]))


NOTHING = {"nan", "NaN", "<NA>", "#N/A", "#REF!", "#DIV/0!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!"}
"""What stands in a table for nothing: pandas's missing value, and the errors of spreadsheets."""

_JSON_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    DuplicateName: "an object",
    bytes: "binary data",
}


def _kind_of_all(rows: list[_Row], table: Table, kinds: Collection[str]) -> tuple[str, _Row]:
    """The kind of the first row that is whole, and that row. Raises DataError."""
    wanted = [kind for kind in KINDS if kind in kinds]
    for row in rows:
        found = next((kind for kind in (*wanted, *KINDS) if row.has_all_of(kind)), None)
        if found in wanted:
            return found, row
        if found is not None:
            raise DataError(
                f"{table.where}: holds {found} records ({_needed(found)}), where "
                f"{' or '.join(f'{kind} records ({_needed(kind)})' for kind in wanted)} are needed"
            )
    there = dict.fromkeys(name for row in rows[:1000] for name in row.raw)
    if not there:
        dropped = [Dropped(row.number, row.fault or "it has no values") for row in rows]
        raise DataError(f"{table.where}: no row can be used: {reasons(dropped, table.unit)}")
    expected = "; or ".join(_needed(kind) for kind in wanted)
    raise DataError(
        f"{table.where}: has {_listed(there)}, where these are needed: {expected}: say which is "
        "which, such as --map output=answer"
    )


def _needed(kind: str) -> str:
    """The names that a kind needs, for people."""
    return ", ".join(group[0] for group in NEEDS[kind])


def _check_kind(row: _Row, kind: str, first: _Row, table: Table) -> None:
    """Raises DataError where a row is whole, but of another kind than the first."""
    if row.has_all_of(kind):
        return
    other = next((k for k in KINDS if row.has_all_of(k)), None)
    if other is not None:
        raise DataError(
            f"{table.where}: {table.unit} {row.number} is a record of the kind {other} "
            f"({_needed(other)}), but {table.unit} {first.number} of the kind {kind} "
            f"({_needed(kind)}): give each kind a file of its own"
        )


def _begin(row: _Row, kind: str) -> None:
    """Raises _Unusable where a row is unsound in itself, or lacks a name."""
    if row.fault:
        raise _Unusable(row.fault)
    for group in NEEDS[kind]:
        if not row.names & set(group):
            raise _Unusable(f"{row.shown(group[0])!r} is missing")


def _instruction(row: _Row) -> InstructionRecord:
    _begin(row, "instruction")
    return InstructionRecord(
        row.number, row.text("instruction"), row.text("output"), _input_of(row)
    )


def _input_of(row: _Row) -> str:
    """The input, which may be missing; white space alone is none."""
    text = row.optional_text("input", row.values.get("input")) or ""
    return text if text.strip() else ""


def _preference(row: _Row) -> PreferenceRecord:
    _begin(row, "preference")
    name = row.first_of(NEEDS["preference"][0])
    prompt, chosen, rejected = row.text(name), row.text("chosen"), row.text("rejected")
    if chosen.strip() == rejected.strip():
        raise _Unusable(f"{row.shown('chosen')!r} and {row.shown('rejected')!r} are the same")
    return PreferenceRecord(row.number, prompt, chosen, rejected, _input_of(row))


def _labeled(row: _Row) -> LabeledRecord:
    _begin(row, "labeled")
    value = row.values["label"]
    if isinstance(value, (bool, int)):
        row.values["label"] = str(value)
    elif isinstance(value, float) and value.is_integer():
        row.values["label"] = str(int(value))
    return LabeledRecord(row.number, row.text("text"), row.text("label").strip())


def _conversation(row: _Row) -> ConversationRecord:
    _begin(row, "conversation")
    name = repr(row.shown("messages"))
    values = row.values["messages"]
    if not isinstance(values, list):
        raise _Unusable(f"{name} is {_JSON_KINDS.get(type(values), 'text')}, not a list")
    messages = [_message(row, name, value) for value in values]
    while messages and messages[-1]["role"] != "assistant":  # nothing answers them
        messages.pop()
    if not messages:
        raise _Unusable(f"{name} contains no answer of the assistant")
    roles = [message["role"] for message in messages]
    if "user" not in roles[: roles.index("assistant")]:
        raise _Unusable(f"{name} begin with the assistant")
    return ConversationRecord(row.number, tuple(messages))


def _message(row: _Row, name: str, value: Any) -> Message:
    """One message, checked. Raises _Unusable."""
    if not isinstance(value, dict) or isinstance(value, DuplicateName):
        raise _Unusable(f"{name} hold something other than messages with role and content")
    role = value.get("role")
    if role not in ROLES:
        raise _Unusable(f"{name} hold the role {role!r:.20}, which is none of {', '.join(ROLES)}")
    content = row.optional_text("messages", value.get("content"))
    if content is None or (role != "system" and not content.strip()):
        raise _Unusable(f"{name} hold an empty message")
    return message(role, content)


_BUILDERS: dict[str, Callable[[_Row], Record]] = {
    "preference": _preference,
    "conversation": _conversation,
    "instruction": _instruction,
    "labeled": _labeled,
}
