"""How others write conversations -> messages with role and content, and pairs of answers."""

import ast
import functools
import re
from collections.abc import Sequence
from typing import Any

from ..errors import DataError
from ..files.json_values import DuplicateName, parse_json

USERS = {"user", "human", "prompter", "customer"}
ASSISTANTS = {"assistant", "gpt", "chatgpt", "bing", "bard", "claude", "model", "chatbot", "ai"}
SYSTEMS = {"system", "developer"}

_ROLES = dict.fromkeys(USERS, "user") | dict.fromkeys(ASSISTANTS, "assistant")
_ROLES |= dict.fromkeys(SYSTEMS, "system")

MESSAGE_NAMES = {"role", "from", "type", "content", "value", "parts", "weight", "tool_calls"}
MESSAGE_NAMES |= {"function_call", "id", "name", "timestamp", "create_time"}
"""What messages hold that is read, refused, or says nothing."""

ROLES = ("system", "user", "assistant")

SHAREGPT_NAMES = ("conversations", "conversation", "contents")
"""Names of a list of messages besides `messages`: of ShareGPT, FastChat and Gemini."""

SYSTEM_NAMES = ("system", "system_prompt", "systemInstruction", "system_instruction")
"""Names of a system message that stands beside the others."""

_TURN = re.compile(r"\n\n(Human|Assistant):[ \n]?")
"""How Anthropic's hh-rlhf writes whose turn it is."""

_LONGEST_LITERAL = 1_000_000


class Unusable(Exception):
    """Why a row is dropped."""


def adapted(
    values: dict[str, Any], taken: frozenset[str], *, cells_are_texts: bool
) -> dict[str, Any]:
    """A row with the names that are used here, where it has a layout of others.

    Args:
        values: The row, as it is in its file.
        taken: Names that --map gives another meaning.
        cells_are_texts: Whether lists may be written as texts, as in the cells of a table.

    Returns:
        The same row, or one in which other names stand for the same: `messages` for ShareGPT's
        `conversations`, `prompt` for what `chosen` and `rejected` have in common, `instruction` and
        `output` for a prompt with its completion.

    Example:
        >>> adapted({"prompt": "p", "completion": "c"}, frozenset(), cells_are_texts=False)
        {'instruction': 'p', 'output': 'c'}
    """
    lower = _in_lower_case(tuple(values), taken)
    if "preferred_output" in lower and "non_preferred_output" in lower:
        return _with_preferences(values, lower)
    if cells_are_texts:
        for key in ("messages", *SHAREGPT_NAMES, "prompt", "completion", "chosen", "rejected"):
            if key in lower and (found := _written_list(values[lower[key]])) is not None:
                values = values | {lower[key]: found}
    if "messages" not in lower:
        for key in SHAREGPT_NAMES:
            if key in lower and isinstance(values[lower[key]], list):
                values = _instead(values, [lower[key]], {"messages": values[lower[key]]})
                break
    if isinstance(values.get(lower.get("messages", "messages")), list):
        return _with_system(values, lower)
    if "chosen" in lower and "rejected" in lower:
        return _with_prompt(values, lower)
    if "prompt" in lower and "completion" in lower and "label" not in lower:
        return _with_answer(values, lower)
    return values


@functools.lru_cache(maxsize=100)  # the rows of most files have the same names
def _in_lower_case(names: tuple[str, ...], taken: frozenset[str]) -> dict[str, str]:
    """Names in lower case -> those of the file."""
    return {name.strip().lower(): name for name in names if name not in taken}


def _written_list(value: Any) -> list[Any] | None:
    """A list that is written as text: JSON, or as Python writes it, as pandas does in CSV."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return None
    try:
        found = parse_json(value)
    except DataError:
        if len(value) > _LONGEST_LITERAL:
            return None
        try:
            found = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    is_list = isinstance(found, list) and all(isinstance(item, dict) for item in found)
    return found if is_list else None


def _with_system(values: dict[str, Any], lower: dict[str, str]) -> dict[str, Any]:
    """A conversation with the system message that stands beside it in front."""
    name = lower.get("messages", "messages")
    messages = values[name]
    beside = next((key for key in SYSTEM_NAMES if values.get(key)), None)
    if beside is None or any(role_of(item) == "system" for item in messages):
        return values
    content = values[beside]
    if isinstance(content, dict):
        content = content.get("parts", content.get("content"))
    rest = {key: value for key, value in values.items() if key != beside}
    return rest | {name: [{"role": "system", "content": content}, *messages]}


def _with_preferences(values: dict[str, Any], lower: dict[str, str]) -> dict[str, Any]:
    """A pair of answers as OpenAI's preference tuning has it."""
    used = [lower.get("input", ""), lower["preferred_output"], lower["non_preferred_output"]]
    asked, chosen, rejected = (values.get(name) for name in used)
    if isinstance(asked, dict):
        asked = asked.get("messages")
    return _instead(values, used, {"prompt": asked, "chosen": chosen, "rejected": rejected})


