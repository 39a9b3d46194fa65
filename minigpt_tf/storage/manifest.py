"""Which files belong to one model, and how they change together.

config.json names the other files of its model, in its section "files": size and SHA-256 of each,
and of a large one the SHA-256 of a sample, which takes no time to compare. So a file of another
model is found when a folder is read.

A model is saved in three steps. All its files are written into a scratch folder, with a journal of
what is to be done; then config.json is renamed, and from that moment on the new model stands; then
the others follow. Where a run is killed before the second step, the old model stands; after it,
whoever opens the folder next takes the third step from the journal (`settle`).
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..config import CONFIG_NAME
from ..errors import ModelFolderError
from .json_files import read_object, write_json
from .replacing import JOURNAL_NAME, flush, flush_names, put_in_place, sha256_of
from .scratch import abandoned, remove, scratches

FILES_SECTION = "files"

BLOCK, BLOCKS = 2**10, 64
"""A sample is so many blocks of so many bytes, evenly spaced, the last at the file's end."""

PATIENCE = 10.0
"""Seconds for which a reader waits for another process that is putting a model in place."""

Files = dict[str, dict[str, Any]]
"""Name -> what a file holds."""


def describe_file(file: Path) -> dict[str, Any]:
    """What a manifest notes of a file.

    Args:
        file: The file.

    Returns:
        Its size and SHA-256, and the SHA-256 of a sample if it is longer than that.

    Raises:
        OSError: It cannot be read.
    """
    size = file.stat().st_size
    noted: dict[str, Any] = {"size": size, "sha256": sha256_of(file)}
    if size > BLOCK * BLOCKS:
        noted["sample"] = _sample_of(file, size)
    return noted


