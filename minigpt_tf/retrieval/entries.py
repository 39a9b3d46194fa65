"""Files -> entries: a row of records or a passage of a document, each with where it stands."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import RecordsConfig
from ..errors import DataError
from ..files.documents import read_documents
from ..files.notes import Notes
from ..files.sources import is_url
from ..records.conversations import Unusable, adapted, content_of, role_of
from ..records.record_files import read_rows

QUESTION_NAMES = ("question", "instruction", "prompt", "title", "subject")
ANSWER_NAMES = ("answer", "output", "response", "completion", "chosen")
NAMES = frozenset({*QUESTION_NAMES, *ANSWER_NAMES, "input", "messages"})

TABLES = frozenset({".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".tab", ".xlsx"})
"""Endings of files that consist of rows; any other is a document."""

PASSAGE_WORDS = 80
"""A passage is no longer, unless a sentence is."""

MOST_CHARACTERS = 2_000
"""Of an entry: more would leave a prompt no room."""


@dataclass(frozen=True)
class Entry:
    """What can be found.

    Example:
        >>> Entry(("opening hours",), "We open at 8:00.", "faq.csv, line 2").text
        'We open at 8:00.'
    """

    questions: tuple[str, ...]
    """What it answers, or is about; at least one."""
    text: str
    source: str
    """The file, and the row or line in it."""


@dataclass(frozen=True)
class Entries:
    """The entries of all files."""

    entries: list[Entry]
    notes: list[str] = field(default_factory=list)
    """What was left out, and of which file."""


def read_entries(sources: Sequence[str | Path], encoding: str = RecordsConfig.encoding) -> Entries:
    """Reads records and documents.

    Rows with the same answer are one entry that answers all their questions. Rows without question
    and answer become "name: value" of all that they hold.

    Args:
        sources: Files, folders of documents, and URLs of documents.
        encoding: Of files without a byte order mark.

    Returns:
        The entries, in the order of the files.

    Raises:
        DataError: A file cannot be read, or there is nothing in any; it is named.
    """
    found: dict[str, Entry] = {}
    notes: list[str] = []
    for source in sources:
        is_table = Path(source).suffix.lower() in TABLES and not is_url(str(source))
        read = _rows if is_table else _passages
        for entry in read(source, encoding, notes):
            known = found.get(entry.text)
            if known is not None:
                questions = dict.fromkeys(known.questions + entry.questions)
                entry = Entry(tuple(questions), entry.text, known.source)
            found[entry.text] = entry
    if not found:
        raise DataError(f"{', '.join(map(str, sources))}: nothing to answer from was found")
    return Entries(list(found.values()), notes)


# Records


def _rows(source: str | Path, encoding: str, notes: list[str]) -> Iterator[Entry]:
    """The entries of a table's rows."""
    table = read_rows(source, RecordsConfig(encoding=encoding), NAMES)
    left_out = Notes()
    for row in table.rows:
        pairs = [("", row.text)] if row.text is not None else list(_pairs(row.values))
        kept = [(about, text) for about, text in pairs if text.strip()]
        if not kept:
            left_out.leave_out("row without an answer", place=f"{table.unit} {row.number}")
        place = f"{Path(table.where).name}, {table.unit} {row.number}"
        for about, text in kept:
            yield _entry([about], text, place)
    for note in (*table.notes.lines(), *left_out.lines()):
        notes.append(f"{table.where}: {note}")


