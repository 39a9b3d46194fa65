"""Writes docs/reference/: cli.md from the parsers, api.md and modules.md from the docstrings, and
serving.md from the requests of `minigpt serve` (which needs the extra `serve`).

`python docs/make_reference.py` writes them; with `--check` it writes nothing and fails if a page is
stale. Sources are read, not imported, so that neither needs TensorFlow.
"""

import argparse
import ast
import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
GENERATED = "<!-- Written by `python docs/make_reference.py`: do not edit. -->\n\n"

sys.path.insert(0, str(ROOT))
import minigpt_tf  # noqa: E402
from minigpt_tf.__main__ import VERBS  # noqa: E402

Definition = ast.FunctionDef | ast.ClassDef


# ---------------------------------------------------------------- the command line


def cli_page() -> str:
    """All verbs and their options, as Markdown."""
    lines = [
        GENERATED + "# Commands\n",
        "`python train.py` is `minigpt train`, and `python generate.py` is `minigpt generate`. "
        "`minigpt --version` prints the version. Every verb takes `--help`, and `--debug`, which "
        "shows the traceback of an error.\n",
        "| verb | what it does |\n|---|---|",
    ]
    lines += [f"| [{verb}](#minigpt-{verb}) | {text} |" for verb, (_, text) in VERBS.items()]
    for verb, (home, _) in VERBS.items():
        lines.append("\n" + _verb(verb, importlib.import_module(home)))
    return "\n".join(lines) + "\n"


def _verb(verb: str, module) -> str:
    parser = argparse.ArgumentParser(prog=f"minigpt {verb}", add_help=False)
    module.add_arguments(parser)
    lines = [f"## minigpt {verb}\n", f"{module.DESCRIPTION}"]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return "\n".join([*lines, *_kinds(verb, action)])
    return "\n".join([*lines, *_groups(parser, set())])


def _groups(parser: argparse.ArgumentParser, shown: set[str]) -> Iterator[str]:
    """The options of a parser by their groups, but for those that were shown already."""
    for group in parser._action_groups:
        actions = [
            action
            for action in group._group_actions
            if action.help != argparse.SUPPRESS and not shown & {*action.option_strings}
        ]
        if not actions:
            continue
        title = {"positional arguments": "arguments"}.get(group.title, group.title)
        yield from (f"\n**{title}**\n", "| option | what it does |\n|---|---|")
        for action in actions:
            text = (action.help or "") % {"default": action.default, "prog": parser.prog}
            yield f"| {_option(action)} | {_cell(text)} |"


def _kinds(verb: str, kinds: argparse._SubParsersAction) -> Iterator[str]:
    """The kinds of a verb, and their options; those of the verb of the same name stand there."""
    yield "\n| kind | what it is |\n|---|---|"
    for choice in kinds._choices_actions:
        yield f"| `minigpt {verb} {choice.dest} ...` | {_cell(choice.help)} |"
    shown = {"-h", "--help"}
    for name, parser in kinds.choices.items():
        if name in VERBS:
            other = argparse.ArgumentParser()
            importlib.import_module(VERBS[name][0]).add_arguments(other)
            shown |= {text for action in other._actions for text in action.option_strings}
        yield from _groups(parser, shown)
        shown |= {text for action in parser._actions for text in action.option_strings}


def _option(action: argparse.Action) -> str:
    """`--temperature F`, or `--preset lecture|gpt2`"""
    value = ""
    if action.nargs != 0:
        value = action.metavar or action.dest.upper()
        if action.choices is not None:
            value = "|".join(map(str, action.choices))
        value = " ".join(value) if isinstance(value, tuple) else value
    if not action.option_strings:
        return f"`{_cell(value, code=True)}`"
    names = [name for name in action.option_strings if not name.startswith("--no-")]
    return f"`{_cell(', '.join(names) + ' ' * bool(value) + value, code=True)}`"


def _cell(text: str, *, code: bool = False) -> str:
    """Text for a cell of a table."""
    text = " ".join(text.split()).replace("|", "\\|")
    return text if code else text.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


# ---------------------------------------------------------------- the Python interface


def api_page() -> str:
    """All public names with their docstrings, as Markdown."""
    sections: dict[str, list[str]] = {}
    for name in minigpt_tf.__all__:
        sections.setdefault(minigpt_tf._HOME_OF[name].partition(".")[0], []).append(name)
    order = list(dict.fromkeys(home.partition(".")[0] for home in minigpt_tf._HOMES))
    lines = [
        GENERATED + "# Python\n",
        "`import minigpt_tf as mg` takes a few hundredths of a second: each name below is imported "
        "on first use, and only what needs TensorFlow imports it. The examples run as tests "
        "(`tests/test_examples.py`).\n",
    ]
    for room in order:
        links = ", ".join(f"[{name}](#{name.lower()})" for name in sections[room])
        lines.append(f"* {room}: {links}")
    for room in order:
        lines.append(f"\n## minigpt_tf.{room}")
        for name in sections[room]:
            lines.append("\n" + _name(name))
    return "\n".join(lines) + "\n"


