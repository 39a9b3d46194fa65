"""Settings as dataclass fields: their help texts, checks and JSON."""

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import field
from numbers import Integral, Real
from typing import Any, Literal, TypeVar

from ..errors import ConfigError

LARGEST_INTEGER = 2**31 - 1
"""A bound that no sensible setting reaches; beyond it numbers overflow and loops do not end."""


def setting(
    default: Any,
    help: str,
    *,
    optional_in_files: bool = False,
    old_name: str | None = None,
    escapes: bool = False,
    old_values: Mapping[Any, Any] | None = None,
) -> Any:
    """A dataclass field with its default and the help text of its command-line option.

    Args:
        default: Its value if unset.
        help: The help text.
        optional_in_files: Whether files written before the setting existed are read with the
            default.
        old_name: What an earlier version called it; see `accepts_old_names`.
        escapes: Whether \\n on the command line is a line end.
        old_values: The values that it had under the old name -> those of today.

    Returns:
        The field.
    """
    metadata = {"help": help, "optional": optional_in_files, "old_name": old_name}
    metadata |= {"old_values": old_values, "escapes": escapes}
    return field(default=default, metadata=metadata)


T = TypeVar("T")


def documented(cls: type[T]) -> type[T]:
    """Adds the fields to the docstring of a dataclass of settings, each with its help text.

    Args:
        cls: The dataclass. Its docstring is one line or more, and may end in an example.

    Returns:
        The same class.
    """
    text, mark, example = (cls.__doc__ or "").partition("    Example:")
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    lines = [f"        {item.name}: {item.metadata['help']}." for item in fields]
    raises = "        ConfigError: A value has the wrong type or is out of range.\n"
    sections = ["    Args:", *lines, "", "    Raises:", raises, ""]
    if cls.__doc__ is not None:  # python -OO
        cls.__doc__ = f"{text.rstrip()}\n\n" + "\n".join(sections) + f"{mark}{example}"
    return cls


def accepts_old_names(cls: type[T]) -> type[T]:
    """Lets a dataclass take, and give, its renamed fields by their `old_name` too.

    Args:
        cls: The dataclass.

    Returns:
        The same class.
    """
    names, init = _old_names(cls), cls.__init__
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]

    @functools.wraps(init)
    def accepting(self: Any, *args: Any, **settings: Any) -> None:
        for old in names.keys() & settings.keys():  # dataclasses.replace gives the new name too
            settings[names[old]] = _new_value(fields[names[old]], settings.pop(old))
        init(self, *args, **settings)

    setattr(cls, "__init__", accepting)  # noqa: B010  mypy refuses the assignment
    for old, new in names.items():
        setattr(cls, old, property(functools.partial(_old_value, fields[new])))
    return cls


def _new_value(item: dataclasses.Field, value: Any) -> Any:
    """A value that was given under the old name; one that it never had stays, and is refused."""
    known = item.metadata.get("old_values")
    if known is None or not isinstance(value, type(next(iter(known)))):
        return value
    return known[value]


def _old_value(item: dataclasses.Field, config: Any) -> Any:
    """The inverse; None for a value that did not exist under the old name."""
    value, known = getattr(config, item.name), item.metadata.get("old_values")
    if known is None:
        return value
    return next((old for old, new in known.items() if new == value), None)


def new_names(cls: type, values: Any) -> Any:
    """Settings under the names that they have today.

    Args:
        cls: The dataclass that they are fields of.
        values: name -> value; anything else is returned as it is.

    Returns:
        The same, in the same order.

    Raises:
        ConfigError: A setting is given under both of its names.
    """
    if not isinstance(values, Mapping):
        return values
    names = _old_names(cls)
    for old, new in names.items():
        if old in values and new in values:
            raise ConfigError(f"{old} is the old name of {new}: give one")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    return {
        names.get(name, name): _new_value(fields[names[name]], value) if name in names else value
        for name, value in values.items()
    }