def _sample_of(file: Path, size: int) -> str:
    digest = hashlib.sha256()
    with open(file, "rb", buffering=0) as stream:
        for number in range(BLOCKS):
            stream.seek((size - BLOCK) * number // (BLOCKS - 1))
            digest.update(stream.read(BLOCK) or b"")
    return digest.hexdigest()


def files_of(description: dict[str, Any], where: str) -> Files | None:
    """The manifest in config.json.

    Args:
        description: The content of config.json.
        where: Names it in errors.

    Returns:
        Name -> what the file holds; None in a folder of an earlier version.

    Raises:
        ModelFolderError: It is damaged.
    """
    files = description.get(FILES_SECTION)
    if files is None:
        return None
    if not isinstance(files, dict) or not all(map(_is_sound, files.values())):
        raise ModelFolderError(
            f"{where}: {FILES_SECTION}={files!r:.60}: expected sizes and hashes of files"
        )
    return files


def _is_sound(noted: Any) -> bool:
    return (
        isinstance(noted, dict)
        and type(noted.get("size")) is int
        and isinstance(noted.get("sha256"), str)
        and isinstance(noted.get("sample", ""), str)
    )


def check_file(file: Path, files: Files | None, *, whole: bool = False) -> None:
    """Checks that a file is the one that its manifest names.

    Args:
        file: The file; one that is not there is not looked for.
        files: The manifest, if there is one.
        whole: Whether all of a large file is read, and not a sample.

    Raises:
        ModelFolderError: It is another one, or cannot be read.
    """
    noted = (files or {}).get(file.name)
    if noted is None:
        return
    try:
        size = file.stat().st_size
        if size == noted["size"]:
            kind = "sample" if "sample" in noted and not whole else "sha256"
            found = _sample_of(file, size) if kind == "sample" else sha256_of(file)
            if found == noted[kind]:
                return
    except FileNotFoundError:
        return
    except OSError as error:
        raise ModelFolderError(f"{file}: cannot be read: {error.strerror}") from None
    raise ModelFolderError(
        f"{file}: is damaged or of another model, by its hash in {CONFIG_NAME}: put the right file "
        f'back, or, if you have changed it yourself, remove it from "{FILES_SECTION}" there'
    )


def commit(scratch: Path, folder: Path, obsolete: Collection[str]) -> None:
    """Makes the files of a scratch folder, config.json among them, the model of a folder.

    Args:
        scratch: Inside the folder; its files have reached the disk.
        folder: The model folder.
        obsolete: Files and folders that go if the new model has none of that name, beside those
            that the old one names.

    Raises:
        OSError: The folder cannot be written to. The old model stands then.
        ModelFolderError: It cannot be written to any more: `settle` puts the new model in place.
    """
    config = scratch / CONFIG_NAME
    names = sorted(file.name for file in scratch.iterdir() if file.name != CONFIG_NAME)
    files = {name: describe_file(scratch / name) for name in names}
    write_json(config, read_object(config) | {FILES_SECTION: files})
    gone = sorted({*obsolete, *_files_of_old(folder)} - set(files))
    write_json(scratch / JOURNAL_NAME, {FILES_SECTION: files, "obsolete": gone})
    for file in (config, scratch / JOURNAL_NAME, scratch):
        flush_names(file) if file.is_dir() else flush(file)
    os.replace(config, folder / CONFIG_NAME)
    try:
        flush_names(folder)
        _finish(scratch, folder)
    except OSError as error:
        raise ModelFolderError(
            f"{folder}: the new model is saved, but could not be put in place "
            f"({error.strerror or error}): mend that, and the next command that reads it will"
        ) from None


def _files_of_old(folder: Path) -> Collection[str]:
    """Names of the files of the model that is replaced, as far as they are known and sound."""
    with contextlib.suppress(ModelFolderError):
        return list(filter(_is_plain, files_of(read_object(folder / CONFIG_NAME), "") or {}))
    return ()


def _is_plain(name: Any) -> bool:
    """Whether it names something in the folder itself: a journal may come from anyone."""
    return isinstance(name, str) and name not in ("", ".", "..") and os.path.basename(name) == name


def _finish(scratch: Path, folder: Path) -> None:
    """The third step. What of it has been taken already is passed over."""
    journal = read_object(scratch / JOURNAL_NAME)
    for name in filter(_is_plain, journal.get("obsolete", ())):
        remove(folder / name)
    for name in filter(_is_plain, journal[FILES_SECTION]):
        with contextlib.suppress(FileNotFoundError):
            put_in_place(scratch / name, folder / name)
    flush_names(folder)
    remove(scratch / JOURNAL_NAME)
    remove(scratch)


def _is_unfinished(scratch: Path, folder: Path) -> bool:
    """Whether the folder's config.json is of the model whose other files the scratch has."""
    try:
        journal = read_object(scratch / JOURNAL_NAME)
        return journal[FILES_SECTION] == read_object(folder / CONFIG_NAME)[FILES_SECTION]
    except (ModelFolderError, KeyError):
        return False


def settle(folder: Path) -> None:
    """Ends what a killed run has begun in a folder, and removes what it has left.

    Comes before a model folder is written to, and before its files are read: after config.json, so
    that they are not of the model before. Where another process is putting a model in place just
    now, its end is waited for.

    Args:
        folder: The model folder; it need not exist.

    Raises:
        ModelFolderError: A new model cannot be put in place.
    """
    for scratch in scratches(folder):
        with abandoned(scratch) as free:
            if free:
                if _is_unfinished(scratch, folder):
                    _finish_or_explain(scratch, folder)
                remove(scratch)
                continue
        end = time.monotonic() + PATIENCE
        while _is_unfinished(scratch, folder) and time.monotonic() < end:
            time.sleep(0.01)


def _finish_or_explain(scratch: Path, folder: Path) -> None:
    try:
        _finish(scratch, folder)
    except OSError as error:
        raise ModelFolderError(
            f"{folder}: a run was killed while it put its model in place, and this command cannot "
            f"end that ({error.strerror or error}): run it as who may write there"
        ) from None
