"""JSON files: written with care for people, and read with care for what others wrote."""

import json
from pathlib import Path
from typing import Any

from ..errors import ModelFolderError
from .regular import read_regular

LARGEST = 1 << 25
"""Bytes of a file: Python takes twenty times as much for its values."""


def write_json(file: Path, description: dict[str, Any]) -> None:
    """Writes config.json, or another file of plain data, as UTF-8.

    Args:
        file: the file, which is replaced.
        description: an object that JSON can express.

    Raises:
        OSError: the file cannot be written.
    """
    file.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelFolderError: the file cannot be read, is damaged or contains something else.
    """
    content = read_regular(file, LARGEST)
    try:
        text = content.decode("utf-8-sig")
        values = json.loads(text)
        if "\\ud" in text.lower():  # half a character would be an error later, wherever it is used
            json.dumps(values, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{file}: is damaged: {error!s:.120}") from None
    if not isinstance(values, dict):
        raise ModelFolderError(f"{file}: is damaged: expected an object, found {values!r:.40}")
    return values


def read_object_if_there(file: Path) -> dict[str, Any]:
    """As `read_object`; {} if the file does not exist."""
    return read_object(file) if file.is_file() else {}


def integer(values: dict[str, Any], name: str, file: Path, *others: str) -> int:
    """Reads a required integer field.

    Args:
        values: the object in the file.
        name: of the field.
        file: what an error names.
        others: other names of the field.

    Returns:
        The value under the first of these names that is set.

    Raises:
        ModelFolderError: the field is missing, or not an integer.
    """
    for key in (name, *others):
        if values.get(key) is not None:
            if type(values[key]) is not int:
                raise ModelFolderError(f"{file}: {key}={values[key]!r:.40}: expected a number")
            return values[key]
    raise ModelFolderError(f"{file}: lacks {name}")
