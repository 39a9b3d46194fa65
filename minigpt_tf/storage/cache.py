"""Downloads, and what was made of texts with some work, in the user's cache folder.

An entry is a folder named by the hash of its key, which says what it was made from. It is made
under another name and renamed when it is whole, so processes do not disturb each other and one that
is killed leaves nothing that counts. `entry.json` has the size and the SHA-256 of every file of the
entry: an entry that is damaged is made anew.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import CACHE_DAYS, CACHE_NAME
from ..errors import DataError
from .scratch import scratch_folder, sweep

ENTRY_NAME = "entry.json"
_MAKING = ".making-"
_DAY = 24 * 60 * 60

Facts = dict[str, Any]
"""What an entry has besides its files: plain data."""


def cache_folder() -> Path:
    """Where entries are kept: a folder in $XDG_CACHE_HOME, or in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / CACHE_NAME


@dataclass
class CacheEntry:
    """An entry that is there, or one to be made: see `open_entry`."""

    root: Path
    """The folder of all entries, or of temporary files."""
    name: str
    folder: Path
    """Where the entry's files are, or are to be written."""
    facts: Facts | None = None
    """None: the entry is to be made."""
    problem: str = ""
    """Why the entry cannot be kept; empty where it can."""

    def finish(self, facts: Facts) -> Facts:
        """Puts a new entry, whose files are written, in its place.

        Args:
            facts: What the entry has besides its files.

        Returns:
            The facts. `folder` is now the entry's, perhaps of a process that was faster.

        Raises:
            OSError: The disk is full.
        """
        files = {file.name: _describe_file(file) for file in self.folder.iterdir()}
        entry: dict[str, Any] = {"facts": facts, "files": files}
        entry["sha256"] = _digest_of(entry)
        (self.folder / ENTRY_NAME).write_text(json.dumps(entry), encoding="utf-8")
        if not self.problem:
            self.folder = _install(self.folder, self.root / self.name)
        self.facts = facts
        return facts


@contextlib.contextmanager
def open_entry(key: Facts) -> Iterator[CacheEntry]:
    """The entry of a key.

    Where its `facts` are None it is yet to be made: write its files into `folder`, and call
    `finish`. Where the cache folder cannot be used, `problem` says why, and the entry lasts only as
    long as the context.

    Args:
        key: What the entry is made from: plain data.

    Raises:
        DataError: The disk is full.

    Example:
        >>> from minigpt_tf.storage.cache import open_entry
        >>> for _ in range(2):
        ...     with open_entry({"what": "squares", "up to": 4}) as entry:
        ...         if entry.facts is None:
        ...             text = " ".join(str(n * n) for n in range(5))
        ...             _ = (entry.folder / "squares.txt").write_text(text)
        ...             _ = entry.finish({"count": 5})
        ...         print((entry.folder / "squares.txt").read_text(), entry.facts)
        0 1 4 9 16 {'count': 5}
        0 1 4 9 16 {'count': 5}
    """
    root = cache_folder()
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    facts = _read_entry(root / name)
    if facts is not None:
        with contextlib.suppress(OSError):
            os.utime(root / name)  # it was used
        yield CacheEntry(root, name, root / name, facts)
        return
    problem = ""
    with contextlib.ExitStack() as lock:
        try:
            root.mkdir(parents=True, exist_ok=True)
            scratch = lock.enter_context(scratch_folder(root, _MAKING))
        except OSError as error:
            problem = f"{root}: cannot be written to ({error.strerror}), so nothing is kept there"
            scratch = Path(tempfile.mkdtemp(prefix="minigpt-"))
        entry = CacheEntry(scratch.parent, name, scratch, problem=problem)
        try:
            if not problem:
                sweep(root, _MAKING)
                _remove_old(root)
            yield entry
        except OSError as error:
            if entry.facts is not None:
                raise
            raise DataError(
                f"{entry.root}: cannot be written to ({error.strerror}): make room on that disk, "
                "or set XDG_CACHE_HOME to a folder on another one"
            ) from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _install(scratch: Path, target: Path) -> Path:
    """Gives an entry that is whole its name; returns where an equal one now lies."""
    for _ in range(3):
        try:
            os.rename(scratch, target)
        except OSError:  # there is one: another process was faster, or it is damaged
            if _read_entry(target) is not None:
                return target
            with contextlib.suppress(OSError):
                aside = tempfile.mkdtemp(prefix=_MAKING, dir=target.parent)
                os.rename(target, Path(aside) / target.name)
                shutil.rmtree(aside, ignore_errors=True)
        else:
            return target
    return scratch


def _read_entry(folder: Path) -> Facts | None:
    """The facts of an entry; None if absent or damaged."""
    try:
        entry = json.loads((folder / ENTRY_NAME).read_text(encoding="utf-8"))
        stored = entry.pop("sha256")
        whole = stored == _digest_of(entry)
        whole = whole and all(
            _describe_file(folder / name) == description
            for name, description in entry["files"].items()
        )
        return entry["facts"] if whole else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def _digest_of(entry: Facts) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()


def _describe_file(file: Path) -> list:
    """Size and SHA-256."""
    with open(file, "rb") as handle:
        return [file.stat().st_size, hashlib.file_digest(handle, "sha256").hexdigest()]


def _remove_old(root: Path) -> None:
    """Removes entries that were not used for CACHE_DAYS."""
    now = time.time()
    for folder in root.iterdir():
        if folder.name.startswith(_MAKING) or not (folder / ENTRY_NAME).is_file():
            continue  # not one of them
        with contextlib.suppress(OSError):
            if (now - folder.stat().st_mtime) / _DAY > CACHE_DAYS:
                shutil.rmtree(folder, ignore_errors=True)
