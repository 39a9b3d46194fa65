"""A part of a file as a file: a member that an archive stores as it is."""

import io
import os
from typing import IO


class FileWindow(io.RawIOBase):
    """Some bytes of an open file, to be read at any place.

    Args:
        file: Open for reading.
        first: Where the window begins.
        size: Its length in bytes.
    """

    def __init__(self, file: IO[bytes], first: int, size: int) -> None:
        self.file, self.first, self.size, self._at = file, first, size, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The descriptor of the whole file."""
        return self.file.fileno()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the place.

        Args:
            offset: Where to.
            whence: From where that is counted, as of any file.

        Returns:
            The place in the window.
        """
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer) -> int:
        """Reads from the place on.

        Args:
            buffer: What is filled.

        Returns:
            How many bytes there were.
        """
        wanted = min(len(buffer), max(0, self.size - self._at))
        self.file.seek(self.first + self._at)
        part = self.file.read(wanted)
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)
