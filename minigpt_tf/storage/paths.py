"""Paths as people give them: links in circles, pipes without a writer, devices without an end."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from ..errors import DataError

SECONDS_TO_WRITER = 10
"""How long a named pipe may be without a process that writes to it."""

BLOCK = 1 << 20
"""Bytes that are read at a time."""


def real_path(path: str | os.PathLike) -> Path:
    """The absolute path without links; unlike `Path.resolve`, also of a link to itself.

    Args:
        path: Of anything; it need not exist.

    Returns:
        The path.
    """
    return Path(os.path.realpath(path))


def read_stream(path: str | os.PathLike, most: int) -> bytes:
    """All of a file or of a pipe, such as that of <(COMMAND) in a shell.

    Args:
        path: The file.
        most: Bytes that are read at most.

    Returns:
        The bytes.

    Raises:
        DataError: There is more, no process writes to the pipe, or the file cannot be read.
    """
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}") from None
    try:
        begun = _first_of_pipe(file, path) if stat.S_ISFIFO(os.fstat(file).st_mode) else b""
        os.set_blocking(file, True)
        return begun + read_all(lambda: os.read(file, BLOCK), most, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    finally:
        os.close(file)


def read_all(read: Callable[[], bytes], most: int, what: object) -> bytes:
    """All that a function reads, block by block.

    Args:
        read: Reads the next block; b"" at the end.
        most: Bytes that are read at most.
        what: Names the source in the error.

    Returns:
        The bytes.

    Raises:
        DataError: There is more.
    """
    blocks, size = [], 0
    while block := read():
        blocks.append(block)
        size += len(block)
        if size > most:
            raise DataError(f"{what}: has more than {most >> 20} MiB, which is the most: split it")
    return b"".join(blocks)


def _first_of_pipe(file: int, path: object) -> bytes:
    """Waits until something comes or a writer has gone. Raises DataError if there is no writer."""
    import select

    poll = select.poll()
    poll.register(file, select.POLLIN)
    if poll.poll(1000 * SECONDS_TO_WRITER):
        return b""
    try:
        begun = os.read(file, BLOCK)
    except BlockingIOError:  # there is one, which has not written yet
        return b""
    if not begun:
        raise DataError(f"{path}: is a pipe to which no process writes")
    return begun
