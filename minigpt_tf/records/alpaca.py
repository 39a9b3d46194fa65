"""Alpaca's template (Taori et al., 2023), for models without a chat template."""

from collections.abc import Sequence
from typing import NamedTuple

from ..text.chat_template import Message

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request."
)
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request."
)
ALPACA_NAME = "Alpaca's template"
ALPACA_CHAT_TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}"
    + ALPACA
    + """{% endif %}
{% for message in messages %}{% if message.role == 'user' %}


### Instruction:
{{ message.content }}

### Response:
{% elif message.role == 'assistant' %}{{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"""
)
"""The same as a chat template, for the folder of a model that was trained with it."""


class Turn(NamedTuple):
    """One answer of a conversation, as text."""

    prompt: str
    """From the end of the turn before to where the answer begins."""
    answer: str
    """From there to where the next message begins: the content, and what a template adds to it."""
    content: str
    """What the assistant says."""


def alpaca_turns(messages: Sequence[Message]) -> tuple[list[Turn], str]:
    """A conversation in Alpaca's words.

    What is asked since the last answer is one instruction; a system message takes the place of the
    introduction.

    Args:
        messages: The conversation, in which a message may have an `input`.

    Returns:
        Its turns, and the prompt that is not answered yet; "" if absent.
    """
    turns: list[Turn] = []
    system = [item["content"] for item in messages if item["role"] == "system"]
    asked: list[Message] = []
    for item in messages:
        if item["role"] == "user":
            asked.append(item)
        elif item["role"] == "assistant":
            prompt = _alpaca_prompt(asked, system, first=not turns)
            turns.append(Turn(prompt, item["content"], item["content"]))
            asked = []
    return turns, _alpaca_prompt(asked, system, first=not turns) if asked else ""


def _alpaca_prompt(asked: Sequence[Message], system: Sequence[str], *, first: bool) -> str:
    """The text from the last answer, or the start, to where the next answer begins."""
    inputs = [item["input"] for item in asked if "input" in item]
    introduction = "\n\n".join(system) or (ALPACA_WITH_INPUT if inputs else ALPACA)
    sections = [introduction if first else ""]
    if asked:
        sections.append("### Instruction:\n" + "\n\n".join(item["content"] for item in asked))
    if inputs:
        sections.append("### Input:\n" + "\n\n".join(inputs))
    return "\n\n".join([*sections, "### Response:\n"])
