"""Files that may come from anyone, read only if they are files, and not beyond a size."""

import os
import stat
from pathlib import Path

from ..errors import ModelFolderError
from .paths import real_path

LARGEST_TEXT = 2**28
"""Bytes of a file that is read as a whole: a tokenizer's or a configuration's."""


def check_regular(path: str | Path) -> None:
    """Checks that a path is a file: to open a FIFO, or to read a device, may never end.

    Args:
        path: Of a file or of a link to one.

    Raises:
        ModelFolderError: It is something else, or cannot be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ModelFolderError(f"{path}: cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise ModelFolderError(f"{path}: is not a regular file")


def read_regular(path: str | Path, largest: int = LARGEST_TEXT) -> bytes:
    """Reads a whole file.

    Args:
        path: The file.
        largest: Its size in bytes, at most.

    Returns:
        Its content.

    Raises:
        ModelFolderError: It is not a regular file, is larger, or cannot be read.
    """
    check_regular(path)
    try:
        with open(path, "rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise ModelFolderError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > largest:
        raise ModelFolderError(f"{path}: is larger than the {largest >> 20} MiB that are read")
    return content


def lies_within(file: Path, folder: Path) -> bool:
    """Whether a file of a folder is not a link that leads out of it.

    A link of a stranger's folder may lead to a private file, which is then not to be copied. In the
    cache of Hugging Face's hub the files lie in blobs/, beside the folders of links to them.

    Args:
        file: The file.
        folder: What it was found in.

    Returns:
        Whether its content may be taken for the folder's.
    """
    target, home = real_path(file), real_path(folder)
    blobs = home.parent.parent / "blobs"
    in_cache = home.parent.name == "snapshots" and target.parent == blobs
    return in_cache or home in target.parents
