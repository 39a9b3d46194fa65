"""Configuration fields -> options of the command line: one default and one help text for both."""

import argparse
import dataclasses
import typing
from typing import Any, Literal


def cli_options(parser: argparse.ArgumentParser, cls: type, *, preset_decides: bool) -> None:
    """Adds an option for each field of `cls`; one that is not given is absent from the result.

    With `preset_decides` the help does not promise the dataclass's default.
    """
    hints = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        kind = _without_none(hints[item.name])
        options: dict[str, Any] = {"dest": item.name, "default": argparse.SUPPRESS}
        options["help"] = item.metadata["help"]
        shown = item.default not in (None, ()) and not preset_decides
        if shown:
            options["help"] += f" (default: {item.default})".replace("%", "%%")
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif typing.get_origin(kind) is Literal:
            options["choices"] = typing.get_args(kind)
        elif typing.get_origin(kind) is tuple:
            options |= {"action": "append", "metavar": "TEXT", "type": plain_text}
        elif typing.get_origin(kind) is dict:
            options |= {"action": "append", "metavar": "ID=F", "type": _number_of_id}
        else:
            options["metavar"] = {int: "N", float: "F", str: "TEXT"}[kind]
            options["type"] = plain_text if kind is str else kind
        parser.add_argument("--" + item.name.replace("_", "-"), **options)


def _without_none(hint: Any) -> Any:
    """int | None -> int"""
    if type(None) in typing.get_args(hint):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def _number_of_id(argument: str) -> tuple[int, float]:
    """ "262=-5" -> (262, -5.0)"""
    token_id, _, number = argument.partition("=")
    try:
        return int(token_id), float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{argument!r}: expected a token id and a number, such as 262=-5"
        ) from None


def plain_text(argument: str) -> str:
    """A command-line argument with bytes that are no text replaced by U+FFFD."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def given_options(arguments: argparse.Namespace, cls: type) -> dict[str, Any]:
    """The fields of `cls` that were given on the command line."""
    given = {}
    for name, hint in typing.get_type_hints(cls).items():
        if hasattr(arguments, name):
            kind, value = typing.get_origin(_without_none(hint)), getattr(arguments, name)
            given[name] = kind(value) if kind in (tuple, dict) else value
    return given
