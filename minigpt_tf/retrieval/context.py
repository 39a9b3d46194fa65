"""What goes into a prompt: the entries that were found, as turns that show how to answer."""

from collections.abc import Callable, Sequence
from typing import Any

from ..text.chat_template import Message, message
from .index import Found
from .terms import terms

UNKNOWN = "The records do not contain that."
"""The answer where no entry fits: the model is not asked."""

_ASKED = "Question: {}\nRepeat what the records say about it."


def messages_with(found: Sequence[Found], question: str) -> list[Message]:
    """A question behind the entries, each of which is a turn that answers its own question.

    Small models copy such turns better than they follow an instruction with a list of facts: of
    100 questions on the departments' records SmolLM2-135M answers 89 in this form and 72 with the
    three entries in one message.

    Args:
        found: The entries, the best first; the best stands last, next to the question.
        question: What the user asks.

    Returns:
        The messages, the last of which is the question.
    """
    turns: list[Message] = []
    for item in reversed(found):
        turns.append(message("user", _ASKED.format(_closest(item.entry.questions, question))))
        turns.append(message("assistant", item.entry.text))
    return [*turns, message("user", _ASKED.format(question))]


def messages_that_fit(
    found: Sequence[Found], question: str, fits: Callable[[list[Message]], bool]
) -> list[Message]:
    """A question behind as many of the entries as there is room for, and at least one.

    Args:
        found: The entries, the best first; one or more.
        question: What the user asks.
        fits: Whether such messages leave room for an answer.

    Returns:
        The messages, as of messages_with.
    """
    count = len(found)
    while count > 1 and not fits(messages_with(found[:count], question)):
        count -= 1
    return messages_with(found[:count], question)


def as_plain(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Entries as plain data, for JSON.

    Args:
        found: The entries, the best first.

    Returns:
        Where each stands, what it says, and how well it fits.
    """
    return [
        {"source": item.entry.source, "text": item.entry.text, "score": round(item.score, 3)}
        for item in found
    ]


def _closest(questions: Sequence[str], question: str) -> str:
    """Of the questions that an entry answers, the one most like what is asked."""
    asked = set(terms(question))

    def likeness(other: str) -> float:
        """Common terms, fewer in longer questions."""
        its = set(terms(other))
        return len(asked & its) / (len(its) + 2)

    return max(questions, key=likeness)
