"""Settings as dataclass fields: their help texts, checks, JSON, and options of the command line."""

import argparse
import dataclasses
import math
import typing
from collections.abc import Callable, Container
from dataclasses import field
from numbers import Integral, Real
from typing import Any, Literal

from .errors import ConfigError

LARGEST_INTEGER = 2**31 - 1
"""A bound that no sensible setting reaches; beyond it numbers overflow and loops do not end."""


def setting(default: Any, help: str, *, optional_in_files: bool = False) -> Any:
    """A dataclass field with its default and the help text of its command-line option.

    `optional_in_files`: files that were written before there was such a setting are read all the
    same, and have the default.
    """
    return field(default=default, metadata={"help": help, "optional": optional_in_files})


def require_at_least(config: Any, name: str, lowest: float) -> None:
    """Raises ConfigError where a field is below `lowest` or not a number."""
    value = getattr(config, name)
    if not value >= lowest:
        raise ConfigError(f"{name}={value}: must be at least {lowest}")


def check_types(config: Any) -> None:
    """Raises ConfigError where a field holds a value of another type or an excessive number."""
    hints = typing.get_type_hints(type(config))
    for item in dataclasses.fields(config):
        name, hint, value = item.name, hints[item.name], getattr(config, item.name)
        if _is_unset(value, item):
            continue
        if typing.get_origin(hint) is Literal and value not in typing.get_args(hint):
            choices = ", ".join(typing.get_args(hint))
            raise ConfigError(f"{name}={value!r}: choose one of {choices}")
        if not _has_type(value, hint):
            kind = getattr(hint, "__name__", str(hint))
            raise ConfigError(f"{name}={value!r:.40}: expected {kind}, not {type(value).__name__}")
        if isinstance(value, Integral) and int(value) > LARGEST_INTEGER:
            raise ConfigError(f"{name}={value!r:.30}: must be at most {LARGEST_INTEGER}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name}={value}: must be a finite number")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON data."""
    return dataclasses.asdict(config)


def from_dict(cls: type, values: Any, where: str) -> Any:
    """A configuration of type `cls` from JSON data; `where` names the file in errors."""
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected the settings of {cls.__name__}, found {values!r:.40}")
    hints = typing.get_type_hints(cls)
    fields = {item.name: item for item in dataclasses.fields(cls)}
    for name, value in values.items():
        if name not in hints:
            raise ConfigError(f"{where}: {cls.__name__} has no setting {name!r}")
        if not _is_unset(value, fields[name]) and not _has_type(value, hints[name]):
            raise ConfigError(f"{where}: {name}={value!r:.40} has the wrong type")
    optional = {name for name, item in fields.items() if item.metadata["optional"]}
    missing = [name for name in hints if name not in values and name not in optional]
    if missing:
        raise ConfigError(f"{where}: {cls.__name__} lacks {', '.join(missing)}")
    return cls(**values)


def _is_unset(value: Any, item: dataclasses.Field) -> bool:
    """Whether a field was left None, which its dataclass allows and may fill in."""
    return value is None and item.default is None


def _has_type(value: Any, hint: Any) -> bool:
    """Whether a value fits a field's type; a whole number also fits where a float is expected."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in parts
    if origin is tuple:
        return isinstance(value, tuple) and all(_has_type(item, parts[0]) for item in value)
    if origin is dict:
        key, item = parts
        return isinstance(value, dict) and all(
            _has_type(k, key) and _has_type(v, item) for k, v in value.items()
        )
    if parts:  # a union
        return any(_has_type(value, part) for part in parts)
    if hint in (int, float):
        number = Integral if hint is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, hint)


def cli_options(
    parser: argparse._ActionsContainer,
    cls: type,
    *,
    preset_decides: bool,
    only: Container[str] | None = None,
) -> None:
    """Adds an option for each field of `cls`; one that is not given is absent from the result.

    With `preset_decides` the help does not promise the dataclass's default; `only`: the names of
    the fields that there are options for (unset: all).
    """
    hints = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        if only is not None and item.name not in only:
            continue
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
            key, value = typing.get_args(kind)
            name = {int: "ID", str: "NAME"}[key]
            options |= {"action": "append", "metavar": f"{name}=F", "type": _numbered(key)}
            if value is str:
                options |= {"metavar": "NAME=NAME", "type": _named}
        else:
            options["metavar"] = {int: "N", float: "F", str: "TEXT"}[kind]
            options["type"] = plain_text if kind is str else kind
        parser.add_argument("--" + item.name.replace("_", "-"), **options)


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
