"""Bounds on what a chat template may do: work, memory, depth.

A template is a program of a stranger. Jinja's sandbox keeps it from everything but the messages; it
does not keep it from 9 ** 9 ** 9, from 'a'.center(10 ** 10), or from macros that call themselves
twice. So every operation that takes time or makes something is counted before and after it runs.
"""

import json
import re
import time
from collections.abc import Callable, ItemsView, KeysView, Mapping, ValuesView
from types import GeneratorType
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

LIMITS = "\0limits"
"""The name of a rendering's Limits in its context: no template can say it."""

MOST_WORK = 100_000_000
"""Characters, and values times COST_OF_A_VALUE, that a template makes in all; and MORE_WORK for
each that it gets."""
MORE_WORK = 200
COST_OF_A_VALUE = 16
MOST_ROUNDS = 300_000
"""Rounds of all loops of a template together: those of models need a few for each message."""
MOST_SECONDS = 1.0
"""Of the processor; templates of models need some thousandths."""
MOST_VALUES = 1_000_000
"""In one list or mapping, with all that is in it."""
DEEPEST = 200
"""Lists in lists."""
MOST_BITS = 10_000
"""Of an integer; str() writes at most 4,300 digits of one."""
LARGEST_ARGUMENT = 1_000_000
"""Integers that say how much of something to make."""
WIDEST_INDENT = 32
"""Of JSON."""
LONGEST_SOURCE = 200_000
"""Characters of a template; those of models have at most some ten thousand."""

UNSUPPORTED_FILTERS = ("pprint", "striptags", "urlize", "wordwrap")
"""No chat template uses them, and what they take cannot be foreseen."""
UNSUPPORTED_METHODS = frozenset({"encode", "translate", "maketrans", "to_bytes", "from_bytes"})

_FREE = frozenset(
    {"default", "d", "namespace", "dict", "min", "max", "safe_range", "raise_exception"}
)
"""They take large numbers, and make nothing of that size."""
_APART = frozenset(
    {"list", "sort", "unique", "reverse", "batch", "slice", "map", "select", "reject", "join"}
    | {"split", "rsplit", "splitlines", "selectattr", "rejectattr", "groupby", "random", "sum"}
)
"""They may make a value of each character."""
_NO_LONGER = frozenset(
    {"split", "rsplit", "splitlines", "partition", "rpartition", "startswith", "endswith", "find"}
    | {"rfind", "index", "rindex", "count", "removeprefix", "removesuffix", "truncate", "default"}
    | {"d", "tojson", "raise_exception", "safe_range"}
)
"""What they make is no longer than what they are given; `tojson` checks its own arguments."""


class TemplateLimit(Exception):
    """A template wants more than there is."""


class Limits:
    """What one rendering may still do.

    Args:
        given: Characters and values that the template gets.
        marks: Characters in the messages that stand for others, and these.
    """

    def __init__(self, given: int, marks: Mapping[int, str]) -> None:
        self.marks = marks
        self.work, self.rounds = MOST_WORK + MORE_WORK * given, MOST_ROUNDS
        self._end = time.thread_time() + MOST_SECONDS
        self._until_look = 0

    def round(self, size: int) -> None:
        """Counts a round of a loop that writes so many characters."""
        self.rounds -= 1
        if self.rounds < 0:
            raise TemplateLimit(f"its loops run beyond {MOST_ROUNDS:,} rounds")
        self.charge(size)

    def charge(self, size: int) -> None:
        """Counts what is made; raises TemplateLimit where it is too much."""
        self.foresee(size)
        self.work -= size
        self.look(size)

    def look(self, size: int) -> None:
        """Counts work that makes nothing, and from time to time looks at the clock."""
        self._until_look -= size + 1000
        if self._until_look < 0:
            self._until_look = 200_000
            if time.thread_time() > self._end:
                raise TemplateLimit(f"it takes longer than {MOST_SECONDS:g} s")

    def foresee(self, size: float) -> None:
        """Raises TemplateLimit where something of this size would be too much."""
        if size > self.work:
            raise TemplateLimit("it makes too much text")

    def made(self, value: Any) -> Any:
        """Counts a value and returns it."""
        self.charge(size_of(value))
        return value


def size_of(value: Any) -> int:
    """The size of a value, in characters; raises TemplateLimit where it is too large or too deep.

    What is in it more than once counts more than once, as it is written so.
    """
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, int):
        if value.bit_length() > MOST_BITS:
            raise TemplateLimit("it makes a number that is too long")
        return COST_OF_A_VALUE
    size = count = 0
    left = [(value, 0)]
    while left:
        item, depth = left.pop()
        count += 1
        if isinstance(item, str):
            size += len(item)
        elif (inner := _inside(item)) is not None:
            if depth > DEEPEST:
                raise TemplateLimit(f"it makes lists that are {DEEPEST} deep")
            if count + len(left) + len(inner) > MOST_VALUES:
                raise TemplateLimit(f"it makes more than {MOST_VALUES:,} values")
            left += [(value, depth + 1) for value in inner]
    return size + count * COST_OF_A_VALUE


