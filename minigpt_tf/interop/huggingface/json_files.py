"""JSON files of other tools, read with care: whatever is in them ends in one sentence."""

import json
from pathlib import Path
from typing import Any

from ...errors import ModelFolderError


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ModelFolderError that names the file."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        values = json.loads(text)
        if "\\ud" in text.lower():  # half a character would be an error later, wherever it is used
            json.dumps(values, ensure_ascii=False).encode()
    except OSError as error:
        raise ModelFolderError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{file}: is damaged: {error!s:.120}") from None
    if not isinstance(values, dict):
        raise ModelFolderError(f"{file}: is damaged: expected an object, found {values!r:.40}")
    return values


def read_object_if_there(file: Path) -> dict[str, Any]:
    """As `read_object`; of a file that does not exist, nothing."""
    return read_object(file) if file.is_file() else {}


def whole_number(values: dict[str, Any], name: str, file: Path, *others: str) -> int:
    """A field that must be there, under its name or one of the `others`."""
    for key in (name, *others):
        if values.get(key) is not None:
            if type(values[key]) is not int:
                raise ModelFolderError(f"{file}: {key}={values[key]!r:.40}: expected a number")
            return values[key]
    raise ModelFolderError(f"{file}: lacks {name}")
