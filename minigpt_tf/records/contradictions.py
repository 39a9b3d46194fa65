"""Prompts that records answer in different ways: a model can learn only one of them."""

from collections import defaultdict
from collections.abc import Sequence

from ..text.chat_template import Message, message
from .schema import (
    ConversationRecord,
    InstructionRecord,
    LabeledRecord,
    PreferenceRecord,
    Record,
    content_of,
)


def find_contradictions(records: Sequence[Record]) -> list[tuple[int, ...]]:
    """Prompts that are answered, or labeled, in different ways.

    Case and white space make no difference.

    Args:
        records: All that are used; preferences, which have two answers anyway, are left out.

    Returns:
        The rows of each such prompt.

    Example:
        >>> from minigpt_tf.records.schema import InstructionRecord
        >>> rows = [("When do you open?", "8:00"), ("when do you  open?", "9:30"), ("Why?", "Yes.")]
        >>> find_contradictions([InstructionRecord(i, *row) for i, row in enumerate(rows, 1)])
        [(1, 2)]
    """
    answers: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for record in records:
        if isinstance(record, PreferenceRecord):
            continue
        if isinstance(record, LabeledRecord):
            answer = record.label
        elif isinstance(record, InstructionRecord):
            answer = record.output
        else:
            answer = record.messages[-1]["content"]
        prompt = "\n".join(content_of(item) for item in _asked(record))
        answers[_plain(prompt)][record.row] = _plain(answer)
    return [tuple(sorted(rows)) for rows in answers.values() if len(set(rows.values())) > 1]


def _asked(record: InstructionRecord | ConversationRecord | LabeledRecord) -> list[Message]:
    """All that stands before the answer."""
    if isinstance(record, LabeledRecord):
        return [message("user", record.text)]
    return record.question


def _plain(text: str) -> str:
    """The text without what makes no difference."""
    return " ".join(text.casefold().split())