def _name(name: str) -> str:
    module, node = _find(f"minigpt_tf.{minigpt_tf._HOME_OF[name]}", name)
    source = "../../" + _file(module).relative_to(ROOT).as_posix()
    lines = [f"### {name}\n"]
    if isinstance(node, ast.FunctionDef):
        lines += [_signature(node, name), _docstring(node)]
    else:
        lines += _class(module, name, node)
    lines.append(f"\nIn [{module}]({source}).")
    return "\n".join(lines)


def _class(module: str, name: str, node: ast.ClassDef) -> list[str]:
    start = next((item for item in _functions(node) if item.name == "__init__"), None)
    lines = [_signature(start, name, method=True)] if start else []
    lines.append(_docstring(node))
    if start and ast.get_docstring(start):
        lines.append("\n" + _docstring(start))
    fields = list(_fields(module, name, node))
    if fields:
        lines += ["\n| field | type | default | what it is |\n|---|---|---|---|"]
        for field, kind, default, text in fields:
            kind, default = _cell(kind, code=True), _cell(default, code=True)
            lines.append(f"| `{field}` | `{kind}` | {f'`{default}`' * bool(default)} | {text} |")
    for method in _functions(node):
        if not method.name.startswith("_") and ast.get_docstring(method):
            lines += [f"\n#### {name}.{method.name}\n"]
            shown = [] if _is_property(method) else [_signature(method, method.name, method=True)]
            lines += [*shown, _docstring(method)]
    return lines


def _functions(node: ast.ClassDef) -> list[ast.FunctionDef]:
    return [item for item in node.body if isinstance(item, ast.FunctionDef)]


def _is_property(node: ast.FunctionDef) -> bool:
    return any("property" in ast.unparse(item) for item in node.decorator_list)


def _fields(module: str, name: str, node: ast.ClassDef) -> Iterator[tuple[str, str, str, str]]:
    """(Name, type, default, help) of a dataclass's fields."""
    if not any("dataclass" in ast.unparse(item) for item in node.decorator_list):
        return
    items = [(i, item) for i, item in enumerate(node.body) if isinstance(item, ast.AnnAssign)]
    settings = {}
    if module.startswith("minigpt_tf.config"):  # the help of a setting is put together when run
        cls = getattr(importlib.import_module(module), name)
        settings = {field.name: field for field in dataclasses.fields(cls)}
    for i, item in items:
        field = item.target.id
        if field in settings and "help" in settings[field].metadata:
            default = repr(settings[field].default)
            if settings[field].default is dataclasses.MISSING:
                default = ""
            text = settings[field].metadata["help"]
        else:
            default = ast.unparse(item.value) if item.value else ""
            after = node.body[i + 1] if i + 1 < len(node.body) else None
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = str(after.value.value)
        yield field, ast.unparse(item.annotation), default, _cell(text)


def _find(module: str, name: str) -> tuple[str, Definition]:
    """The module that defines a name which `module` has, and the definition."""
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    for_types = [inside for node in tree.body if isinstance(node, ast.If) for inside in node.body]
    for node in [*tree.body, *for_types]:
        if isinstance(node, Definition) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _find(_imported_from(module, node), alias.name)
        if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
            return _find(module, ast.unparse(node.value))
    raise LookupError(f"{module} has no function or class {name}")


def _imported_from(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module
    package = module.split(".")
    if _file(module).name != "__init__.py":
        package.pop()
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _signature(node: ast.FunctionDef, name: str, *, method: bool = False) -> str:
    """A fenced line, or a line for each parameter where one is too long."""
    skip = method and not any("static" in ast.unparse(item) for item in node.decorator_list)
    parameters = list(_parameters(node.args))[1 if skip else 0 :]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    text = f"{name}({', '.join(parameters)}){returns}"
    if len(text) > 90:
        text = f"{name}(\n" + "".join(f"    {item},\n" for item in parameters) + f"){returns}"
    return f"```text\n{text}\n```\n"


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    for i, (item, default) in enumerate(zip(positional, defaults, strict=True)):
        yield _parameter(item, default)
        if arguments.posonlyargs and i + 1 == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg:
        yield "*" + _parameter(arguments.vararg, None)
    elif arguments.kwonlyargs:
        yield "*"
    for item, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(item, default)
    if arguments.kwarg:
        yield "**" + _parameter(arguments.kwarg, None)


def _parameter(item: ast.arg, default: ast.expr | None) -> str:
    text = item.arg
    if item.annotation:
        kind = item.annotation
        quoted = isinstance(kind, ast.Constant) and isinstance(kind.value, str)
        text += f": {kind.value if quoted else ast.unparse(kind)}"
    if default is not None:
        text += (" = " if item.annotation else "=") + ast.unparse(default)
    return text


SECTIONS = ("Args", "Returns", "Raises", "Yields", "Example", "Examples", "Attributes")


def _docstring(node: Definition) -> str:
    """A docstring as Markdown: Args and Raises are lists, examples and indented text are fenced."""
    out, section = [], ""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(ast.get_docstring(node) or "")):
        first, _, rest = paragraph.partition("\n")
        if first.rstrip(":") in SECTIONS and first.endswith(":"):
            section = first.rstrip(":")
            out.append(f"**{section}**")
            paragraph = rest
        elif not paragraph.startswith(" "):
            section = ""
        if not paragraph:
            continue
        body = inspect.cleandoc("\n" + paragraph)
        if body.startswith(">>>"):
            out.append(f"```python\n{body}\n```")
        elif section in ("Args", "Raises", "Attributes"):
            out.append(_list(body))
        elif paragraph.startswith(" ") and not section:
            out.append(f"```text\n{body}\n```")
        else:
            out.append(_escaped(" ".join(body.split())))
    return "\n\n".join(out)


