"""Files of queries: questions to ask of models, and the facts that right answers contain."""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config import RecordsConfig
from ...errors import DataError
from ...files.decoding import read_text, tidy
from ...files.notes import Notes
from ...records.record_files import read_file, read_json
from ...records.row import MOST_CHARACTERS
from ...records.tables import Table, TableRow, read_csv

QUESTION_NAMES = ("question", "instruction", "prompt")
"""Names of a row's question; of several the first that is there is taken."""

NAMES = frozenset({*QUESTION_NAMES, "input", "fact"})


@dataclass(frozen=True)
class Query:
    """One question, perhaps with an input that it is about."""

    row: int
    """The line or entry of the file, counted from 1."""
    question: str
    input: str = ""
    fact: str | None = None
    """What a right answer contains; None if the file does not say."""


@dataclass(frozen=True)
class Queries:
    """The queries of one file."""

    where: str
    unit: str
    """What row numbers count: line or entry."""
    queries: list[Query]
    notes: tuple[str, ...] = ()
    """What of the file is not in the queries, or was taken for something else."""

    @property
    def facts(self) -> int:
        """How many queries have a fact.

        Returns:
            The number.
        """
        return sum(query.fact is not None for query in self.queries)

    def place(self, query: Query) -> str:
        """Where a query is in the file.

        Args:
            query: One of them.

        Returns:
            For example "line 3".
        """
        return f"{self.unit} {query.row}"


def read_queries(path: str | Path, encoding: str = RecordsConfig.encoding) -> Queries:
    """The queries of a .txt, .json, .jsonl, .csv or .tsv file.

    Plain text has one on each line; the others have texts, or objects (rows) with `question`, or
    `instruction` and perhaps `input`, or `prompt`, and perhaps `fact`; other names are ignored.

    Args:
        path: The file.
        encoding: Of the file.

    Returns:
        The queries, in the file's order.

    Raises:
        DataError: The file cannot be read, or a row is not a query; it names both.
    """
    config = RecordsConfig(encoding=encoding)
    table = read_file(Path(path), READERS, config, NAMES)
    if not table.rows:
        raise DataError(f"{table.where}: contains no queries")
    queries = []
    for row in table.rows:
        try:
            queries.append(_query(row))
        except DataError as error:
            raise DataError(f"{table.where}: {table.unit} {row.number}: {error}") from None
    return Queries(table.where, table.unit, queries, table.notes.lines())


def _query(row: TableRow) -> Query:
    """Raises DataError if a row is not a query."""
    if row.text is not None:
        return Query(row.number, _text("the text", row.text))
    if row.fault:
        raise DataError(row.fault)
    values = {name.strip().lower(): value for name, value in row.values.items()}
    name = next((name for name in QUESTION_NAMES if values.get(name) is not None), None)
    if name is None:
        names = ", ".join(f"{name!r:.30}" for name in list(row.values)[:8]) or "no names"
        expected = " or ".join(map(repr, QUESTION_NAMES))
        raise DataError(f"has {names}, where {expected} is needed")
    fact, input = (
        "" if values.get(name) is None else _text(repr(name), values[name], blank=True)
        for name in ("fact", "input")
    )
    return Query(row.number, _text(repr(name), values[name]), input, fact or None)


def _text(name: str, value: Any, *, blank: bool = False) -> str:
    """A text, checked; of white space alone: "" with `blank`, else DataError is raised."""
    if not isinstance(value, str):
        raise DataError(f"{name} is {value!r:.40}, where a text is needed")
    if len(value) > MOST_CHARACTERS:
        raise DataError(f"{name} has more than {MOST_CHARACTERS:,} characters")
    text = "".join(tidy([value])).strip()
    if not text and not blank:
        raise DataError(f"{name} is empty")
    return text


def _read_lines(path: Path, config: RecordsConfig, names: Container[str]) -> Table:
    """A row for each line of plain text that is not blank."""
    notes = Notes()
    lines = enumerate(read_text(path, config.encoding, notes).split("\n"), start=1)
    rows = [TableRow(number, {}, text=line) for number, line in lines if line.strip()]
    return Table(str(path), "line", rows, notes=notes)


READERS = {
    ".txt": _read_lines,
    ".json": read_json,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
}
"""What reads a file, by its ending."""
