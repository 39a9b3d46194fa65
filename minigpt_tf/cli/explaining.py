"""Whatever ends a verb becomes one line for people and a status for scripts.

This is the last line of defense: what a person can mend is named where it is found, as a kind of
MiniGPTError. What arrives here as another kind has been foreseen by no one.
"""

import re
import sys
import traceback
from collections.abc import Sequence

from ..errors import MiniGPTError
from ..terminal import printable

EXPLAINED = 2
"""Status of an error that a person can mend."""

FAULT = 70
"""Status of a fault of this package (EX_SOFTWARE of sysexits.h)."""

LONGEST = 1_000
"""Characters of a message that are shown."""

LONGEST_FOREIGN = 300
"""Characters of another library's message that are shown: TensorFlow writes pages."""

OUR_NAME = __package__.partition(".")[0]

TOO_LITTLE_MEMORY = re.compile(
    "bad_alloc|can't start new thread|[Oo]ut of memory|ResourceExhausted|failed to map segment|"
    "annot allocate memory"
)
"""How libraries that know no MemoryError say that there is none."""


def explain(error: BaseException, words: Sequence[str]) -> tuple[str, int]:
    """The line and the exit status for what ended a verb.

    Args:
        error: What was raised.
        words: The command line, for the report of a fault.

    Returns:
        A line without control characters, and 2 for what a person can mend or 70 for a fault of
        this package, whose traceback is in a file that the line names.
    """
    line = _line(error)
    if line is not None:
        return one_line_of(line), EXPLAINED
    name = type(error).__name__
    message = f"{name}: {_short(error)}" if str(error) else name
    file = _report(error, words)
    where = f"with the file {file}" if file else "with what --debug shows"
    return one_line_of(f"unexpected {message}. This is a fault of {OUR_NAME}: report it {where}"), (
        FAULT
    )


def one_line_of(message: str) -> str:
    """A message in one line that cannot steer a terminal.

    Args:
        message: Any text, which may quote a file.

    Returns:
        The line, of at most `LONGEST` characters.
    """
    line = printable(" ".join(_decoded(message[: 4 * LONGEST]).split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _decoded(text: str) -> str:
    """A text with the names of files as they are, where LANG=C has left their bytes undecoded."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character of another kind
        return text


def _line(error: BaseException) -> str | None:
    """What is wrong, if a person can mend it; None for a fault of this package."""
    if isinstance(error, MiniGPTError):
        return str(error)
    said = f"{type(error).__name__}: {str(error)[:LONGEST]}"
    if isinstance(error, MemoryError) or TOO_LITTLE_MEMORY.search(said):
        found = re.search(r"Unable to allocate ([\d.]+ \w+)", said)  # NumPy's words
        more = f": {found[1]} more would be needed" if found else ""
        return f"there is not enough memory for this{more}"
    module = _being_imported(error)
    if module is not None:
        return f"{module} cannot be imported ({_short(error)}): install it again with pip"
    if isinstance(error, OSError):
        if not error.strerror:
            return str(error) or type(error).__name__
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, RecursionError):
        return "something that was read is nested too deeply (--debug shows where)"
    if type(error).__module__.startswith("tensorflow") and _is_of_files(error):
        return _short(error)
    return None


def _being_imported(error: BaseException) -> str | None:
    """The library whose import has failed, however it failed."""
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = frame.f_globals.get("__name__", "").partition(".")[0]
        if frame.f_code.co_name == "<module>" and name not in (OUR_NAME, "__main__"):
            found = name
    if isinstance(error, ImportError):
        missing = (error.name or "").partition(".")[0]
        found = missing if missing not in ("", OUR_NAME) else found
    return found or None


def _is_of_files(error: BaseException) -> bool:
    """Whether TensorFlow could not do something with a file or a host."""
    kinds = {"NotFoundError", "PermissionDeniedError", "UnavailableError", "DataLossError"}
    return type(error).__name__ in kinds


def _short(error: BaseException) -> str:
    """The first line of another library's message."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else ""
    return first if len(first) <= LONGEST_FOREIGN else f"{first[: LONGEST_FOREIGN - 1]}…"


def _report(error: BaseException, words: Sequence[str]) -> str | None:
    """Writes what is needed to find a fault; the file's name, None where it cannot be written."""
    import platform
    import tempfile

    from .. import __version__

    lines = [
        f"{OUR_NAME} {__version__}, Python {platform.python_version()}, {platform.platform()}\n",
        f"command: {' '.join(map(ascii, words))}\n\n",
        *traceback.format_exception(error),
    ]
    for name in ("numpy", "keras", "tensorflow"):
        if name in sys.modules:
            lines[0] += f"{name} {getattr(sys.modules[name], '__version__', '?')}\n"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="minigpt-fault-", suffix=".txt", encoding="utf-8", errors="replace",
            delete=False,
        ) as file:  # fmt: skip
            file.write("".join(lines))
    except OSError:
        return None
    return file.name