def _pairs(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(what it is about, what it says) of a row: several if it is a conversation."""
    values = adapted(values, frozenset(), cells_are_texts=True)
    known = {str(name).strip().lower(): value for name, value in values.items()}
    if isinstance(known.get("messages"), list):
        yield from _turns(known["messages"])
        return
    question, answer = (
        next((known[name] for name in names if known.get(name) not in (None, "")), None)
        for names in (QUESTION_NAMES, ANSWER_NAMES)
    )
    if answer is not None:
        said = [_shown(item) for item in (question, known.get("input")) if item not in (None, "")]
        yield " ".join(said), _shown(answer)
        return
    cells = [(name, _shown(cell)) for name, cell in values.items() if cell not in (None, "")]
    if cells:
        yield cells[0][1], ". ".join(f"{name}: {cell}" for name, cell in cells)


def _turns(messages: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Each answer of a conversation, and what was asked before it."""
    asked = ""
    for turn in messages:
        content = _content(turn)
        if not isinstance(content, str):
            continue
        if role_of(turn) == "assistant":
            yield asked, content
        elif role_of(turn) == "user":
            asked = content


def _content(turn: Any) -> Any:
    """What a message says; None where it is none, or says something other than text."""
    try:
        return content_of(turn, "messages") if isinstance(turn, dict) else None
    except Unusable:
        return None


def _shown(value: Any) -> str:
    """A value as a person reads it."""
    if isinstance(value, dict) and ("role" in value or "from" in value):
        return _shown(_content(value) or "")
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_shown(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return str(value).strip()


# Documents

_HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*\s*$")
_SENTENCE = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s+")


def _passages(source: str | Path, encoding: str, notes: list[str]) -> Iterator[Entry]:
    """The entries of a document, or of all in a folder."""
    found = read_documents([source], encoding)
    for path, reason in (*found.skipped, *found.notes):
        notes.append(f"{path}: {reason}")
    for document in found.documents:
        for about, text, line in passages(document.text):
            yield _entry([about], text, f"{Path(document.path).name}, line {line}")


def passages(text: str) -> Iterator[tuple[str, str, int]]:
    """A document in passages: paragraphs under one heading, up to PASSAGE_WORDS words.

    Args:
        text: The document, with \\n as line ends.

    Yields:
        The heading above it ("" if there is none), the passage, and the line on which it begins.
    """
    begun: list[str] = []
    heading, words, first = "", 0, 1
    for paragraph, line in _paragraphs(text):
        title = _title(paragraph)
        if begun and (title or words + len(paragraph.split()) > PASSAGE_WORDS):
            yield heading, "\n".join(begun), first
            begun, words = [], 0
        if title:
            heading = title
            continue
        for some in _sentences(paragraph):
            if begun and words + len(some.split()) > PASSAGE_WORDS:
                yield heading, "\n".join(begun), first
                begun, words = [], 0
            first = first if begun else line
            begun.append(some)
            words += len(some.split())
    if begun:
        yield heading, "\n".join(begun), first


def _paragraphs(text: str) -> Iterator[tuple[str, int]]:
    """Lines without a blank line between them, a heading alone; and the line of the first."""
    begun: list[str] = []
    first = 1
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if begun and (not line.strip() or _HEADING.match(line) or _HEADING.match(begun[-1])):
            yield " ".join(begun), first
            begun = []
        if line.strip():
            first = first if begun else number
            begun.append(line.strip())


def _title(paragraph: str) -> str:
    """What a paragraph says if it is a heading: marked as one, or short and not a sentence."""
    marked = _HEADING.match(paragraph)
    if marked:
        return marked[1]
    short = len(paragraph) <= 60 and len(paragraph.split()) <= 8
    return paragraph if short and paragraph[-1].isalnum() and paragraph[0].isupper() else ""


def _sentences(paragraph: str) -> Iterator[str]:
    """A paragraph, in groups of sentences of at most PASSAGE_WORDS words."""
    begun: list[str] = []
    words = 0
    for sentence in _SENTENCE.split(paragraph):
        count = len(sentence.split())
        if begun and words + count > PASSAGE_WORDS:
            yield " ".join(begun)
            begun, words = [], 0
        begun.append(sentence)
        words += count
    yield " ".join(begun)


def _entry(questions: Sequence[str], text: str, source: str) -> Entry:
    """An entry; one that says nowhere what it is about is about its first words."""
    said = tuple(question.strip() for question in questions if question.strip())
    text = text.strip()[:MOST_CHARACTERS]
    return Entry(said or (" ".join(text.split()[:6]),), text, source)
