"""Tokens and keys: from a file or the environment, never from the command line."""

import os
from pathlib import Path

from ...errors import ConfigError


def optional_secret(file: str | None, variable: str) -> str | None:
    """A secret, if one is given.

    Args:
        file: Its file; it counts before the environment.
        variable: Its name in the environment.

    Returns:
        The secret without white space around it, or None.

    Raises:
        ConfigError: The file cannot be read, or contains nothing or several lines.
    """
    if file is None:
        return os.environ.get(variable, "").strip() or None
    try:
        text = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"{file}: {reason}") from None
    if not text or len(text.split()) > 1:
        raise ConfigError(f"{file}: expected one line with the secret alone")
    return text


def secret(what: str, file: str | None, option: str, variable: str) -> str:
    """A secret that must be given.

    Args:
        what: What it is, for the error.
        file: Its file, or None.
        option: The option that names the file.
        variable: Its name in the environment.

    Returns:
        The secret.

    Raises:
        ConfigError: It is not given, or its file cannot be read.
    """
    found = optional_secret(file, variable)
    if found is None:
        raise ConfigError(f"{what} is missing: give {option} FILE, or set {variable}")
    if not found.isascii() or not found.isprintable():
        raise ConfigError(f"{what} has characters that none can have: check {file or variable}")
    return found
