"""Chat templates: a conversation as the text that a chat model was trained on."""

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError

MOST_ROUNDS = 1_000_000
"""Rounds of all loops of a template together: those of models need a few for each message."""

_COUNT = "_count_a_round"
"""What every loop is made to call."""

_MARKS = "_marks"
"""Characters of the messages that stand for others."""

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

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool,
        now: datetime.datetime | None = None,
        marks: Mapping[int, str] | None = None,
        **values: Any,
    ) -> str:
        """Renders a conversation as text.

        What messages contain and what the template writes are one text: `turns` keeps them apart.

        Args:
            messages: The conversation, in order.
            add_generation_prompt: End where the assistant's next answer begins.
            now: The time for templates that write it (unset: the present).
            marks: Characters in the messages that stand for others, and these.
            values: What else the template may ask for, such as `tools`.

        Returns:
            The text, with special tokens in it.

        Raises:
            DataError: The template rejects the messages, is damaged or does not end.
        """
        import jinja2

        try:
            return self._compiled[0].render(
                {"tools": None, "documents": None, **self.special_tokens, **values},
                messages=list(messages),
                add_generation_prompt=add_generation_prompt,
                **{_COUNT: _Rounds(), _MARKS: marks or {}},
                strftime_now=(now or datetime.datetime.now()).strftime,
            )
        except jinja2.TemplateError as error:
            raise DataError(f"the chat template: {error}") from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise DataError(f"the chat template is damaged: {error}") from None
        except (MemoryError, RecursionError) as error:
            raise DataError(f"the chat template does not end: {type(error).__name__}") from None

    @functools.cached_property
    def literals(self) -> list[str]:
        """The texts that the template names, such as those that it looks for in a message."""
        return self._compiled[1]

    @functools.cached_property
    def _compiled(self) -> tuple[Any, list[str]]:
        """The template as Jinja's code, which takes longer to make than to run, and its literals.

        Every loop in it counts its rounds.
        """
        from jinja2 import Template, nodes, pass_context
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
        environment.globals["raise_exception"] = _refuse
        environment.filters["tojson"] = pass_context(_as_json)
        tree = environment.parse(self.source)
        texts = {item.value for item in tree.find_all(nodes.Const) if isinstance(item.value, str)}
        for loop in tree.find_all(nodes.For):
            count = nodes.Call(nodes.Name(_COUNT, "load"), [], [], None, None)
            loop.body.insert(0, nodes.ExprStmt(count).set_lineno(loop.lineno, override=True))
        code = environment.compile(tree)
        template = Template.from_code(environment, code, environment.globals)
        return template, sorted(texts - {""})


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


def _as_json(
    context: Any,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """`tojson` of the templates: plain JSON, where Jinja's own is made for web pages."""
    text = json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
    if ensure_ascii:  # a mark of an ASCII character needs no escape
        for mark, character in context.get(_MARKS, {}).items():
            escaped = json.dumps(chr(mark))[1:-1]
            text = text.replace(escaped, chr(mark) if ord(character) < 128 else escaped)
    return text