def _with_prompt(values: dict[str, Any], lower: dict[str, str]) -> dict[str, Any]:
    """A pair of answers with what both of them answer."""
    chosen, rejected = values[lower["chosen"]], values[lower["rejected"]]
    has_prompt = any(
        values.get(lower.get(name, "")) is not None for name in ("prompt", "instruction")
    )
    if has_prompt:
        return values
    if isinstance(chosen, str) and isinstance(rejected, str):
        first, second = _taken_apart(chosen), _taken_apart(rejected)
        if first is None or second is None:
            return values
        chosen, rejected = first, second
    if not isinstance(chosen, list) or not isinstance(rejected, list):
        return values
    same = 0
    while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
        same += 1
    return values | {
        "prompt": chosen[:same],
        lower["chosen"]: chosen[same:],
        lower["rejected"]: rejected[same:],
    }


def _taken_apart(text: str) -> list[dict[str, str]] | None:
    """A conversation out of a text in which Human: and Assistant: take turns."""
    before, *rest = _TURN.split(text if text.startswith("\n") else f"\n\n{text.lstrip()}")
    if before.strip() or not rest:
        return None
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = zip(rest[::2], rest[1::2], strict=True)
    return [{"role": roles[role], "content": content.strip()} for role, content in turns]


def _with_answer(values: dict[str, Any], lower: dict[str, str]) -> dict[str, Any]:
    """A prompt and its completion, as texts or as messages."""
    used = [lower["prompt"], lower["completion"]]
    prompt, completion = (values[name] for name in used)
    if isinstance(prompt, list) or isinstance(completion, list):
        asked = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        answer = {"role": "assistant", "content": completion}
        answers = completion if isinstance(completion, list) else [answer]
        return _instead(values, used, {"messages": [*asked, *answers]})
    if "instruction" in lower or "output" in lower:
        return values
    return _instead(values, used, {"instruction": prompt, "output": completion})


def _instead(values: dict[str, Any], used: list[str], new: dict[str, Any]) -> dict[str, Any]:
    """A row with new values in the place of those that they are made of."""
    return {name: value for name, value in values.items() if name not in used} | new


def role_of(item: Any) -> Any:
    """Who says a message: system, user or assistant, or what else the file has."""
    if not isinstance(item, dict):
        return None
    role = next((item[key] for key in ("role", "from", "type") if key in item), None)
    return _ROLES.get(role.strip().lower(), role) if isinstance(role, str) else role


def content_of(item: dict[str, Any], name: str) -> Any:
    """What a message says.

    Args:
        item: The message.
        name: The list that it is in, for errors.

    Returns:
        Its text, of several parts one below the other; anything else as it is in the file.

    Raises:
        Unusable: It is something other than text.
    """
    for key in ("tool_calls", "function_call"):
        if item.get(key):
            raise Unusable(f"{name} hold calls of tools ({key}), which are not supported")
    if str(item.get("weight", 1)) in ("0", "0.0"):
        raise Unusable(f"{name} hold a message of weight 0, which is not supported")
    found = next((item[key] for key in ("content", "value", "parts") if key in item), None)
    if not isinstance(found, list):
        return found
    texts = []
    for entry in found:
        if isinstance(entry, str):
            texts.append(entry)
        elif isinstance(entry, dict) and isinstance(entry.get("text"), str):
            texts.append(entry["text"])
        else:
            kind = entry.get("type", "something else") if isinstance(entry, dict) else "a value"
            raise Unusable(f"{name} hold {kind!r:.30}, where a text is needed")
    return "\n".join(texts)


def is_message(value: Any) -> bool:
    """Whether a value may be a message: an object in which no name is a duplicate."""
    return isinstance(value, dict) and not isinstance(value, DuplicateName)


def without(messages: Sequence[Any], prompt: Sequence[Any]) -> list[Any]:
    """Messages without those that the prompt has already.

    Args:
        messages: The messages of an answer.
        prompt: Those of the prompt, which some files repeat before it.

    Returns:
        The messages of the answer alone.
    """
    count = len(prompt)
    if count and len(messages) > count and list(messages[:count]) == list(prompt):
        return list(messages[count:])
    return list(messages)
