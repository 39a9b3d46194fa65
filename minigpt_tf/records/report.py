"""What became of a set of records, before anything is trained on them."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..console import printable
from ..files.notes import counted
from ..text.tokenizers import BaseTokenizer
from .duplicates import Duplicate
from .reading import Dropped
from .truncation import Row

MOST_PLACES = 6
"""So many rows are named where more have the same fault."""

FEW_RECORDS = 500
"""With fewer a model learns how to answer sooner than what."""

MOST_STRETCH = 600
"""A longer stretch of the example is shown without its middle."""


FILE_NAMES = {
    "splits": "parts",
    "truncated": "cut",
    "target_fraction": "target_share",
    "unknown_fraction": "unknown_share",
}


@dataclass(frozen=True)
class RecordsReport:
    """Counts, lengths in tokens, and everything that a person may want to mend first."""

    where: str
    unit: str
    """What row numbers count: line, row or entry."""
    kind: str
    notes: tuple[str, ...]
    """What of the source is not in the records, or was taken for something else."""
    read: int
    """Rows in the source."""
    dropped: tuple[Dropped, ...]
    left_out: int
    """Records that balancing the labels left out."""
    splits: Mapping[str, int]
    """Records in training, validation and test."""
    labels: Mapping[str, int]
    """Records of each label; empty for other kinds."""
    template: str
    context_length: int
    lengths: Mapping[str, int]
    """Tokens of a row: min, median, 95 %, max. A row of a preference record is one answer's."""
    truncated: tuple[tuple[int, int], ...]
    """(row, tokens that were dropped from its prompt)."""
    target_fraction: float
    """Tokens that are trained, of all tokens."""
    end_tokens: tuple[str, ...]
    """The tokens that end an answer; none: the model has no such token."""
    end_trained: int
    """Rows of tokens whose last trained token is one of these."""
    rows: int
    """Rows of tokens: two of each preference record."""
    unknown_fraction: float
    """Tokens that stand for something the tokenizer does not know, of all tokens."""
    spelled: tuple[int, ...]
    """Rows whose texts spell special tokens, which stay text."""
    duplicates: tuple[Duplicate, ...]
    """Held-out records whose prompt is in the training set too, or nearly."""
    contradictions: tuple[tuple[int, ...], ...]
    """Rows that answer, or label, one prompt in different ways."""
    example_row: int
    example: str
    """The first training record, with what is trained in [[ ]]."""

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data, under the names that config.json has had from the first."""
        return {
            FILE_NAMES.get(name, name): value for name, value in dataclasses.asdict(self).items()
        }

    def lines(self) -> Iterator[str]:
        """The report for people, but for the example."""
        yield f"{self.where}: {counted(self.read, self.unit)} read, {self.kind} records"
        yield from self._dropped_lines()
        yield from self.notes
        if self.left_out:
            yield f"balanced: {counted(self.left_out, 'record')} of the commoner labels left out"
        if self.labels:
            counts = [f"{label!r:.40} {count}" for label, count in self.labels.items()]
            more = f" and {len(counts) - 12} more" if len(counts) > 12 else ""
            yield f"labels: {', '.join(counts[:12])}{more}"
        yield "split: " + ", ".join(f"{count:,} {name}" for name, count in self.splits.items())
        yield f"template: {self.template}"
        shown = ", ".join(f"{name} {value:,}" for name, value in self.lengths.items())
        yield f"tokens of a row: {shown}; the context has {self.context_length:,}"
        if self.truncated:
            tokens = sum(tokens for _, tokens in self.truncated)
            places = _places([row for row, _ in self.truncated], self.unit)
            prompts = counted(len(self.truncated), "prompt")
            yield f"too long: {tokens:,} tokens dropped from {prompts} ({places})"
        if self.unknown_fraction:
            yield f"unknown to the tokenizer: {self.unknown_fraction:.1%} of the tokens"
        if self.spelled:
            places = _places(self.spelled, self.unit)
            count = counted(len(self.spelled), "record")
            yield f"special tokens that {count} spell, taken as text ({places})"
        if self.kind != "labeled":
            yield from self._target_lines()
        yield from self._duplicate_lines()
        yield from self._contradiction_lines()
        if self.kind in ("instruction", "conversation") and self.splits["training"] < FEW_RECORDS:
            yield (
                f"few: from fewer than {FEW_RECORDS} records a model learns how to answer sooner "
                "than what; for facts see docs/guide/records.md"
            )

    def _dropped_lines(self) -> Iterator[str]:
        if not self.dropped:
            return
        yield f"dropped: {counted(len(self.dropped), self.unit)}"
        by_reason: dict[str, list[int]] = defaultdict(list)
        for item in self.dropped:
            by_reason[item.reason].append(item.row)
        for reason, rows in sorted(by_reason.items(), key=lambda item: -len(item[1])):
            yield f"  {len(rows):,}: {reason} ({_places(rows, self.unit)})"

    def _target_lines(self) -> Iterator[str]:
        yield f"trained: {self.target_fraction:.1%} of the tokens"
        if not self.end_tokens:
            yield "end of an answer: the model has no token for it, and will not know where to end"
            return
        tokens = " or ".join(self.end_tokens)
        yield f"end of an answer: {tokens}, trained in {self.end_trained:,} of {self.rows:,} rows"

    def _contradiction_lines(self) -> Iterator[str]:
        if not self.contradictions:
            return
        yield f"answered in different ways: {counted(len(self.contradictions), 'prompt')}"
        for rows in self.contradictions[:MOST_PLACES]:
            yield f"  {_places(rows, self.unit)}"
        if len(self.contradictions) > MOST_PLACES:
            yield f"  and {len(self.contradictions) - MOST_PLACES:,} more"

    def _duplicate_lines(self) -> Iterator[str]:
        exact = [item for item in self.duplicates if item.exact]
        near = [item for item in self.duplicates if not item.exact]
        for found, how in ((exact, "word for word"), (near, "nearly")):
            if found:
                yield (
                    f"held out, but {how} in the training set too: {counted(len(found), 'prompt')}"
                )
                for item in found[:MOST_PLACES]:
                    common = "" if item.exact else f" ({item.similarity:.0%} in common)"
                    yield f"  {self.unit} {item.row} is like {self.unit} {item.other_row}{common}"
                if len(found) > MOST_PLACES:
                    yield f"  and {len(found) - MOST_PLACES:,} more"


def _places(rows: Sequence[int], unit: str) -> str:
    """line 4; lines 4, 9 and 20 more"""
    shown = ", ".join(str(row) for row in rows[:MOST_PLACES])
    more = f" and {len(rows) - MOST_PLACES:,} more" if len(rows) > MOST_PLACES else ""
    return f"{counted(len(rows), unit).split(' ', 1)[1]} {shown}{more}"


def show_mask(row: Row, tokenizer: BaseTokenizer, marks: tuple[str, str] = ("[[", "]]")) -> str:
    """The text of a row with what is trained between marks.

    Args:
        row: The row.
        tokenizer: Decodes it.
        marks: What stands before and behind what is trained.

    Returns:
        The text. Control characters are written out, as `printable` does; long stretches lose their
        middle.
    """
    edges = np.flatnonzero(np.diff(row.mask.astype(np.int8))) + 1
    ends = [*edges.tolist(), len(row.ids)]
    shown, begun = "", ""
    start = 0
    for end in ends:
        text = tokenizer.decode(row.ids[:end])
        stretch = printable(text[len(begun) :])
        if len(stretch) > MOST_STRETCH:
            stretch = f"{stretch[: MOST_STRETCH // 2]} ... {stretch[-MOST_STRETCH // 2 :]}"
        shown += f"{marks[0]}{stretch}{marks[1]}" if row.mask[start] else stretch
        begun, start = text, end
    return shown
