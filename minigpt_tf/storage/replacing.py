"""Files and folders that are replaced as one, their hashes, and a lock of a folder.

Every file is written under another name first and then renamed, so a reader never sees half a file
and a full disk leaves the old one in place.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..config import CONFIG_NAME, MODEL_NAME
from ..errors import ModelFolderError

SCRATCH_PREFIX = ".saving-"
LAST_REPLACED = {MODEL_NAME, CONFIG_NAME}


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


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A scratch folder inside `folder`, whose files replace those of `folder` after the block.

    A folder in it replaces the whole folder of that name. Where the block raises, nothing in
    `folder` has changed. Raises ModelFolderError where the disk is full or not writable.
    """
    import shutil  # here and below: a start that only reads a model does without
    import tempfile

    scratch = None
    try:
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=folder))
        yield scratch
        # The model and its description last: until then the old ones stand, and belong together.
        files = sorted(scratch.iterdir(), key=lambda file: (file.name in LAST_REPLACED, file.name))
        for file in files:
            _flush_to_disk(file)
            if (folder / file.name).is_dir() and not file.is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{file.name} is a folder there")
        for file in files:
            if file.is_dir() and (folder / file.name).exists():
                os.rename(folder / file.name, scratch / f"{file.name}.old")
            os.replace(file, folder / file.name)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelFolderError(
            f"{folder}: saving failed ({reason}); the model that was there is unchanged"
        ) from None
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


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


def _flush_to_disk(file: Path) -> None:
    """Waits until a file, or every file of a folder, has left the system's memory."""
    if file.is_dir():
        for part in file.iterdir():
            _flush_to_disk(part)
        return
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())


@contextmanager
def replaced_file(file: Path) -> Iterator[Path]:
    """A scratch file beside `file`, which it replaces after the block; if that raises, it is gone.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    import tempfile

    descriptor, name = tempfile.mkstemp(prefix=SCRATCH_PREFIX, suffix=file.suffix, dir=file.parent)
    os.close(descriptor)
    scratch = Path(name)
    try:
        yield scratch
        _flush_to_disk(scratch)
        scratch.chmod(0o666 & ~_mask())  # a temporary file has its owner's permissions alone
        os.replace(scratch, file)
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
