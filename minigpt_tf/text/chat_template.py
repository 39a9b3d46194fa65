"""Chat templates: a conversation as the text that a chat model was trained on."""

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError
from .unicode import well_formed

LONGEST_REASON = 300
"""Characters of a template's own error message that are shown."""

THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""Names under which messages have what an assistant thought."""

Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}"""


def message(role: str, content: str) -> Message:
    """Makes one message of a conversation.

    Args:
        role: system, user or assistant.
        content: The text.

    Returns:
        {"role": role, "content": content}
    """
    return {"role": role, "content": content}


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template as Hugging Face's tokenizers carry them.

    It is run in Jinja's sandbox, which keeps it from everything but the messages, within bounds of
    time and memory.
    """

    source: str
    special_tokens: dict[str, str] = field(default_factory=dict)
    """bos_token, eos_token ...: names that templates use for them, and their texts."""

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool,
        now: float | None = None,
        marks: Mapping[int, str] | None = None,
        **values: Any,
    ) -> str:
        """Renders a conversation as text.

        What messages contain and what the template writes are one text: `turns` keeps them apart.

        Args:
            messages: The conversation, in order.
            add_generation_prompt: End where the assistant's next answer begins.
            now: The time for templates that write it, as `time.time` gives it (unset: the present).
            marks: Characters in the messages that stand for others, and these.
            values: What else the template may ask for, such as `tools`.

        Returns:
            The text, with special tokens in it.

        Raises:
            DataError: The template rejects the messages, is damaged or does not end.
        """
        from .template_limits import LIMITS, Limits, size_of

        said = {"messages": _as_transformers(messages), "tools": None, "documents": None, **values}
        template = self._compiled[0]
        with _errors():
            limits = Limits(size_of(said), marks or {})
            text = template.render(
                {**self.special_tokens, **said, LIMITS: limits},
                add_generation_prompt=add_generation_prompt,
                strftime_now=functools.partial(_written_time, now),
            )
        return well_formed(text)

    @functools.cached_property
    def literals(self) -> list[str]:
        """The texts that the template names, such as those that it looks for in a message.

        Raises DataError where the template is damaged.
        """
        return self._compiled[1]

    @property
    def own_texts(self) -> list[str]:
        """All texts of which the template makes what it writes, but for messages."""
        _, literals, written = self._compiled
        return [*literals, *written, *self.special_tokens.values()]

    @functools.cached_property
    def _compiled(self) -> tuple[Any, list[str], list[str]]:
        """The template as code, which takes longer to make than to run, and its texts."""
        from .template_environment import BoundedEnvironment

        with _errors():
            environment = BoundedEnvironment()
            environment.globals["raise_exception"] = _refuse
            return environment.bounded(self.source)


@contextmanager
def _errors() -> Iterator[None]:
    """Raises DataError for whatever a template does wrong."""
    from jinja2 import TemplateError

    from .template_limits import TemplateLimit

    try:
        yield
    except TemplateError as error:
        raise DataError(f"the chat template: {_line(error)}") from None
    except TemplateLimit as error:
        raise DataError(f"the chat template does too much: {error}") from None
    except (MemoryError, RecursionError) as error:
        raise DataError(f"the chat template does not end: {type(error).__name__}") from None
    except Exception as error:  # what a template's code raises may be of any kind
        what = _line(error) or type(error).__name__
        raise DataError(f"the chat template is damaged: {what}") from None


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())[:LONGEST_REASON]


def _written_time(now: float | None, form: str) -> str:
    """`strftime_now` of the templates."""
    import datetime

    return datetime.datetime.fromtimestamp(time.time() if now is None else now).strftime(form)


def _refuse(message: Any) -> None:
    """`raise_exception` of the templates."""
    import jinja2

    raise jinja2.TemplateError(str(message))


def _as_transformers(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages without what is None, and what was thought under each of its names."""
    clean: list[dict[str, Any]] = []
    for item in messages:
        said = {key: value for key, value in item.items() if value is not None}
        thought = next((said[name] for name in THOUGHTS if name in said), None)
        if thought is not None:
            said = {"thinking": thought, **said, "reasoning_content": thought}
        clean.append(said)
    return clean
