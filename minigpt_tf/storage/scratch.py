"""Scratch files and folders: what is being written, under a name that nobody reads.

Each is locked by the process that writes it, and the lock ends with that process, however that
ends. So what a killed run has left is told apart from what another run is writing, and the next
one removes it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SCRATCH_PREFIX = ".saving-"

_DAY = 24 * 60 * 60
"""Where nothing can be locked, older scratch is taken for abandoned."""


@contextmanager
def scratch_folder(parent: Path, prefix: str = SCRATCH_PREFIX) -> Iterator[Path]:
    """An empty folder, locked until the block ends. Who makes it removes it.

    Args:
        parent: Where it is made.
        prefix: How its name begins.

    Yields:
        Its path.

    Raises:
        OSError: The parent cannot be written to.
    """
    import tempfile  # here and below: a start that only reads a model does without

    path, lock = _locked(lambda: Path(tempfile.mkdtemp(prefix=prefix, dir=parent)))
    try:
        yield path
    finally:
        os.close(lock)


@contextmanager
def scratch_file(parent: Path, suffix: str = "") -> Iterator[Path]:
    """The same for an empty file.

    Args:
        parent: Where it is made.
        suffix: How its name ends.

    Yields:
        Its path.

    Raises:
        OSError: The parent cannot be written to.
    """
    import tempfile

    def make() -> Path:
        descriptor, name = tempfile.mkstemp(suffix, SCRATCH_PREFIX, parent)
        os.close(descriptor)
        return Path(name)

    path, lock = _locked(make)
    try:
        yield path
    finally:
        os.close(lock)


def _locked(make: Callable[[], Path]) -> tuple[Path, int]:
    """A new scratch and the open file that holds its lock."""
    while True:
        path = make()
        try:
            lock = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # taken for abandoned before it was locked
            continue
        if _lock(lock) is False or not path.exists():
            os.close(lock)
            continue
        return path, lock


def _lock(file: int) -> bool | None:
    """Whether the lock of an open file could be had; None if absent."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # another system; some network file systems
        return None
    return True


@contextmanager
def abandoned(scratch: Path) -> Iterator[bool]:
    """Whether no living process writes a scratch. None begins to before the block ends.

    Args:
        scratch: The file or folder.

    Yields:
        True for one that may be removed.
    """
    try:
        file = os.open(scratch, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:  # gone, or another user's
        yield False
        return
    try:
        free = _lock(file)
        if free is None:
            free = time.time() - os.fstat(file).st_mtime > _DAY
        yield free
    finally:
        os.close(file)


def scratches(folder: Path, prefix: str = SCRATCH_PREFIX) -> list[Path]:
    """Finds the scratch files and folders in a folder.

    Args:
        folder: Where they may be.
        prefix: How their names begin.

    Returns:
        Their paths; none if the folder cannot be read.
    """
    with contextlib.suppress(OSError):
        return [folder / name for name in os.listdir(folder) if name.startswith(prefix)]
    return []


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it, if it is there and can be removed."""
    if path.is_dir() and not path.is_symlink():
        import shutil

        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def sweep(folder: Path, prefix: str = SCRATCH_PREFIX) -> None:
    """Removes the scratch that killed processes have left in a folder.

    Args:
        folder: Where it may be.
        prefix: How its name begins.
    """
    for scratch in scratches(folder, prefix):
        with abandoned(scratch) as free:
            if free:
                remove(scratch)
