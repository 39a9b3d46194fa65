"""Chat templates: a conversation as the text that a chat model was trained on."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError

MOST_ROUNDS = 1_000_000
"""Rounds of all loops of a template together: those of models need a few for each message."""

_COUNT = "_count_a_round"
"""What every loop is made to call."""

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

    It is run in Jinja's sandbox, which keeps it from everything but the messages.
    """

    source: str
    special_tokens: dict[str, str] = field(default_factory=dict)
    """bos_token, eos_token ...: names that templates use for them, and their texts."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Renders a conversation as text.

        Args:
            messages: The conversation, in order.
            add_generation_prompt: End where the assistant's next answer begins.

        Returns:
            The text, with special tokens in it.

        Raises:
            DataError: The template rejects the messages, is damaged or does not end.
        """
        import jinja2

        try:
            return self._compiled.render(
                messages=list(messages),
                add_generation_prompt=add_generation_prompt,
                tools=None,
                **self.special_tokens,
                **{_COUNT: _Rounds()},
            )
        except jinja2.TemplateError as error:
            raise DataError(f"the chat template: {error}") from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise DataError(f"the chat template is damaged: {error}") from None
        except (MemoryError, RecursionError) as error:
            raise DataError(f"the chat template does not end: {type(error).__name__}") from None

    @functools.cached_property
    def _compiled(self) -> Any:
        """The template as Jinja's code, which takes longer to make than to run.

        Every loop in it counts its rounds.
        """
        from jinja2 import Template, nodes
        from jinja2.ext import Extension
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        class Generation(Extension):
            """{% generation %} marks what an assistant said; it is rendered as it stands."""

            tags = {"generation"}

            def parse(self, parser: Any) -> Any:
                """What stands up to {% endgeneration %}."""
                next(parser.stream)
                return parser.parse_statements(("name:endgeneration",), drop_needle=True)

        extensions = ["jinja2.ext.loopcontrols", Generation]
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=extensions
        )
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        environment.filters["tojson"] = _as_json
        tree = environment.parse(self.source)
        for loop in tree.find_all(nodes.For):
            count = nodes.Call(nodes.Name(_COUNT, "load"), [], [], None, None)
            loop.body.insert(0, nodes.ExprStmt(count).set_lineno(loop.lineno, override=True))
        return Template.from_code(environment, environment.compile(tree), environment.globals)


class _Rounds:
    """Counts the rounds of all loops together."""

    def __init__(self) -> None:
        self.left = MOST_ROUNDS

    def __call__(self) -> None:
        """One more; raises OverflowError where there were too many."""
        self.left -= 1
        if self.left < 0:
            raise OverflowError(f"its loops run beyond {MOST_ROUNDS:,} rounds")


def _refuse(message: Any) -> None:
    """`raise_exception` of the templates."""
    import jinja2

    raise jinja2.TemplateError(str(message))


def _as_json(value: Any, indent: int | None = None) -> str:
    """`tojson` of the templates: plain JSON, where Jinja's own is made for web pages."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _now(form: str) -> str:
    """`strftime_now` of the templates: today's date."""
    import datetime

    return datetime.datetime.now().strftime(form)
