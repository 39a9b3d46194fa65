"""Files and folders that are replaced as one, their hashes, and a lock of a folder.

Every file is written under another name first and then renamed, so a reader never sees half a file
and a full disk leaves the old one in place. What replaces something has reached the disk before.
"""

import contextlib
import errno
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..config import CONFIG_NAME
from ..errors import ModelFolderError
from .paths import real_path
from .scratch import remove, scratch_file, scratch_folder, sweep


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Locks the folder itself: there is no file to be left behind, or to be removed too early.

    The lock goes with the process, however that ends. Not guarded are systems without `fcntl`, and
    file systems that lock no folders.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelFolderError(
                f"{path}: another run is writing to it: wait for its end, or choose another --out"
            ) from None
        except OSError:  # some network file systems
            pass
        yield
    finally:
        os.close(folder)


@contextmanager
def removed_if_empty(out: Path) -> Iterator[None]:
    """Takes a folder away that did not exist before and in which nothing was written."""
    existed = out.exists()
    try:
        yield
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                out.rmdir()


JOURNAL_NAME = "journal.json"
"""In a scratch folder whose config.json has been put in place, and whose other files follow."""


@contextmanager
def staging(folder: Path, put: Callable[[Path, Path], None] | None = None) -> Iterator[Path]:
    """A scratch folder inside `folder`, whose files replace those of `folder` after the block.

    A folder in it replaces the whole folder of that name. Where the block raises, nothing in
    `folder` has changed.

    Args:
        folder: Whose files are replaced.
        put: Puts the scratch folder's files into place, once they are on the disk (unset: one after
            the other).

    Yields:
        The scratch folder.

    Raises:
        ModelFolderError: The disk is full or not writable.
    """
    try:
        sweep(folder)
        with scratch_folder(folder) as scratch:
            try:
                yield scratch
                for file in scratch.iterdir():
                    flush(file)
                    if (folder / file.name).is_dir() and not file.is_dir():
                        raise IsADirectoryError(errno.EISDIR, f"{file.name} is a folder there")
                (put or _put_each)(scratch, folder)
            finally:
                has_begun = (scratch / JOURNAL_NAME).exists()
                if not has_begun or (scratch / CONFIG_NAME).exists():
                    remove(scratch)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelFolderError(
            f"{folder}: saving failed ({reason}); the model that was there is unchanged"
        ) from None


def _put_each(scratch: Path, folder: Path) -> None:
    """Puts files into place that need not change together."""
    for file in sorted(scratch.iterdir()):
        put_in_place(file, folder / file.name)
    flush_names(folder)


def put_in_place(scratch: Path, target: Path) -> None:
    """Gives a file or folder its name; what had it is gone, or has the scratch's name.

    Args:
        scratch: The file or folder, on the disk of the target.
        target: Its name.

    Raises:
        OSError: It cannot be renamed.
    """
    if scratch.is_dir() and target.exists():
        exchange(scratch, target)
    else:
        os.replace(scratch, target)


def exchange(one: Path, other: Path) -> None:
    """Exchanges two files or folders: at every moment both names lead to one of them.

    Systems without such a call take three steps, between which `other` is missing for a moment.

    Args:
        one: A file or folder.
        other: Another one, on the same disk.

    Raises:
        OSError: They lie on different disks, or may not be renamed.
    """
    if _exchange_by_system(one, other):
        return
    aside = one.with_name(f"{one.name}.old")
    os.rename(other, aside)
    try:
        os.rename(one, other)
    except OSError:
        os.rename(aside, other)
        raise
    os.rename(aside, one)


_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2
"""Linux's and macOS's constants: fcntl.h, linux/fs.h, sys/stdio.h."""


def _exchange_by_system(one: Path, other: Path) -> bool:
    """Whether the system could exchange them at once."""
    if sys.platform not in ("linux", "darwin"):
        return False
    import ctypes

    library = ctypes.CDLL(None)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        failed = library.renameat2(
            _AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAME_EXCHANGE)
        )
        return not failed
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return not library.renamex_np(*names, ctypes.c_uint(_RENAME_SWAP))
    return False


@contextmanager
def replaced_folder(folder: Path, dropped: Callable[[str], bool]) -> Iterator[Path]:
    """A scratch folder beside `folder`, with which it is exchanged after the block.

    For folders that other tools read, who know nothing of a half-finished one. What else lies in
    the old folder is taken over. A folder that cannot be exchanged, such as the root of a disk, has
    no config.json while its files are replaced one by one.

    Args:
        folder: The folder, which exists.
        dropped: Of the name of an old file without a successor: whether it goes.

    Yields:
        The scratch folder.

    Raises:
        ModelFolderError: The disk is full or not writable; the old folder is unchanged.
    """
    folder = real_path(folder)
    exchangeable = not os.path.ismount(folder) and os.access(folder.parent, os.W_OK)

    def put(scratch: Path, parent: Path) -> None:
        others = [old for old in folder.iterdir() if not (scratch / old.name).exists()]
        others = [old for old in others if not dropped(old.name)]
        if not exchangeable:
            _put_config_last(scratch, folder, {old.name for old in others})
            return
        for old in others:
            _link(old, scratch / old.name)
        scratch.chmod(0o777 & ~_mask())
        exchange(scratch, folder)
        flush_names(parent)

    with staging(folder.parent if exchangeable else folder, put) as scratch:
        yield scratch


def _put_config_last(scratch: Path, folder: Path, kept: set[str]) -> None:
    """Replaces the files of a folder, which is not a model until config.json is back."""
    (folder / CONFIG_NAME).unlink(missing_ok=True)
    flush_names(folder)
    names = {file.name for file in scratch.iterdir()}
    for old in folder.iterdir():
        if old != scratch and old.name not in names | kept:
            remove(old)
    for name in sorted(names, key=lambda name: (name == CONFIG_NAME, name)):
        put_in_place(scratch / name, folder / name)
        flush_names(folder)


def _link(old: Path, new: Path) -> None:
    """A second name for a file, or for each file of a folder; a copy where there can be none."""
    import shutil

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:
            shutil.copy2(source, target, follow_symlinks=False)

    if old.is_dir() and not old.is_symlink():
        shutil.copytree(old, new, symlinks=True, copy_function=link)
    else:
        link(str(old), str(new))


def reserve_space(folder: Path, size: int) -> None:
    """Checks that the disk has room, before large files are written.

    On a full disk HDF5 crashes the interpreter, and zip files complain once more when they are
    collected.

    Args:
        folder: An existing folder on the disk.
        size: Bytes to be written.

    Raises:
        OSError: They do not fit on the disk.
    """
    import shutil
    import tempfile

    if hasattr(os, "posix_fallocate"):  # sees quotas and limits too
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
    elif shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def flush(file: Path) -> None:
    """Waits until a file, or a folder with every file in it, has left the system's memory."""
    if file.is_dir():
        for part in file.iterdir():
            flush(part)
        flush_names(file)
        return
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())


def flush_names(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def replaced_file(file: Path) -> Iterator[Path]:
    """A scratch file beside `file`, which it replaces after the block; if that raises, it is gone.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    sweep(file.parent)
    with scratch_file(file.parent, file.suffix) as scratch:
        try:
            yield scratch
            flush(scratch)
            scratch.chmod(0o666 & ~_mask())  # a temporary file has its owner's permissions alone
            os.replace(scratch, file)
            flush_names(file.parent)
        finally:
            scratch.unlink(missing_ok=True)


def _mask() -> int:
    """The permissions that new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256_of(file: Path) -> str:
    """SHA-256 of a file in hexadecimal, read in chunks. Raises OSError."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
