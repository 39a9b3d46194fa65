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
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..config import CACHE_DAYS, CACHE_NAME
from ..errors import DataError

ENTRY_NAME = "entry.json"
_MAKING = ".making-"
_DAY = 24 * 60 * 60

Made = TypeVar("Made")
Facts = dict[str, Any]
"""What an entry holds besides its files: plain data."""


def cache_folder() -> Path:
    """Where entries are kept: a folder in $XDG_CACHE_HOME, or in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / CACHE_NAME


def keep(
    key: Facts,
    make: Callable[[Path], Facts],
    load: Callable[[Path, Facts], Made],
    notice: Callable[[str], None],
) -> Made:
    """What `load` gives for the entry of a key, which `make` makes where there is none.

    `make` writes files into the folder it is given and returns facts; `load` gets both. Where the
    cache folder cannot be used, the entry is made in a temporary folder, removed when `load` has
    returned, and `notice` is told. Raises DataError where the disk is full.
    """
    root = cache_folder()
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    facts = _read_entry(root / name)
    if facts is not None:
        with contextlib.suppress(OSError):
            os.utime(root / name)  # it was used
        return load(root / name, facts)
    try:
        root.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=_MAKING, dir=root))
    except OSError as error:
        notice(f"{root}: cannot be written to ({error.strerror}), so nothing is kept there")
        return _without_cache(make, load)
    try:
        _remove_old(root)
        facts = _make_entry(scratch, make, root)
        made = _install(scratch, root / name)
        return load(made, facts)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _without_cache(make: Callable[[Path], Facts], load: Callable[[Path, Facts], Made]) -> Made:
    with contextlib.ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="minigpt-", ignore_cleanup_errors=True)
        scratch = Path(stack.enter_context(folder))
        return load(scratch, _make_entry(scratch, make, scratch.parent))


def _make_entry(folder: Path, make: Callable[[Path], Facts], root: Path) -> Facts:
    """Makes the files of an entry, and ENTRY_NAME, which describes them. Returns the facts."""
    try:
        facts = make(folder)
        files = {file.name: _describe_file(file) for file in folder.iterdir()}
        entry: dict[str, Any] = {"facts": facts, "files": files}
        entry["sha256"] = _digest_of(entry)
        (folder / ENTRY_NAME).write_text(json.dumps(entry), encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{root}: cannot be written to ({error.strerror}): make room on that disk, or set "
            "XDG_CACHE_HOME to a folder on another one"
        ) from None
    return facts


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
    """The facts of an entry; None where there is none, or not all of it."""
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
    """Removes entries that were not used for CACHE_DAYS, and what a killed process has left."""
    now = time.time()
    for folder in root.iterdir():
        unfinished = folder.name.startswith(_MAKING)
        if not unfinished and not (folder / ENTRY_NAME).is_file():
            continue  # not ours
        with contextlib.suppress(OSError):
            days = (now - folder.stat().st_mtime) / _DAY
            if days > (1 if unfinished else CACHE_DAYS):
                shutil.rmtree(folder, ignore_errors=True)
