"""The licence of a model: its texts, and the name that the README of a repository gives it."""

import re
from pathlib import Path

README_NAME = "README.md"
LARGEST = 2**20
"""Files of so many bytes or more are no licence, nor is a README read further."""

_NAMES = re.compile(r"(licen[cs]e|notice|copying|use_policy)([._ -].*)?", re.IGNORECASE)
_FIELD = re.compile(r"(license|license_name):\s*(.*)")


def is_licence(name: str) -> bool:
    """Whether a file of this name belongs to a licence: LICENSE.txt, NOTICE, ..."""
    return _NAMES.fullmatch(name) is not None


def licence_files(folder: Path) -> dict[str, bytes]:
    """LICENSE, NOTICE and their like, by name."""
    return {
        file.name: file.read_bytes()
        for file in sorted(folder.iterdir())
        if is_licence(file.name) and file.is_file() and file.stat().st_size < LARGEST
    }


def licence_name(folder: Path) -> str:
    """What the front matter of README.md says; empty where it says nothing.

    It is YAML, of which a field is read that has one value, or a list with one.
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
