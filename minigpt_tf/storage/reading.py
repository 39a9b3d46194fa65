"""Why a file cannot be read: no permission, too little memory, or damage. They are told apart."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import MiniGPTError, ModelFolderError
from .regular import check_regular

LARGEST_HEADER = 1 << 25
"""Bytes of JSON that describe the tensors of a file: of some 100,000 tensors."""

_NO_MEMORY = "bad_alloc|annot allocate memory|os error 12|ResourceExh"
_SYSTEM_ERROR = r"\(os error (\d+)\)"
"""How libraries in other languages write them; compiled when there is an error."""


def why_unreadable(where: object, error: BaseException, damaged: str) -> str:
    """One line for what a library raised while it read a file.

    Args:
        where: The file.
        error: What was raised.
        damaged: What to say where the file itself is at fault, such as "is damaged".

    Returns:
        The file, and why it cannot be read.

    Example:
        >>> print(why_unreadable("m.h5", PermissionError(13, "Permission denied"), "is damaged"))
        m.h5: cannot be read: Permission denied
        >>> print(why_unreadable("m.h5", MemoryError(), "is damaged"))
        m.h5: there is not enough memory to read it
        >>> print(why_unreadable("m.h5", KeyError("layers"), "is damaged"))
        m.h5: is damaged ('layers')
    """
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or re.search(_NO_MEMORY, f"{type(error).__name__} {text}"):
        return f"{where}: there is not enough memory to read it"
    found = re.search(_SYSTEM_ERROR, text)
    number = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
    if number is not None:
        return f"{where}: cannot be read: {os.strerror(number)}"
    return f"{where}: {damaged} ({text or type(error).__name__:.120})"


@contextmanager
def open_safetensors(file: Path, what: str) -> Iterator[Any]:
    """Opens a file of tensors, whose header the library checks against the file's size.

    Args:
        file: The file.
        what: What it should be, such as "a classifier's head".

    Yields:
        What `safetensors.safe_open` gives.

    Raises:
        ModelFolderError: It cannot be read or is damaged; also where that shows while it is open.
    """
    import safetensors

    check_regular(file)
    try:
        with open(file, "rb") as stream:
            if int.from_bytes(stream.read(8), "little") > LARGEST_HEADER:
                raise ValueError("its header is longer than it says, or than any is")
        with safetensors.safe_open(file, "numpy") as archive:
            yield archive
    except MiniGPTError:
        raise
    except Exception as error:  # the library's own kind, and what JSON in the metadata raises
        damaged = f"is damaged or not {what}"
        raise ModelFolderError(why_unreadable(file, error, damaged)) from None
