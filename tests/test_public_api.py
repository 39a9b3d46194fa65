"""Every public name says what it takes, gives and raises, and has an example.

tests/test_examples.py runs the examples.
"""

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

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


if __name__ == "__main__":
    for public_name in mg.__all__:
        if lacks := missing(public_name):
            print(f"{public_name}: {', '.join(lacks)}")
