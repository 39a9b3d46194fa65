"""The body of POST /v1/responses: which of its fields are supported."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from .bodies import LIMIT, NO_SCHEMAS, NO_TOOLS, Sampled
from .fields import (
    CONTENT,
    MOST_MESSAGES,
    Content,
    Int,
    Text,
    as_text,
    extension,
    not_served,
    supported,
    without_effect,
)

NOT_KEPT = "no answer is kept: send the conversation"
_TEXT_FORMAT = {"format": {"type": "text"}}


def _items(value: Any) -> list[tuple[str, str]]:
    """(role, text) of each message."""
    if isinstance(value, str):
        return [("user", as_text(value) or "")]
    if not isinstance(value, list) or not 0 < len(value) <= MOST_MESSAGES:
        message = f"expected a text, or a list of 1 to {MOST_MESSAGES} messages"
        raise PydanticCustomError("wrong", "{text}", {"text": message})
    found = []
    for place, item in enumerate(value):
        kind = item.get("type", "message") if isinstance(item, dict) else None
        if kind == "reasoning":  # what other models thought
            continue
        role = item.get("role") if isinstance(item, dict) else None
        if kind != "message" or role not in ("system", "developer", "user", "assistant"):
            message = f"item {place} is {kind!r:.40} of {role!r:.40}: {NO_TOOLS}"
            raise PydanticCustomError("wrong", "{text}", {"text": message})
        text = as_text(item.get("content"))
        if text is None:
            message = f"item {place} has no content"
            raise PydanticCustomError("wrong", "{text}", {"text": message})
        found.append((role, text))
    return found


_ITEM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"enum": ["message"]},
        "role": {"enum": ["system", "developer", "user", "assistant"]},
        "content": {"anyOf": CONTENT},
    },
    "required": ["role", "content"],
}
Input = Annotated[
    Any,
    BeforeValidator(_items),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": _ITEM, "minItems": 1, "maxItems": MOST_MESSAGES},
            ]
        }
    ),
]
"""A text, or messages."""


class ResponsesRequest(Sampled):
    """The body of POST /v1/responses."""

    input: Input = supported(..., "a text, or messages of text")
    instructions: Content = supported(None, "a system message before them")
    max_output_tokens: Int | None = supported(None, "length of the answer at most", **LIMIT)
    stream: bool | None = supported(None, "send the answer as events")
    truncation: Literal["auto", "disabled"] | None = supported(
        None, "auto: leave out the oldest messages of a conversation that is too long"
    )
    repetition_penalty: float | None = extension(
        None, "divides the logits of tokens in prompt and answer", minimum=0.01, maximum=100
    )
    previous_response_id: Text | None = not_served(NOT_KEPT)
    conversation: Any = not_served(NOT_KEPT)
    background: Any = not_served(NOT_KEPT, False)
    prompt: Any = not_served("no prompts are kept: send the text")
    tools: Any = not_served(NO_TOOLS, [])
    tool_choice: Any = not_served(NO_TOOLS, "none", "auto")
    text: Any = not_served(NO_SCHEMAS, _TEXT_FORMAT, {})
    include: Any = not_served("there is nothing more to include", [])
    top_logprobs: Any = not_served("ask chat completions for log probabilities", 0)
    parallel_tool_calls: Any = without_effect(NO_TOOLS)
    max_tool_calls: Any = without_effect(NO_TOOLS)
    reasoning: Any = without_effect("the models here do not reason apart from the answer")
    stream_options: Any = without_effect("there is nothing to hide")
