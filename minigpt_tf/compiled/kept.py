"""Machine code in files, for the next start.

A file has a name of its format, the SHA-256 of the rest, a line of JSON and an image. It is used if
it is whole, and if the JSON says what the caller wants: the same function with the same code, the
same kinds of arguments, processor and versions. All else is compiled again.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .machine_code import Image

_FORMAT = 1
_MAGIC = b"minigpt code\0\0\0\0"
SUFFIX = ".machine-code"
_OF_THE_MODEL = (b"vendor_id", b"cpu family", b"model", b"stepping", b"flags")
"""Lines of /proc/cpuinfo that say what the processor can do."""
_SETTINGS = ("NUMBA_CACHE_DIR",)
"""Variables of Numba's that do not change the code."""

Wanted = dict[str, Any]
"""Plain data: what a file must have been made for."""


@functools.cache
def environment() -> Wanted:
    """What machine code depends on besides its function: processor, versions and settings.

    Returns:
        Plain data.
    """
    libraries = (_version_file(name) for name in ("numba", "llvmlite"))
    settings = {k: v for k, v in os.environ.items() if k.startswith("NUMBA_")}
    return {
        "format": _FORMAT,
        "python": sys.implementation.cache_tag,
        "processor": _processor(),
        "libraries": [_digest(path) for path in libraries],
        "settings": {k: v for k, v in sorted(settings.items()) if k not in _SETTINGS},
    }


def _version_file(library: str) -> Path:
    """The file with the version of a library, which is not imported."""
    found = importlib.util.find_spec(library)
    return Path(found.origin).with_name("_version.py") if found and found.origin else Path()


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _processor() -> str:
    """A hash of the processor's model and features, as Linux shows those of the first core."""
    with open("/proc/cpuinfo", "rb") as file:
        lines = file.read(8192).partition(b"\n\n")[0].splitlines()
    return hashlib.sha256(b"\n".join(x for x in lines if x.startswith(_OF_THE_MODEL))).hexdigest()


def folders(source: str) -> Iterator[Path]:
    """Where the machine code of a file's functions may be, the first one best.

    Args:
        source: The Python file.

    Yields:
        Folders, which need not exist.
    """
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        yield Path(chosen) / "minigpt_tf"
        return
    yield Path(source).with_name("__pycache__")
    base = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache"))
    yield home / "minigpt_tf-machine-code"


def file_name(module: str, function: str, wanted: Wanted) -> str:
    """The name of a function's file. New code of the function comes in the place of the old.

    Args:
        module: Of the function.
        function: Its name.
        wanted: What the file is made for.

    Returns:
        The name, without a folder.
    """
    lasting = json.dumps({key: value for key, value in wanted.items() if key != "origin"})
    digest = hashlib.sha256(lasting.encode()).hexdigest()
    return f"{module.rpartition('.')[2]}.{function}-{digest[:16]}{SUFFIX}"


def read(source: str, name: str, wanted: Wanted) -> Image | None:
    """Machine code that an earlier process has written.

    Args:
        source: The Python file of the function.
        name: Of the file.
        wanted: What it must be made for.

    Returns:
        The image; None if absent, damaged, or made for something else.
    """
    for folder in folders(source):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if _is_safe(folder) and (image := _read(folder / name, wanted)) is not None:
                return image
    return None


def _is_safe(folder: Path) -> bool:
    """Whether nobody but the user, who installed the package and the administrator write here."""
    state = folder.stat()
    owners = {0, os.geteuid(), os.stat(__file__).st_uid}
    return state.st_uid in owners and not state.st_mode & 0o002


def _read(path: Path, wanted: Wanted) -> Image | None:
    content = path.read_bytes()
    start = len(_MAGIC) + hashlib.sha256().digest_size
    head, rest = content[:start], content[start:]
    if head != _head(rest):
        return None
    line, _, code = rest.partition(b"\n")
    header = json.loads(line)
    if header["wanted"] != wanted:
        return None
    places = header["image"]
    places["external"] = [(place, name) for place, name in places["external"]]
    return Image(code, **places)


def _head(rest: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(rest).digest()


def write(source: str, name: str, wanted: Wanted, image: Image) -> None:
    """Writes machine code where the next process finds it; does nothing if no folder is writable.

    Args:
        source: As for `read`.
        name: As for `read`.
        wanted: As for `read`.
        image: The code.
    """
    places = {key: value for key, value in asdict(image).items() if key != "content"}
    rest = json.dumps({"wanted": wanted, "image": places}).encode() + b"\n" + image.content
    for folder in folders(source):
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_safe(folder):
                _replace(folder / name, _head(rest) + rest)
                return


def writable_folder(source: str) -> Path | None:
    """Where `write` writes.

    Args:
        source: As there.

    Returns:
        The folder, which need not exist yet; None if it can write nowhere.
    """
    for folder in folders(source):
        existing = next(level for level in (folder, *folder.parents) if level.exists())
        if os.access(existing, os.W_OK) and (existing != folder or _is_safe(folder)):
            return folder
    return None


def _replace(path: Path, content: bytes) -> None:
    """Writes a file under another name, and renames it: others see none, the old or the new one."""
    import tempfile

    handle, scratch = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except OSError:
        os.unlink(scratch)
        raise
