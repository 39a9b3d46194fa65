"""Sources of texts and records: paths, and URLs such as https://example.org/a.txt."""

import os
import re
from pathlib import Path
from typing import TypeGuard

from ..storage.paths import real_path

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
"""How a URL begins."""


def is_url(source: str | os.PathLike) -> TypeGuard[str]:
    """Whether a source is a URL, not the path of a file."""
    return isinstance(source, str) and SCHEME.match(source) is not None


def as_source(source: str | os.PathLike) -> Path | str:
    """A Path, or a URL as text: in a Path it would lose one of its slashes."""
    return source if is_url(source) else Path(source)


def full_name(source: Path | str) -> str:
    """The URL, or the absolute path."""
    return str(source if is_url(source) else real_path(source))
