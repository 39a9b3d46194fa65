"""Every public name says what it takes, gives and raises, and has an example.

tests/test_examples.py runs the examples. `python tests/test_public_api.py` lists the public names
that lack something; with `--docstrings [FOLDER]` all functions without Args or Returns that another
module may call, and their number (FOLDER: another checkout, to compare).
"""

import ast
import dataclasses
import inspect
import itertools
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import minigpt_tf as mg

RAISES_NOTHING: dict[str, str] = {}
"""Functions without a section Raises, and why."""

UNFINISHED: set[str] = set()
"""Names whose docstrings lack something."""


def parameters(function: Callable[..., Any]) -> list[str]:
    """What a caller may give."""
    names = list(inspect.signature(function).parameters)
    return [name for name in names if name not in ("self", "cls")]


def gives_something(function: Callable[..., Any]) -> bool:
    annotation = inspect.signature(function).return_annotation
    return annotation not in (None, "None", inspect.Signature.empty)


def missing_of_function(name: str, function: Callable[..., Any]) -> Iterator[str]:
    doc = inspect.getdoc(function) or ""
    if parameters(function) and "Args:" not in doc:
        yield "Args"
    if gives_something(function) and "Returns:" not in doc and "Yields:" not in doc:
        yield "Returns"
    if "Raises:" not in doc and name not in RAISES_NOTHING:
        yield "Raises"
    if ">>> " not in doc:
        yield "Example"


