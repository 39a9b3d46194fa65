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
        hint = hints[item.name]
        options: dict[str, Any] = {"dest": item.name, "default": argparse.SUPPRESS}
        options["help"] = item.metadata["help"]
        if item.default is not None and not preset_decides:
            options["help"] += f" (default: {item.default})".replace("%", "%%")
        if hint is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif typing.get_origin(hint) is Literal:
            options["choices"] = typing.get_args(hint)
        else:
            kind = next(t for t in (typing.get_args(hint) or (hint,)) if t is not type(None))
            options["metavar"] = {int: "N", float: "F", str: "TEXT"}[kind]
            options["type"] = plain_text if kind is str else kind
        parser.add_argument("--" + item.name.replace("_", "-"), **options)


def plain_text(argument: str) -> str:
    """A command-line argument with bytes that are no text replaced by U+FFFD."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def given_options(arguments: argparse.Namespace, cls: type) -> dict[str, Any]:
    """The fields of `cls` that were given on the command line."""
    names = [item.name for item in dataclasses.fields(cls)]
    return {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