def _list(body: str) -> str:
    """`name: what it is`, and what is indented below it, as items."""
    items = re.split(r"\n(?!\s)", body)
    lines = []
    for item in items:
        name, colon, text = " ".join(item.split()).partition(": ")
        lines.append(f"* `{name}`: {_escaped(text)}" if colon else f"* {_escaped(name)}")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Markdown in which nothing outside backquotes is taken for a tag or emphasis."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        parts[i] = parts[i].replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
        parts[i] = parts[i].replace("[", "\\[")
    return "`".join(parts)


# ---------------------------------------------------------------- the modules


def modules_page() -> str:
    """Every module with the first line of its docstring, room by room, as Markdown."""
    lines = [
        GENERATED + "# Modules\n",
        "Each folder of the package is a room. A room imports only rooms above it on this page "
        "(a test keeps the order), and none of those up to `classification` imports TensorFlow.\n",
    ]
    package = ROOT / "minigpt_tf"
    order = {name: i for i, name in enumerate(_rooms())}
    tops = [p for p in package.iterdir() if p.stem in order and p.suffix in ("", ".py")]
    for top in sorted(tops, key=lambda path: order[path.stem]):
        if top.suffix:
            lines.append(f"\n## {top.stem}\n\n{_first_line(top)}\n\nIn {_source(top)}.")
            continue
        lines.append(f"\n## {top.name}\n\n{_first_line(top / '__init__.py')}\n")
        lines.append("| module | what it is |\n|---|---|")
        for path in sorted(top.rglob("*.py")):
            if path.parent != top or path.name != "__init__.py":
                lines.append(f"| {_source(path, top)} | {_first_line(path)} |")
    return "\n".join(lines) + "\n"


def _rooms() -> list[str]:
    tree = ast.parse((ROOT / "tests" / "test_imports.py").read_text(encoding="utf-8"))
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROOMS"
    ]
    return ast.literal_eval(values[0])


def _source(path: Path, below: Path | None = None) -> str:
    shown = path.relative_to(below or ROOT).as_posix().removesuffix("/__init__.py")
    return f"[{shown}](../../{path.relative_to(ROOT).as_posix()})"


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return _escaped(" ".join(text.partition("\n\n")[0].split())).replace("|", "\\|")


# ---------------------------------------------------------------- the API


def serving_page() -> str:
    """Every field of every request of `minigpt serve`, as Markdown."""
    from minigpt_tf.serving import requests, responses_request
    from minigpt_tf.serving.fields import support_of

    bodies = {
        "POST /v1/chat/completions": requests.ChatRequest,
        "Each of its messages": requests.ChatMessage,
        "POST /v1/completions": requests.CompletionRequest,
        "POST /v1/responses": responses_request.ResponsesRequest,
        "POST /v1/classify": requests.ClassifyRequest,
        "POST /tokenize": requests.TokenizeRequest,
        "POST /detokenize": requests.DetokenizeRequest,
    }
    lines = [
        GENERATED + "# The API's fields\n",
        "What `minigpt serve` does with each field of a request. *Supported*: as OpenAI has it. "
        "*Extension*: OpenAI lacks it. *Without effect*: any value is accepted. *Refused*: a value "
        "that asks for something gets status 400, which names the field. A field that is not here "
        "is ignored, counted in `/metrics`, and logged once by its name.",
    ]
    for title, body in bodies.items():
        lines += [f"\n## {title}\n", "| field | | what it does |\n|---|---|---|"]
        for name, support, text in sorted(support_of(body), key=lambda item: KINDS.index(item[1])):
            lines.append(f"| `{name}` | {support} | {_cell(text)} |")
    return "\n".join(lines) + "\n"


KINDS = ("supported", "extension", "without effect", "refused")
"""In the order of the tables."""


def pages() -> dict[Path, str]:
    """Each generated page and what has to be in it."""
    return {
        PAGES / "cli.md": cli_page(),
        PAGES / "api.md": api_page(),
        PAGES / "modules.md": modules_page(),
        PAGES / "serving.md": serving_page(),
    }


def stale() -> list[Path]:
    """The pages that are not as the code has them."""
    return [
        page
        for page, text in pages().items()
        if not page.exists() or page.read_text(encoding="utf-8") != text
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    if parser.parse_args().check:
        for page in stale():
            print(f"{page.relative_to(ROOT)} is stale: run `python docs/make_reference.py`")
        return 1 if stale() else 0
    for page, text in pages().items():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
        print(f"wrote {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