def _inside(value: Any) -> Any:
    """What a list or mapping has; None of anything else."""
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    if isinstance(value, Namespace):
        return [*value._Namespace__attrs.values()]
    if isinstance(value, list | tuple | set | frozenset | KeysView | ValuesView | ItemsView):
        return value
    return None


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
        tree = _Counting().visit(tree)
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
        _limits(context).look(_length(value) if isinstance(value, str) else size_of(value))
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
            _foresee(limits, str(name), subject, [*args, *kwargs.values()])
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
        if operator == "*":
            _foresee_product(limits, left, right)
        elif operator == "**":
            whole = isinstance(left, int) and isinstance(right, int)
            if whole and left.bit_length() * abs(right) > MOST_BITS:
                raise TemplateLimit("it makes a number that is too long")
        elif operator == "%":
            if isinstance(left, str):
                _foresee_format(limits, left, right)
        elif not isinstance(left, int | float):
            limits.foresee(size_of(left) + size_of(right))
        return limits.made(super().call_binop(context, operator, left, right))


_OWN = (
    BoundedEnvironment.count_round,
    BoundedEnvironment.count_value,
    BoundedEnvironment.look_at,
    BoundedEnvironment.join_texts,
)


class _Counting(NodeTransformer):
    """Makes a template count its loops, macros, lists, mappings and texts."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        return self._counted_body(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._counted_body(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._counted_body(node)

    def visit_Block(self, node: nodes.Block) -> nodes.Node:
        return self._counted_body(node)

    def _counted_body(self, node: Any) -> nodes.Node:
        written = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        count = _call("count_round", [nodes.Const(written)], node.lineno)
        node.body.insert(0, nodes.ExprStmt(count).set_lineno(node.lineno, override=True))
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return self._counted_value(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return self._counted_value(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        return self._counted_value(node) if node.ctx == "load" else self.generic_visit(node)

    def _counted_value(self, node: Any) -> nodes.Node:
        constant = all(isinstance(child, nodes.Const) for child in node.iter_child_nodes())
        self.generic_visit(node)
        return node if constant else _call("count_value", [node], node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _call("look_at", [node.expr], node.lineno)
        for operand in node.ops:
            operand.expr = _call("look_at", [operand.expr], node.lineno)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return _call("count_value", [node], node.lineno)
        elif not isinstance(node.arg, nodes.Const):
            node.arg = _call("look_at", [node.arg], node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call("join_texts", node.nodes, node.lineno)


def _call(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Expr:
    call = nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)
    call.set_lineno(line, override=True)
    return call


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
        _foresee(limits, name, given[0] if given else None, [*given[1:], *named.values()])
        return limits.made(function(*_passed(function, context), *given, **named))

    return counted


def _looked_at(function: Any) -> Callable[..., Any]:
    """A test whose work is counted."""

    @pass_context
    def counted(context: Context, *args: Any) -> Any:
        _limits(context).look(sum(map(_length, args)))
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


def _foresee(limits: Limits, name: str, subject: Any, arguments: list[Any]) -> None:
    """Raises TemplateLimit where a method or filter would make too much, or has taken too long."""
    limits.look(sum(len(value) for value in (subject, *arguments) if isinstance(value, str)))
    numbers = [abs(a) for a in arguments if isinstance(a, int)]
    if max(numbers, default=0) > LARGEST_ARGUMENT and name not in _FREE:
        raise TemplateLimit(f"{name or 'a call'} with a number above {LARGEST_ARGUMENT:,}")
    if name in _APART and isinstance(subject, str):
        limits.foresee(len(subject) * COST_OF_A_VALUE)
    if name in ("format", "format_map"):
        _foresee_format(limits, subject, arguments)
    elif name == "replace" and isinstance(subject, str):
        old, new = ([a for a in arguments if isinstance(a, str)] + ["", ""])[:2]
        limits.foresee(len(subject) + (subject.count(old) + 1) * len(new))
    elif name == "join":
        given, glue = (arguments, subject) if isinstance(subject, str) else (subject, arguments)
        items = given[0] if given is arguments and arguments else given
        length = len(items) if isinstance(items, list | tuple | Mapping | str | range) else 0
        limits.foresee(size_of(items) + length * size_of(glue))
    elif name not in _NO_LONGER:
        sizes = [*numbers, *(len(a) for a in arguments if isinstance(a, str))]
        limits.foresee((_length(subject) + 1) * (1 + sum(sizes)))


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple | Mapping) else 0


def _foresee_product(limits: Limits, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > MOST_BITS:
            raise TemplateLimit("it makes a number that is too long")
        return
    if isinstance(right, str | list | tuple):
        left, right = right, left
    if isinstance(left, str | list | tuple) and isinstance(right, int):
        if not isinstance(left, str) and len(left) * right > MOST_VALUES:
            raise TemplateLimit(f"it makes more than {MOST_VALUES:,} values")
        limits.foresee(size_of(left) * max(0, right))


_NESTED_FIELD = re.compile(r"\{[^{}]*\{|%[^a-zA-Z%]*\*")
_NUMBER = re.compile(r"[0-9]+")


def _foresee_format(limits: Limits, form: Any, values: Any) -> None:
    """Of '{:9}'.format(...) and '%9d' % ...: no width but such as stand in the text itself."""
    form = str(form)
    if _NESTED_FIELD.search(form):
        raise TemplateLimit("a format with a width from elsewhere")
    width = max((int(n[:9]) for n in _NUMBER.findall(form)), default=0)
    given = values if isinstance(values, list | tuple) else [values]
    limits.foresee((len(form) + 1) * (1 + width) + len(form) * sum(map(size_of, given)))


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