def _old_names(cls: type) -> dict[str, str]:
    """Old name -> name, of the fields that were renamed."""
    fields = dataclasses.fields(cls)
    return {old: item.name for item in fields if (old := item.metadata.get("old_name"))}


def split_settings(
    settings: Mapping[str, Any], kinds: Sequence[type]
) -> dict[type, dict[str, Any]]:
    """Settings by name, sorted by the configurations that they are fields of.

    Args:
        settings: name -> value. A list, or a str, is taken for a field that is a tuple.
        kinds: dataclasses without a field in common.

    Returns:
        For each dataclass the settings that are its own.

    Raises:
        ConfigError: no dataclass has such a field, or epochs and steps are both given.
    """
    homes = {item.name: kind for kind in kinds for item in dataclasses.fields(kind)}
    found: dict[type, dict[str, Any]] = {kind: {} for kind in kinds}
    for kind in kinds:
        settings = new_names(kind, settings)
    for name, value in settings.items():
        if name not in homes:
            import difflib

            near = difflib.get_close_matches(name, homes, 1)
            advice = f": did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{name}: unknown setting{advice}")
        if typing.get_origin(typing.get_type_hints(homes[name])[name]) is tuple:
            value = (value,) if isinstance(value, str) else value
            value = tuple(value) if isinstance(value, list) else value
        found[homes[name]][name] = value
    if settings.get("epochs") is not None and settings.get("steps") is not None:
        raise ConfigError("epochs and steps exclude each other")
    return found


def require_at_least(config: Any, name: str, lowest: float) -> None:
    """Checks the lower bound of a field.

    Args:
        config: A dataclass.
        name: The field.
        lowest: The smallest valid value.

    Raises:
        ConfigError: The value is below `lowest` or NaN.
    """
    value = getattr(config, name)
    if not value >= lowest:
        raise ConfigError(f"{name}={value}: must be at least {lowest}")


def check_types(config: Any) -> None:
    """Raises ConfigError where a field holds a value of another type or an excessive number."""
    hints = _type_hints(config.__class__)
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


@functools.cache
def _type_hints(cls: Any) -> dict[str, Any]:
    """The types of a dataclass's fields; a server checks settings all the time."""
    return typing.get_type_hints(cls)


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON data."""
    return dataclasses.asdict(config)


def from_dict(cls: type, values: Any, where: str) -> Any:
    """Builds a configuration from JSON data.

    Args:
        cls: The dataclass, such as ModelConfig.
        values: The parsed JSON. Old names of settings are accepted.
        where: Names the file in errors.

    Returns:
        An instance of `cls`.

    Raises:
        ConfigError: A setting is unknown, missing, out of range or of the wrong type.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected the settings of {cls.__name__}, found {values!r:.40}")
    hints = _type_hints(cls)
    values = {
        name: tuple(v) if isinstance(v, list) and _is_tuple(hints.get(name)) else v
        for name, v in new_names(cls, values).items()
    }
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


def _is_tuple(hint: Any) -> bool:
    """Whether a field is a tuple, which JSON has as a list."""
    return typing.get_origin(hint) is tuple


def _is_unset(value: Any, item: dataclasses.Field) -> bool:
    """Whether a field was left None, which its dataclass allows and may fill in."""
    return value is None and item.default is None


def _has_type(value: Any, hint: Any) -> bool:
    """Whether a value fits a field's type; an integer also fits where a float is expected."""
    if type(value) is hint:  # mostly, and a server checks settings all the time
        return True
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_has_type(item, arguments[0]) for item in value)
    if origin is dict:
        key, item = arguments
        return isinstance(value, dict) and all(
            _has_type(k, key) and _has_type(v, item) for k, v in value.items()
        )
    if arguments:  # a union
        return any(_has_type(value, argument) for argument in arguments)
    if hint in (int, float):
        number = Integral if hint is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, hint)