def methods(cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public methods that this package defines; what Keras asks of a layer is Keras's."""
    for base in cls.__mro__:
        if not base.__module__.startswith("minigpt_tf"):
            continue
        for name, member in vars(base).items():
            function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if not name.startswith("_") and inspect.isfunction(function):
                yield name, function


def fields_are_documented(cls: type) -> bool:
    """Whether each field of a dataclass has a text below it, as `Generation`'s have."""
    if not dataclasses.is_dataclass(cls):
        return False
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    return all(
        isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        for field, below in itertools.pairwise([*tree.body, None])
        if isinstance(field, ast.AnnAssign)
    )


KERAS_METHODS = {"build", "call", "get_config", "compute_output_shape", "compute_mask"}
KERAS_HOOKS = {"compute_output_spec", "quantized_call", "apply", "update_step"}
"""Methods that Keras calls and documents."""


def missing_of_class(cls: type) -> Iterator[str]:
    doc = inspect.getdoc(cls) or ""
    if ">>> " not in doc:
        yield "Example"
    if issubclass(cls, Exception):
        return
    if (
        parameters(cls)
        and not fields_are_documented(cls)
        and "Args:" not in doc + (inspect.getdoc(cls.__init__) or "")
    ):
        yield "Args"
    for name, method in methods(cls):
        if name in KERAS_METHODS:
            continue
        defined = [vars(base)[name] for base in cls.__mro__ if name in vars(base)]
        doc = "".join(member.__doc__ or "" for member in defined)  # an override need not repeat it
        if parameters(method) and "Args:" not in doc:
            yield f"{name}: Args"
        if gives_something(method) and "Returns:" not in doc and "Yields:" not in doc:
            yield f"{name}: Returns"


def missing(name: str) -> list[str]:
    found = getattr(mg, name)
    return list(
        missing_of_class(found) if inspect.isclass(found) else missing_of_function(name, found)
    )


@pytest.mark.parametrize("name", mg.__all__)
def test_a_public_name_is_documented(name):
    if name in UNFINISHED:
        pytest.xfail(f"{name} lacks {missing(name)}")
    assert not missing(name)


def test_names_of_the_lists_exist():
    assert UNFINISHED | RAISES_NOTHING.keys() <= set(mg.__all__)


def test_an_undocumented_function_is_found():
    def bare(x: int) -> int:
        """Nothing more."""
        return x

    assert list(missing_of_function("bare", bare)) == ["Args", "Returns", "Raises", "Example"]


class Function(NamedTuple):
    """A function or method as it stands in its file."""

    where: str
    owner: str
    """Its class; empty for a function of the module."""
    node: ast.FunctionDef

    def lacks(self) -> list[str]:
        """What its docstring should have: Args from two parameters on, Returns if it returns."""
        arguments = self.node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
        count = sum(a.arg not in ("self", "cls") for a in every)
        returns = self.node.returns is not None and ast.unparse(self.node.returns) != "None"
        doc = ast.get_docstring(self.node) or ""
        if count < 2:
            return []
        wanted = ["Args"] + ["Returns"] * returns
        doc = doc.replace("Yields:", "Returns:")
        return [section for section in wanted if f"{section}:" not in doc]


def functions_of(package: Path) -> list[Function]:
    """The functions and methods of a package without an underscore, overrides only once: where the
    package has them first."""
    found: list[Function] = []
    bases: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            inside = node.body if isinstance(node, ast.ClassDef) else [node]
            owner = node.name if isinstance(node, ast.ClassDef) else ""
            if isinstance(node, ast.ClassDef):
                bases[owner] = [base.id for base in node.bases if isinstance(base, ast.Name)]
            for member in inside:
                if isinstance(member, ast.FunctionDef):
                    where = f"{path.relative_to(package.parent).as_posix()}:{member.lineno}"
                    found.append(Function(where, owner, member))
    defined = {(function.owner, function.node.name) for function in found}

    def is_inherited(owner: str, name: str) -> bool:
        return any(
            (base, name) in defined or is_inherited(base, name) for base in bases.get(owner, [])
        )

    def is_counted(function: Function) -> bool:
        name, owner = function.node.name, function.owner
        if any(ast.unparse(mark) == "overload" for mark in function.node.decorator_list):
            return False  # its docstring is that of the function below it
        if name.startswith("_") or owner.startswith("_") or name in KERAS_METHODS | KERAS_HOOKS:
            return False
        return not is_inherited(owner, name)

    return [function for function in found if is_counted(function)]


def test_functions_that_lack_sections_are_found(tmp_path):
    source = tmp_path / "package" / "room"
    source.mkdir(parents=True)
    (source / "module.py").write_text(
        "def bare(a, b) -> int: ...\n"
        "def one(a) -> int: ...\n"
        "@overload\n"
        "def typed(a, b) -> int: ...\n"
        "def typed(a, b) -> int:\n"
        "    'Args: Returns:'\n"
        "def _hidden(a, b) -> int: ...\n"
        "class Base:\n"
        "    def method(self, a, *, b) -> None:\n"
        "        'Args:'\n"
        "class Derived(Base):\n"
        "    def method(self, a, *, b) -> None: ...\n"
        "    def own(self, a, **b) -> list:\n"
        "        'Args:'\n"
    )
    found = {f.node.name: f.lacks() for f in functions_of(tmp_path / "package")}
    assert found == {
        "bare": ["Args", "Returns"],
        "one": [],
        "typed": [],
        "method": [],
        "own": ["Returns"],
    }
    assert len(functions_of(tmp_path / "package")) == 5


PROGRAMS = ("minigpt_tf/interop/portable/answer.py",)
"""Go out with an export, to be read as one page; nothing imports them."""


def test_every_function_says_what_it_takes_and_gives():
    lacking = [
        f"{function.where}: {function.node.name}: {', '.join(function.lacks())}"
        for function in functions_of(Path(__file__).parents[1] / "minigpt_tf")
        if function.lacks() and not function.where.startswith(PROGRAMS)
    ]
    assert not lacking, "\n".join(lacking)


def print_docstrings(root: Path) -> None:
    """Every function that lacks Args or Returns, and how many for each room."""
    everything = functions_of(root / "minigpt_tf")
    lacking = [function for function in everything if function.lacks()]
    for function in lacking:
        print(f"{function.where}: {function.node.name}: {', '.join(function.lacks())}")
    for room, count in Counter(f.where.split(":")[0].split("/")[1] for f in lacking).most_common():
        print(f"{count:5} {room}")
    print(f"{len(lacking):5} of {len(everything)} public functions lack Args or Returns")


if __name__ == "__main__" and "--docstrings" in sys.argv[1:]:
    print_docstrings(Path([*sys.argv, Path(__file__).parents[1]][2]))
elif __name__ == "__main__":
    for public_name in mg.__all__:
        if lacks := missing(public_name):
            print(f"{public_name}: {', '.join(lacks)}")
