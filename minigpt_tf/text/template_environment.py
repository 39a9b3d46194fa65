"""Jinja's sandbox for chat templates, with every operation counted."""

import json
from collections.abc import Callable
from types import GeneratorType
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from .template_calls import foresee_call, foresee_operation
from .template_counting import count_operations
from .template_limits import COST_OF_A_VALUE, LIMITS, Limits, TemplateLimit, length_of, size_of

LONGEST_SOURCE = 200_000
"""Characters of a template; those of models have at most some ten thousand."""
WIDEST_INDENT = 32
"""Of JSON."""

UNSUPPORTED_FILTERS = ("pprint", "striptags", "urlize", "wordwrap")
"""No chat template uses them, and what they take cannot be foreseen."""
UNSUPPORTED_METHODS = frozenset({"encode", "translate", "maketrans", "to_bytes", "from_bytes"})


class _Generation(Extension):
    """{% generation %} marks what an assistant said; here it is rendered as it stands."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        """What stands up to {% endgeneration %}."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_written"), [], [], body).set_lineno(line)

    def _written(self, caller: Any) -> str:
        return caller()


class _Namespace(Namespace):
    """Without names that reach into Python."""

    def __init__(*args: Any, **names: Any) -> None:
        self, values = args[0], dict(*args[1:], **names)
        for name in values:
            _check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot have the name {name!r:.40}")


class _Dict:
    """`dict` without its other attributes."""

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        return dict(*args, **values)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox as transformers sets it up, with everything counted."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # else what is constant is made while compiling
            extensions=["jinja2.ext.loopcontrols", _Generation],
            finalize=pass_context(_written),
        )
        del self.globals["lipsum"]
        self.globals |= {"dict": _Dict(), "namespace": _Namespace}
        for name in UNSUPPORTED_FILTERS:
            del self.filters[name]
        self.filters["tojson"] = pass_context(_as_json)
        self.filters = {name: _counted(name, filter) for name, filter in self.filters.items()}
        self.tests = {name: _looked_at(test) for name, test in self.tests.items()}

    def bounded(self, source: str) -> tuple[Any, list[str], list[str]]:
        """Compiles a template.

        Args:
            source: Its text.

        Returns:
            The template, the texts that its code names, and those that it writes as they stand.
        """
        if len(source) > LONGEST_SOURCE:
            raise TemplateLimit(f"it has more than {LONGEST_SOURCE:,} characters")
        tree = self.parse(source)
        texts = {item.value for item in tree.find_all(nodes.Const) if isinstance(item.value, str)}
        written = sorted({item.data for item in tree.find_all(nodes.TemplateData)})
        tree = count_operations(tree)
        code = self.compile(tree)
        template = self.template_class.from_code(self, code, self.globals)
        return template, sorted(texts - {""}), written

    @staticmethod
    @pass_context
    def count_round(context: Context, size: int) -> None:
        """What loops and macros are made to call.

        Args:
            context: Of the rendering.
            size: Characters that the round writes of itself.
        """
        _limits(context).round(size)

    @staticmethod
    @pass_context
    def count_value(context: Context, value: Any) -> Any:
        """What is made of lists and mappings: it counts them.

        Args:
            context: Of the rendering.
            value: A new list, tuple or mapping.

        Returns:
            The same.
        """
        return _limits(context).made(value)

    @staticmethod
    @pass_context
    def look_at(context: Context, value: Any) -> Any:
        """What is compared, cut or looked up: it counts the work.

        Args:
            context: Of the rendering.
            value: An operand.

        Returns:
            The same.
        """
        _limits(context).look(length_of(value) if isinstance(value, str) else size_of(value))
        return value

    @staticmethod
    @pass_context
    def join_texts(context: Context, *values: Any) -> str:
        """What is made of `~`.

        Args:
            context: Of the rendering.
            values: What is joined.

        Returns:
            The text.
        """
        limits = _limits(context)
        limits.foresee(sum(map(size_of, values)))
        return limits.made("".join(map(str, values)))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Decides whether a template may have an attribute.

        Args:
            obj: Whose attribute it is.
            attr: Its name.
            value: Its value.

        Returns:
            False for what reaches into Python, changes a value, or cannot be bounded.
        """
        return attr not in UNSUPPORTED_METHODS and super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls a method, a function or a macro."""
        if any(__obj is own for own in _OWN):
            return __obj(__context, *args)
        limits = _limits(__context)
        method = getattr(__obj, "__wrapped__", __obj)  # of str.format
        name, subject = getattr(method, "__name__", ""), getattr(method, "__self__", None)
        if not isinstance(__obj, Macro):
            foresee_call(limits, str(name), subject, [*args, *kwargs.values()])
        return limits.made(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Computes what may become large.

        Args:
            context: Of the rendering.
            operator: One of `intercepted_binops`.
            left: The first operand.
            right: The second.

        Returns:
            The result.
        """
        limits = _limits(context)
        foresee_operation(limits, operator, left, right)
        return limits.made(super().call_binop(context, operator, left, right))


_OWN = (
    BoundedEnvironment.count_round,
    BoundedEnvironment.count_value,
    BoundedEnvironment.look_at,
    BoundedEnvironment.join_texts,
)


def _limits(context: Context) -> Limits:
    return context.parent[LIMITS]


def _written(context: Context, value: Any) -> Any:
    """Counts what a template writes."""
    return _limits(context).made(value)


def _counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose work is counted; Jinja never runs it while compiling."""

    @pass_context
    def counted(context: Context, *args: Any, **kwargs: Any) -> Any:
        limits = _limits(context)
        given = [_listed(limits, value) for value in args]
        named = {key: _listed(limits, value) for key, value in kwargs.items()}
        foresee_call(limits, name, given[0] if given else None, [*given[1:], *named.values()])
        return limits.made(function(*_passed(function, context), *given, **named))

    return counted


def _looked_at(function: Any) -> Callable[..., Any]:
    """A test whose work is counted."""

    @pass_context
    def counted(context: Context, *args: Any) -> Any:
        _limits(context).look(sum(map(length_of, args)))
        return function(*_passed(function, context), *args)

    return counted


def _passed(function: Callable[..., Any], context: Context) -> list[Any]:
    """What a filter or test wants before its arguments."""
    kind = getattr(function, "jinja_pass_arg", None)
    known: dict[str, Any] = {"context": context, "environment": context.environment}
    known["eval_context"] = context.eval_ctx
    return [] if kind is None else [known[kind.name]]


def _listed(limits: Limits, value: Any) -> Any:
    """What a lazy filter will make, at once: counted, and never nested."""
    if not isinstance(value, GeneratorType):
        return value
    items: list[Any] = []
    for item in value:
        limits.charge(COST_OF_A_VALUE)
        items.append(item)
    return limits.made(items)


def _as_json(
    context: Context,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """`tojson` of the templates: plain JSON, where Jinja's own is made for web pages."""
    for wide in (indent, *(separators or ())):
        if (wide if isinstance(wide, int) else len(wide or "")) > WIDEST_INDENT:
            raise TemplateLimit(f"tojson with an indent of more than {WIDEST_INDENT}")
    text = json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
    if ensure_ascii:  # a mark of an ASCII character needs no escape
        for mark, character in _limits(context).marks.items():
            escaped = json.dumps(chr(mark))[1:-1]
            text = text.replace(escaped, chr(mark) if ord(character) < 128 else escaped)
    return text
