"""The license of a model: its texts, and the name that the README of a repository gives it."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from ..storage.regular import lies_within

README_NAME = "README.md"
LARGEST = 2**20
"""Bytes: a larger file is not a license, and a README is read no further."""

_NAMES = re.compile(r"(licen[cs]e|notice|copying|use_policy)([._ -].*)?", re.IGNORECASE)
_FIELD = re.compile(r"(license|license_name):\s*(.*)")

NOTICE_NAME = "NOTICE"


@dataclass(frozen=True)
class Restriction:
    """A license that is not open source: its maker says what a model may be used for."""

    names: re.Pattern[str]
    """Of the license, as repositories and files write it."""
    demand: str
    """What it asks of a user, in a line."""
    notice: str
    """What is to be passed on with the model."""
    url: str


_META = re.compile(r"llama[-_ ]?(\d(?:\.\d)?)(?:[-_ ]community.*)?", re.IGNORECASE)
RESTRICTED = (
    Restriction(
        re.compile(r"gemma(?:[-_ ]terms.*)?", re.IGNORECASE),
        "its maker forbids some uses, and asks that the terms be passed on with the model",
        "Gemma is provided under and subject to the Gemma Terms of Use",
        "https://ai.google.dev/gemma/terms",
    ),
    Restriction(
        _META,
        "its maker forbids some uses, and asks for its name in that of a model made from it",
        "Llama {} is licensed under the Llama {} Community License, Copyright (c) Meta Platforms, "
        "Inc. All Rights Reserved.",
        "https://www.llama.com/llama-downloads",
    ),
    Restriction(
        re.compile(r"qwen[-_ ]research.*", re.IGNORECASE),
        "its maker forbids commercial use",
        "Qwen is licensed under the Qwen RESEARCH LICENSE AGREEMENT, Copyright (c) Alibaba Cloud. "
        "All Rights Reserved.",
        "https://huggingface.co/Qwen/Qwen2.5-3B/blob/main/LICENSE",
    ),
    Restriction(
        re.compile(r"mrl|mistral[-_ ]research.*", re.IGNORECASE),
        "its maker forbids commercial use",
        "This model is licensed under the Mistral AI Research License",
        "https://mistral.ai/licenses/MRL-0.1.md",
    ),
)


def restriction(name: str) -> Restriction | None:
    """Finds out whether a license restricts what a model may be used for.

    Args:
        name: Of the license, such as "gemma" or "llama3.2".

    Returns:
        What it asks for; None if it is open source, or not in RESTRICTED.

    Example:
        >>> restriction("llama3.2").notice[:50]
        'Llama 3.2 is licensed under the Llama 3.2 Communit'
    """
    for known in RESTRICTED:
        if found := known.names.fullmatch(name.strip()):
            return replace(known, notice=known.notice.format(*found.groups() * 2))
    return None


def with_notice(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    """Adds what a restricting license wants passed on, unless a notice is there.

    Args:
        files: The texts of the license: name -> content.
        name: Of the license.

    Returns:
        The texts, with NOTICE if the license restricts.
    """
    found = restriction(name)
    if found is None or any(file.lower().startswith(NOTICE_NAME.lower()) for file in files):
        return files
    return {**files, NOTICE_NAME: f"{found.notice}\n{found.url}\n".encode()}


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
