"""Rows -> records of each kind, or the reason why one cannot be used."""

from collections.abc import Callable, Sequence
from typing import Any

from ..files.json_values import NumberText
from ..text.chat_template import Message, message
from .conversations import MESSAGE_NAMES, ROLES, Unusable, content_of, is_message, role_of, without
from .row import JSON_KINDS, Row
from .schema import (
    NEEDS,
    ConversationRecord,
    InstructionRecord,
    LabeledRecord,
    PreferenceRecord,
    Record,
)


def _begin(row: Row, kind: str) -> None:
    """Raises Unusable where a row is unsound in itself, or lacks a name."""
    if row.fault:
        raise Unusable(row.fault)
    for group in NEEDS[kind]:
        if not row.names & set(group):
            raise Unusable(f"{row.shown(group[0])!r} is missing")


def _instruction(row: Row) -> InstructionRecord:
    _begin(row, "instruction")
    return InstructionRecord(
        row.number, row.text("instruction"), row.text("output"), _input_of(row)
    )


def _input_of(row: Row) -> str:
    """The input, which may be missing; white space alone is none."""
    text = row.optional_text("input", row.values.get("input")) or ""
    return text if text.strip() else ""


def _preference(row: Row) -> PreferenceRecord:
    _begin(row, "preference")
    name = row.first_of(NEEDS["preference"][0])
    if any(isinstance(row.values.get(key), list) for key in (name, "chosen", "rejected")):
        return _preference_of_messages(row, name)
    prompt, chosen, rejected = row.text(name), row.text("chosen"), row.text("rejected")
    _check_differ(row, chosen, rejected)
    return PreferenceRecord(row.number, prompt, chosen, rejected, _input_of(row))


def _check_differ(row: Row, chosen: str, rejected: str) -> None:
    if chosen.strip() == rejected.strip():
        raise Unusable(f"{row.shown('chosen')!r} and {row.shown('rejected')!r} are the same")


def _preference_of_messages(row: Row, name: str) -> PreferenceRecord:
    """A pair of answers to a conversation, as messages, where the prompt may be a text."""
    value = row.values.get(name)
    prompt = value if isinstance(value, list) else [{"role": "user", "content": row.text(name)}]
    asked = [_message(row, repr(row.shown(name)), item) for item in prompt]
    if not asked or asked[-1]["role"] != "user":
        raise Unusable(f"{row.shown(name)!r} does not end with a message of the user")
    chosen, rejected = (_answer(row, key, prompt) for key in ("chosen", "rejected"))
    _check_differ(row, chosen, rejected)
    messages = tuple(asked) if len(asked) > 1 else ()
    last = asked[-1]["content"]
    return PreferenceRecord(
        row.number, last, chosen, rejected, "" if messages else _input_of(row), messages
    )


def _answer(row: Row, key: str, prompt: Sequence[Any]) -> str:
    """One of the two answers, without the prompt that some files repeat before it."""
    value = row.values.get(key)
    if not isinstance(value, list):
        return row.text(key)
    messages = [_message(row, repr(row.shown(key)), item) for item in without(value, prompt)]
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise Unusable(
            f"{row.shown(key)!r} has {len(messages)} messages behind the prompt, where one answer "
            "of the assistant is needed"
        )
    return messages[0]["content"]


def _labeled(row: Row) -> LabeledRecord:
    _begin(row, "labeled")
    value = row.values["label"]
    if isinstance(value, (float, NumberText)) and str(value).endswith(".0"):
        row.values["label"] = str(value)[:-2]
    return LabeledRecord(row.number, row.text("text"), row.text("label").strip())


def _conversation(row: Row) -> ConversationRecord:
    _begin(row, "conversation")
    name = repr(row.shown("messages"))
    values = row.values["messages"]
    if not isinstance(values, list):
        raise Unusable(f"{name} is {JSON_KINDS.get(type(values), 'text')}, not a list")
    messages = [_message(row, name, value) for value in values]
    while messages and messages[-1]["role"] != "assistant":  # nothing answers them
        messages.pop()
    if not messages:
        raise Unusable(f"{name} contains no answer of the assistant")
    row.unanswered = len(values) - len(messages)
    roles = [message["role"] for message in messages]
    if "user" not in roles[: roles.index("assistant")]:
        raise Unusable(f"{name} begin with the assistant")
    return ConversationRecord(row.number, tuple(messages))


def _message(row: Row, name: str, value: Any) -> Message:
    """One message, checked. Raises Unusable."""
    if not is_message(value):
        raise Unusable(f"{name} hold something other than messages with role and content")
    role = role_of(value)
    if role not in ROLES:
        raise Unusable(f"{name} hold the role {role!r:.20}, which is none of {', '.join(ROLES)}")
    content = row.optional_text("messages", content_of(value, name))
    if content is None or (role != "system" and not content.strip()):
        raise Unusable(f"{name} hold an empty message")
    row.unused_fields += [key for key, said in value.items() if said and key not in MESSAGE_NAMES]
    return message(role, content)


BUILDERS: dict[str, Callable[[Row], Record]] = {
    "preference": _preference,
    "conversation": _conversation,
    "instruction": _instruction,
    "labeled": _labeled,
}
