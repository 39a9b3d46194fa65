"""The license of a model: its texts, and the name that the README of a repository gives it."""

import re
from pathlib import Path

from ..storage.regular import lies_within

README_NAME = "README.md"
LARGEST = 2**20
"""Bytes: a larger file is not a license, and a README is read no further."""

_NAMES = re.compile(r"(licen[cs]e|notice|copying|use_policy)([._ -].*)?", re.IGNORECASE)
_FIELD = re.compile(r"(license|license_name):\s*(.*)")


def is_license(name: str) -> bool:
    """Whether a file is of a license, by its name.

    Args:
        name: A file's name.

    Returns:
        Whether it belongs to a license: LICENSE.txt, NOTICE, ...
    """
    return _NAMES.fullmatch(name) is not None


def license_files(folder: Path) -> dict[str, bytes]:
    """The texts of a license.

    Args:
        folder: Where the model is.

    Returns:
        LICENSE, NOTICE and their like: name -> content.
    """
    return {
        file.name: file.read_bytes()
        for file in sorted(folder.iterdir())
        if is_license(file.name)
        and file.is_file()
        and file.stat().st_size < LARGEST
        and lies_within(file, folder)
    }


def license_name(folder: Path) -> str:
    """The name of a license, from the front matter of README.md.

    It is YAML, of which a field is read that has one value, or a list with one.

    Args:
        folder: Where the model is.

    Returns:
        The name; empty if absent.
    """
    try:
        with open(folder / README_NAME, encoding="utf-8", errors="replace") as file:
            lines = file.read(LARGEST).splitlines()
    except OSError:
        return ""
    if not lines or lines[0].strip() != "---":
        return ""
    fields: dict[str, str] = {}
    last = ""
    for line in lines[1:]:
        if line.strip() == "---":
            break
        if field := _FIELD.fullmatch(line):
            last, value = field.groups()
            fields[last] = value.strip()
        elif last and not fields[last] and line.strip().startswith("- "):
            fields[last] = line.strip()[2:]
        else:
            last = ""
    fields = {name: value.strip().strip("'\"") for name, value in fields.items()}
    name = fields.get("license", "")
    return fields.get("license_name", name) if name == "other" else name
