"""The kinds of records, and the names of their values."""

from dataclasses import dataclass
from typing import Any

from ..text.chat_template import Message, message


class _Asked:
    """A record with an instruction, and perhaps an input that it is about."""

    __slots__ = ()
    instruction: str
    input: str

    @property
    def question(self) -> list[Message]:
        """What is asked, as a conversation that the answer ends."""
        return ask(self.instruction, self.input)

    @property
    def prompt_text(self) -> str:
        """What is asked, as one text: by it duplicates are found."""
        return content_of(self.question[0])


@dataclass(frozen=True, slots=True)
class InstructionRecord(_Asked):
    """A question, perhaps with an input that it is about, and its answer."""

    row: int
    """The line, row or entry of the source, counted from 1."""
    instruction: str
    output: str
    input: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """All its texts: records with equal ones are equal."""
        return self.instruction, self.input, self.output


@dataclass(frozen=True, slots=True)
class PreferenceRecord(_Asked):
    """A question, the answer that is wanted, and one that is not."""

    row: int
    instruction: str
    chosen: str
    rejected: str
    input: str = ""
    messages: tuple[Message, ...] = ()
    """What is asked, where that is a conversation; `instruction` is the last message of it."""

    @property
    def question(self) -> list[Message]:
        """As in an InstructionRecord, or the conversation."""
        return list(self.messages) or ask(self.instruction, self.input)

    @property
    def prompt_text(self) -> str:
        """As in an InstructionRecord, or all of the conversation."""
        return "\n".join(content_of(item) for item in self.question)

    @property
    def texts(self) -> tuple[str, ...]:
        """As in an InstructionRecord."""
        before = (text for m in self.messages for text in (m["role"], m["content"]))
        return self.instruction, self.input, self.chosen, self.rejected, *before


@dataclass(frozen=True, slots=True)
class LabeledRecord:
    """A text and the name of its class."""

    row: int
    text: str
    label: str

    @property
    def prompt_text(self) -> str:
        """As in an InstructionRecord."""
        return self.text

    @property
    def texts(self) -> tuple[str, ...]:
        """As in an InstructionRecord."""
        return self.text, self.label


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """Messages of system, user and assistant; the last is an answer of the assistant."""

    row: int
    messages: tuple[Message, ...]

    @property
    def question(self) -> list[Message]:
        """As in an InstructionRecord: all before the last answer."""
        return list(self.messages[:-1])

    @property
    def prompt_text(self) -> str:
        """As in an InstructionRecord: what the user says."""
        return "\n".join(m["content"] for m in self.messages if m["role"] == "user")

    @property
    def texts(self) -> tuple[str, ...]:
        """As in an InstructionRecord."""
        return tuple(text for m in self.messages for text in (m["role"], m["content"]))


Record = InstructionRecord | PreferenceRecord | LabeledRecord | ConversationRecord


def ask(instruction: str, input: str = "") -> list[Message]:
    """Makes a conversation of one question.

    Args:
        instruction: The content of the user's message.
        input: Kept beside the content, for templates that tell them apart.

    Returns:
        A list of one message.
    """
    asked = message("user", instruction)
    return [{**asked, "input": input} if input else asked]


def content_of(item: Message) -> str:
    """What a message says: its content and, after a blank line, its input."""
    return f"{item['content']}\n\n{item['input']}" if "input" in item else item["content"]


NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "preference": (("prompt", "instruction"), ("chosen",), ("rejected",)),
    "conversation": (("messages",),),
    "instruction": (("instruction",), ("output",)),
    "labeled": (("text",), ("label",)),
}
"""What a record of each kind must have; of several names, the first that is there is taken. A row
with the names of several kinds is of the one that stands first here."""

OLD_KINDS = {"labelled": "labeled"}
"""What 0.1 called a kind -> its name."""

KINDS = tuple(NEEDS)
NAMES = frozenset({"input"}.union(*(group for needs in NEEDS.values() for group in needs)))


def __getattr__(name: str) -> Any:
    if name == "LabelledRecord":  # its name in 0.1
        return LabeledRecord
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
