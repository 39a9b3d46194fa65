"""Records out of a database: one SELECT on an SQLite file, which is only ever read."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import DataError
from . import query_process
from .sources import SCHEME

DATABASE_ENDINGS = {".db", ".sqlite", ".sqlite3"}

MOST_ROWS = 5_000_000
MOST_BYTES = 1 << 26
MOST_TOTAL = 1 << 29
MOST_MEMORY = 1 << 30
MOST_SECONDS = 15
"""Bounds on a query: rows, bytes of one value and of all, and SQLite's own memory and time."""

GRACE = 1
"""Seconds after which the process is ended that has not ended by itself."""

_FAULTS = {
    "no rows": "the query gives no rows: expected a SELECT",
    "refused": "the query does more than SELECT: only that is run",
    "time": "the query does not end in {seconds} seconds: make it simpler",
    "memory": "the query needs more than {memory} GiB of memory: make it simpler",
    "rows": "the query gives more than {rows:,} rows: add a LIMIT",
    "total": "the query gives more than {total} MiB: add a LIMIT, or choose fewer columns",
}
"""What the process says about a query, in words."""


def read_query(source: str, query: str | None) -> list[dict[str, Any]]:
    """Runs a SELECT on an SQLite database, which is opened read-only, whatever the query says.

    Args:
        source: sqlite:///FILE (sqlite:////FILE for an absolute path), or the path of the file.
        query: The SELECT statement.

    Returns:
        The rows, as {column: value}.

    Raises:
        DataError: The database cannot be opened, or the query is missing, fails or does anything
            but read.
    """
    path = _database_file(source)
    if query is None:
        raise DataError(
            f"{source}: is a database: say which rows, with --query "
            '"SELECT question AS instruction, answer AS output FROM ..."'
        )
    uri = f"file:{urllib.parse.quote(os.path.abspath(path))}?mode=ro"
    try:
        return _rows(uri, query)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def _database_file(source: str) -> Path:
    """The SQLite file that is meant. Raises DataError where it is none."""
    found = SCHEME.match(source)
    path = Path(source)
    if found:
        kind = found[1].lower()
        if kind in ("http", "https", "ftp", "s3"):
            raise DataError(f"{source}: is not on this machine: download it, and give the file")
        if kind != "sqlite":
            raise DataError(
                f"{source}: databases of the kind {kind} are not read: save the query's result as "
                "CSV with the database's own program, and give that file"
            )
        rest = source[found.end() :]
        if not rest.startswith("/") or len(rest) < 2:
            raise DataError(f"{source}: expected sqlite:///FILE")
        path = Path(rest[1:])
    if not path.is_file():
        raise DataError(f"{source}: {path}: no such file")
    with open(path, "rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            raise DataError(f"{source}: {path}: is not an SQLite database")
    return path


def _rows(uri: str, query: str) -> list[dict[str, Any]]:
    """Runs the query in a process of its own."""
    question = {
        **{"uri": uri, "query": query, "rows": MOST_ROWS, "value": MOST_BYTES},
        **{"total": MOST_TOTAL, "memory": MOST_MEMORY, "seconds": MOST_SECONDS},
    }
    command = [sys.executable or "python3", "-I", "-S", query_process.__file__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        ended = threading.Timer(MOST_SECONDS + GRACE, process.kill)  # within one instruction
        ended.start()
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(question).encode())
                process.stdin.close()
            return list(_answers(process.stdout))
        except _Ended:
            status = process.wait()
        finally:
            late = ended.finished.is_set()
            ended.cancel()
            process.kill()
    if late or status == -getattr(signal, "SIGXCPU", 0):
        raise _fault("time", "")
    raise DataError(f"the query fails: SQLite ended with status {status}")


class _Ended(Exception):
    """The process ended before its answer did."""


def _answers(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The rows of the process's answer. Raises DataError for a fault that it reports."""
    names: list[str] = []
    for line in lines:
        if not line.endswith(b"\n"):  # it was ended within a row
            break
        found = json.loads(line)
        if isinstance(found, list):
            yield dict(zip(names, map(_cell, found), strict=True))
        elif "names" in found:
            names = found["names"]
            doubled = next((name for name in names if names.count(name) > 1), None)
            if doubled is not None:
                raise DataError(
                    f"the query gives the column {doubled!r:.40} twice: name one with AS"
                )
        elif "fault" in found:
            raise _fault(found["fault"], found.get("text", ""))
        else:
            return
    raise _Ended


def _fault(name: str, text: str) -> DataError:
    if name not in _FAULTS:
        return DataError(f"the query fails: {text}")
    memory, total = MOST_MEMORY >> 30, MOST_TOTAL >> 20
    words = _FAULTS[name].format(rows=MOST_ROWS, seconds=MOST_SECONDS, memory=memory, total=total)
    return DataError(words)


def _cell(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
