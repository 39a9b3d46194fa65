"""API keys: a name and a secret each, from a file or the environment, never from a command line."""

import hmac
import os
from pathlib import Path

from ..errors import ConfigError

KEYS_VARIABLE = "MINIGPT_API_KEYS"
"""Name and key pairs, separated by commas or line ends."""


class Keys:
    """The keys that open the API.

    Args:
        file: One "name key" on each line; # begins a comment. Unset: KEYS_VARIABLE, if there.

    Raises:
        ConfigError: The file cannot be read, or a line is not a name and a key.
    """

    def __init__(self, file: str | None = None) -> None:
        self._file = file
        self._keys: dict[str, bytes] = {}
        self.read()

    def __bool__(self) -> bool:
        return bool(self._keys)

    def read(self) -> None:
        """Reads them again; on an error those from before stay."""
        where = self._file or KEYS_VARIABLE
        if self._file is not None:
            try:
                text = Path(self._file).read_text(encoding="utf-8")
            except (OSError, UnicodeError) as error:
                reason = getattr(error, "strerror", None) or "is not text in UTF-8"
                raise ConfigError(f"keys_file={where}: cannot be read: {reason}") from None
        else:
            text = os.environ.get(KEYS_VARIABLE, "").replace(",", "\n")
        keys: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            if len(words) != 2 or words[0] in keys:
                raise ConfigError(
                    f"{where}: line {number}: expected a name and a key, with a space between, and "
                    "each name once"
                )
            keys[words[0]] = words[1].encode()
        if self._file is not None and not keys:
            raise ConfigError(f"{where}: contains no key: write a name and a key on each line")
        self._keys = keys

    def name_of(self, given: bytes) -> str | None:
        """Whose key it is, in a time that does not depend on which one it is.

        Args:
            given: What the client sent.

        Returns:
            The name; None if it is nobody's.
        """
        found = None
        for name, key in self._keys.items():
            if hmac.compare_digest(key, given):
                found = name
        return found
