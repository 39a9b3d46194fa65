"""Settings as options of the command line: one for each field of a dataclass."""

import argparse
import dataclasses
import re
import typing
from collections.abc import Callable, Container, Mapping
from typing import Any, Literal

from ..text.unicode import well_formed


def cli_options(
    parser: argparse._ActionsContainer,
    cls: type,
    *,
    preset_decides: bool,
    only: Container[str] | None = None,
    helps: Mapping[str, str] | None = None,
) -> None:
    """Adds an option for each field of `cls`; one that is not given is absent from the result.

    Args:
        parser: A parser, or a group of one.
        cls: A dataclass of settings.
        preset_decides: Whether a preset changes the defaults, so that the help leaves them out.
        only: Names of the fields that get options (unset: all).
        helps: Other help texts, by name.
    """
    hints = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        if only is not None and item.name not in only:
            continue
        kind = _without_none(hints[item.name])
        options: dict[str, Any] = {"dest": item.name, "default": argparse.SUPPRESS}
        options["help"] = (helps or {}).get(item.name, item.metadata["help"]).replace("%", "%%")
        shown = item.default not in (None, ()) and not preset_decides
        if shown:
            default = ", ".join(item.default) if isinstance(item.default, tuple) else item.default
            options["help"] += f" (default: {default})".replace("%", "%%")
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif typing.get_origin(kind) is Literal:
            options["choices"] = typing.get_args(kind)
        elif typing.get_origin(kind) is tuple:
            options |= {"action": "append", "metavar": "TEXT", "type": plain_text}
            if item.metadata.get("escapes"):
                options["type"] = escaped_text
        elif typing.get_origin(kind) is dict:
            key, value = typing.get_args(kind)
            name = {int: "ID", str: "NAME"}[key]
            options |= {"action": "append", "metavar": f"{name}=F", "type": _numbered(key)}
            if value is str:
                options |= {"metavar": "NAME=NAME", "type": _named}
        else:
            options["metavar"] = {int: "N", float: "F", str: "TEXT"}[kind]
            options["type"] = plain_text if kind is str else kind
        parser.add_argument("--" + item.name.replace("_", "-"), **options)
        if old_values := item.metadata.get("old_values"):
            old = item.metadata["old_name"].replace("_", "-")
            common: dict[str, Any] = {"dest": item.name, "default": argparse.SUPPRESS}
            common["help"] = argparse.SUPPRESS
            for flag, value in ((f"--{old}", True), (f"--no-{old}", False)):
                parser.add_argument(flag, action="store_const", const=old_values[value], **common)
        elif old := item.metadata.get("old_name"):
            hidden = options | {"help": argparse.SUPPRESS}
            parser.add_argument("--" + old.replace("_", "-"), **hidden)


def _without_none(hint: Any) -> Any:
    """int | None -> int"""
    if type(None) in typing.get_args(hint):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def _numbered(key: type) -> Callable[[str], tuple[Any, float]]:
    """What reads "262=-5" as (262, -5.0), or with `key` str "factor=8" as ("factor", 8.0)."""

    def read(argument: str) -> tuple[Any, float]:
        """One KEY=NUMBER of the command line."""
        name, _, number = argument.partition("=")
        try:
            return key(name), float(number)
        except ValueError:
            example = "a token id and a number, such as 262=-5"
            if key is str:
                example = "a name and a number, such as factor=8"
            raise argparse.ArgumentTypeError(f"{argument!r}: expected {example}") from None

    return read


def _named(argument: str) -> tuple[str, str]:
    """One NAME=NAME of the command line."""
    name, _, value = plain_text(argument).partition("=")
    if not name.strip() or not value.strip():
        raise argparse.ArgumentTypeError(f"{argument!r}: expected two names, such as output=answer")
    return name.strip(), value.strip()


def plain_text(argument: str) -> str:
    """A command-line argument with bytes that are not text replaced by U+FFFD.

    Args:
        argument: As Python gives it, perhaps with surrogates.

    Returns:
        The text.
    """
    try:
        return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # half a character, where arguments are not bytes
        return well_formed(argument)


ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


def escaped_text(argument: str) -> str:
    r"""A command-line argument in which \n, \r and \t are what they are in Python.

    A shell hands them on as two characters.

    Args:
        argument: As Python gives it.

    Returns:
        The text. A backslash before another character stays; two are one.

    Example:
        >>> escaped_text(r"end\n"), escaped_text(r"C:\\new"), escaped_text(r"\d")
        ('end\n', 'C:\\new', '\\d')
    """
    return re.sub(r"\\([nrt\\])", lambda found: ESCAPES[found[1]], plain_text(argument))


def given_options(arguments: argparse.Namespace, cls: type) -> dict[str, Any]:
    """The fields of a dataclass that were given on the command line.

    Args:
        arguments: All options, parsed.
        cls: A dataclass that `cli_options` made options of.

    Returns:
        Name -> value, of the given ones alone.
    """
    given = {}
    for name, hint in typing.get_type_hints(cls).items():
        if hasattr(arguments, name):
            kind, value = typing.get_origin(_without_none(hint)), getattr(arguments, name)
            given[name] = kind(value) if kind in (tuple, dict) else value
    return given
