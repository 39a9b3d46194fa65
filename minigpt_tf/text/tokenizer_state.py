"""The attributes of a `Tokenizer` as plain data, checked: what pickles and JSON hold of it."""

import json
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError

SETTINGS = ("num_words", "filters", "lower", "split", "char_level", "oov_token", "document_count")

TABLES: dict[str, tuple[type, type]] = {
    "word_counts": (str, int),
    "word_docs": (str, int),
    "index_docs": (int, int),
    "word_index": (str, int),
    "index_word": (int, str),
}
"""The tables of a tokenizer, and the types of their keys and values."""

MOST_UNUSED_IDS = 1_000_000
"""A vocabulary may leave so many ids without a word. Keras leaves at most one."""


def check_settings(
    num_words: Any,
    filters: Any,
    lower: Any,
    split: Any,
    char_level: Any,
    oov_token: Any,
    document_count: Any,
) -> dict[str, Any]:
    """Checks the settings of a Keras Tokenizer.

    Args:
        num_words: Ids from this one on are left out (None: none).
        filters: Characters that are replaced by `split`.
        lower: Whether texts are lower-cased.
        split: What separates words.
        char_level: Whether every character is a token.
        oov_token: The token of unknown words (None: they are left out).
        document_count: Texts that the tokenizer was fitted on.

    Returns:
        The settings by name, each of its proper type.

    Raises:
        ConfigError: A setting has a wrong type or value.
    """
    if not isinstance(split, str) or not split:
        raise ConfigError(f"split={split!r:.40}: must be a string of at least one character")
    if not isinstance(oov_token, str | None):
        raise ConfigError(f'oov_token={oov_token!r:.40}: must be a string, such as "<OOV>"')
    if type(document_count) is not int or document_count < 0:
        raise ConfigError(f"document_count={document_count!r:.40}: must be an integer from 0 on")
    return {
        "num_words": None if num_words is None else _size(num_words),
        "filters": _characters(filters),
        "lower": _flag(lower, "lower"),
        "split": str(split),
        "char_level": _flag(char_level, "char_level"),
        "oov_token": None if oov_token is None else str(oov_token),
        "document_count": document_count,
    }


def _size(num_words: Any) -> int:
    try:
        size = operator.index(num_words)
    except TypeError:
        size = 0
    if not 0 < size < 2**31:
        raise ConfigError(f"num_words={num_words!r:.40}: must be an integer from 1 on, or None")
    return size


def _characters(filters: Any) -> str:
    """Keras takes any sequence of characters."""
    characters: list[Any] = list(filters) if isinstance(filters, str | list | tuple) else [None]
    if not all(isinstance(c, str) and len(c) == 1 for c in characters):
        raise ConfigError(
            f"filters={filters!r:.40}: must be a string of the characters to remove, or empty"
        )
    return "".join(characters)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool | int | np.bool_):
        raise ConfigError(f"{name}={value!r:.40}: must be True or False")
    return bool(value)


def check_state(
    state: Any, is_attribute: Callable[[str], bool]
) -> tuple[dict[str, Any], dict[str, dict]]:
    """Splits the attributes of a pickled `Tokenizer` into settings and tables, and checks them.

    Those of an older Keras, which had fewer, are completed. Attributes that somebody added to a
    tokenizer are left out, since nothing reads them.

    Args:
        state: The attributes by name.
        is_attribute: Whether the class has a method or property of this name: no pickle may set it.

    Returns:
        Settings by name, for `Tokenizer`, which checks them; tables by name.

    Raises:
        DataError: Whose message continues the name of the file.
    """
    if type(state) is not dict:
        raise DataError("is damaged: it is a Tokenizer without attributes")
    for name in state:
        if name not in SETTINGS and name not in TABLES and is_attribute(name):
            raise DataError(f"sets {name!r:.40}, which belongs to the class Tokenizer")
    if state.get("analyzer") is not None:
        raise DataError("has an analyzer, which is not plain data")
    settings = {name: state[name] for name in SETTINGS if name in state}
    if "nb_words" in state:  # as Keras 1 called it
        settings.setdefault("num_words", state["nb_words"])
    tables = {name: state.get(name, {}) for name in TABLES}
    for name, types in TABLES.items():
        _check_table(tables[name], name, *types)
    check_word_index(tables["word_index"])
    by_id = {i: word for word, i in tables["word_index"].items()}
    return settings, {**tables, "index_word": by_id | tables["index_word"]}


def _check_table(table: Any, name: str, key: type, value: type) -> None:
    sound = type(table) is dict and {*map(type, table)} <= {key}
    sound = sound and {*map(type, table.values())} <= {value}
    if not sound or (value is int and min(table.values(), default=0) < 0):
        kinds = {str: "words", int: "integers from 0 on"}
        raise DataError(f"is damaged: {name} does not map {kinds[key]} to {kinds[value]}")


def check_word_index(word_index: dict[str, int]) -> None:
    """Raises DataError where two words have one id, or where ids are far from dense."""
    most = len(word_index) + MOST_UNUSED_IDS
    if len({*word_index.values()}) < len(word_index) or max(word_index.values(), default=0) > most:
        raise DataError(f"has a word_index whose ids are not from 0 to {most:,}, each once")


def state_to_json(state: dict[str, Any], **options: Any) -> str:
    """Serializes a tokenizer as `keras.preprocessing.text.Tokenizer.to_json` does.

    Args:
        state: The tokenizer's settings, and its tables as JSON strings.
        options: Arguments of `json.dumps`.

    Returns:
        A JSON object with class_name and config.
    """
    return json.dumps({"class_name": "Tokenizer", "config": state}, **options)


def state_from_json(json_string: str) -> dict[str, Any]:
    """The attributes that `Tokenizer.to_json` wrote, not checked yet. Raises DataError."""
    try:
        state = dict(json.loads(json_string)["config"])
        for name, (key, _) in TABLES.items():
            if name in state:  # JSON has no keys but strings
                state[name] = {key(k): v for k, v in json.loads(state[name]).items()}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise DataError("is not the JSON of a Tokenizer") from None
    return state
