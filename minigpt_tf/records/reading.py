"""Records for fine-tuning: questions with answers, pairs of answers, labeled texts, conversations.

`read_records` takes them from a file or a database, finds which of the four kinds they are, and
drops what cannot be used, with the reason and the place.
"""

import itertools
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import RecordsConfig
from ..errors import ConfigError, DataError
from ..files.notes import Notes
from ..files.twins import Twins
from .advice import advice_for
from .building import BUILDERS
from .conversations import Unusable
from .record_files import read_rows
from .row import Row
from .schema import KINDS, NAMES, NEEDS, OLD_KINDS, LabeledRecord, Record
from .tables import Table


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
    notes: tuple[str, ...] = ()
    """What of the source is not in the records, or was taken for something else."""

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
    kind, first = _kind_of_all(table, config, kinds)
    records: list[Record] = []
    dropped: list[Dropped] = []
    unused = _Unused(kind)
    for raw in table.rows:  # of a million rows, one at a time is held
        row = Row(raw, table.plain_cells, config)
        _check_kind(row, kind, first, table)
        try:
            records.append(BUILDERS[kind](row))
        except Unusable as error:
            dropped.append(Dropped(row.number, str(error)))
        unused.add(row, table.unit)
    if not records:
        why = "; ".join([reasons(dropped, table.unit), *table.notes.lines()])
        raise DataError(f"{table.where}: no row can be used: {why}")
    unused.note(table.notes)
    _note_twins(records, table)
    return Records(table.where, table.unit, kind, records, dropped, table.notes.lines())


class _Unused:
    """The messages behind the last answers, and what has a name that a record lacks."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.columns: dict[str, None] = {}
        self.in_messages: list[tuple[str, int, str, str]] = []
        """What, how many, where, and its name."""

    def add(self, row: Row, unit: str) -> None:
        """Looks at a row from which a record was made."""
        used = {row.file_names.get(name) for name in row.used(self.kind)} | row.stand_ins
        for name, value in row.raw.items():
            if name not in used and value not in (None, "", []):
                self.columns[name] = None
        place = f"{unit} {row.number}"
        if row.unanswered:
            what = "message behind the last answer"
            self.in_messages.append((what, row.unanswered, place, ""))
        for name in row.unused_fields:
            self.in_messages.append(("unused value of a message", 1, place, name))

    def note(self, notes: Notes) -> None:
        """Adds all that was found to the notes."""
        for what, number, place, name in self.in_messages:
            notes.leave_out(what, number, place=place, name=name)
        for name in self.columns:
            notes.leave_out("unused column", name=name)


def _note_twins(records: Sequence[Record], table: Table) -> None:
    """Notes letters, and so labels, that are written in two ways."""
    twins = Twins()
    for record in records:
        for text in record.texts:
            twins.add(text)
    if said := twins.said():
        table.notes.remark(said)
    labels = {record.label for record in records if isinstance(record, LabeledRecord)}
    same = Counter(unicodedata.normalize("NFC", label) for label in labels)
    for label, count in same.items():
        if count > 1:
            table.notes.remark(
                f"the label {label!r:.40} is written in {count} ways: {count} labels"
            )


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
    if not config.map:
        return
    there = dict.fromkeys(name for row in table.rows for name in row.values)
    for name, foreign in config.map.items():
        if foreign not in there:
            raise DataError(
                f"{table.where}: map {name}={foreign}: there is no {foreign!r}, but "
                f"{_listed(there)}"
            )


def _listed(names: Collection[str]) -> str:
    """Some names, quoted and truncated."""
    shown = ", ".join(f"{name!r:.30}" for name in list(names)[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown or "no names"


def _kind_of_all(table: Table, config: RecordsConfig, kinds: Collection[str]) -> tuple[str, Row]:
    """The kind of the first row that is whole, and that row. Raises DataError."""
    wanted = [kind for kind in KINDS if kind in kinds]
    for row in (Row(raw, table.plain_cells, config) for raw in table.rows):
        found = next((kind for kind in (*wanted, *KINDS) if row.has_all_of(kind)), None)
        if found in wanted:
            return found, row
        if found is not None:
            raise DataError(
                f"{table.where}: holds {found} records ({_needed(found)}), where "
                f"{' or '.join(f'{kind} records ({_needed(kind)})' for kind in wanted)} are needed"
            )
    there = dict.fromkeys(name for row in itertools.islice(table.rows, 1000) for name in row.values)
    if not there:
        dropped = [Dropped(row.number, row.fault or "it has no values") for row in table.rows]
        raise DataError(f"{table.where}: no row can be used: {reasons(dropped, table.unit)}")
    expected = "; or ".join(_needed(kind) for kind in wanted)
    advice = advice_for(there, wanted, is_table=table.plain_cells)
    about = "; ".join([advice, *table.notes.lines()])
    raise DataError(
        f"{table.where}: has {_listed(there)}, where these are needed: {expected}: {about}"
    )


def _needed(kind: str) -> str:
    """The names that a kind needs, for people."""
    return ", ".join(group[0] for group in NEEDS[kind])


def _check_kind(row: Row, kind: str, first: Row, table: Table) -> None:
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
