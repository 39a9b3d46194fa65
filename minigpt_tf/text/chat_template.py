"""Chat templates: a conversation as the text that a chat model was trained on."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError

Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}"""


def message(role: str, content: str) -> Message:
    """One message of a conversation."""
    return {"role": role, "content": content}


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template as Hugging Face's tokenizers carry them.

    It is run in Jinja's sandbox, which keeps it from everything but the messages.
    """

    source: str
    special_tokens: dict[str, str] = field(default_factory=dict)
    """bos_token, eos_token ...: names that templates use for them, and their texts."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """The text of a conversation; with `add_generation_prompt` up to where the assistant's next
        answer begins. Raises DataError where the template refuses the messages or is damaged."""
        import jinja2

        try:
            return self._compiled.render(
                messages=list(messages),
                add_generation_prompt=add_generation_prompt,
                tools=None,
                **self.special_tokens,
            )
        except jinja2.TemplateError as error:
            raise DataError(f"the chat template: {error}") from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise DataError(f"the chat template is damaged: {error}") from None
        except (MemoryError, RecursionError) as error:
            raise DataError(f"the chat template does not end: {type(error).__name__}") from None

    @functools.cached_property
    def _compiled(self) -> Any:
        """The template as Jinja's code, which takes longer to make than to run."""
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        return environment.from_string(self.source)


def _refuse(message: Any) -> None:
    """`raise_exception` of the templates."""
    import jinja2

    raise jinja2.TemplateError(str(message))


def _now(form: str) -> str:
    """`strftime_now` of the templates: today's date."""
    import datetime

    return datetime.datetime.now().strftime(form)
