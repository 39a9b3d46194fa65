"""Records out of a database: one SELECT on an SQLite file, which is only ever read."""

import sqlite3
import urllib.parse
from pathlib import Path
from typing import Any

from ..errors import DataError
from .sources import SCHEME

DATABASE_ENDINGS = {".db", ".sqlite", ".sqlite3"}

MOST_ROWS = 5_000_000
MOST_BYTES = 1 << 26
MOST_INSTRUCTIONS = 10**10
"""Bounds on a query: rows, bytes of one value, and instructions of SQLite's machine (minutes)."""

_INSTRUCTIONS_A_CALL = 1_000_000

_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}


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
    uri = f"file:{urllib.parse.quote(str(path.absolute()))}?mode=ro"
    try:
        connection = sqlite3.connect(uri, uri=True)
    except sqlite3.Error as error:
        raise DataError(f"{source}: cannot be opened: {error}") from None
    refused: list[str] = []
    try:
        return _rows(connection, query, refused)
    except (sqlite3.Error, sqlite3.Warning) as error:
        if refused:
            raise DataError(
                f"{source}: the query does more than SELECT: only that is run"
            ) from None
        if "interrupted" in str(error):
            raise DataError(f"{source}: the query does not end: make it simpler") from None
        raise DataError(f"{source}: the query fails: {error}") from None
    except (ValueError, OverflowError) as error:  # a zero, or half a character, in the query
        raise DataError(f"{source}: the query fails: {error}") from None
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    finally:
        connection.close()


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


def _rows(connection: sqlite3.Connection, query: str, refused: list[str]) -> list[dict[str, Any]]:
    """Runs the query. What it was not allowed to do is added to `refused`."""

    def allow(action: int, first: str | None, second: str | None, *rest: str | None) -> int:
        """Whether a step of the query only reads."""
        reads = action in _ALLOWED
        reads |= action == sqlite3.SQLITE_FUNCTION and second != "load_extension"
        if not reads:
            refused.append(str(action))
        return sqlite3.SQLITE_OK if reads else sqlite3.SQLITE_DENY

    calls = 0

    def count() -> bool:
        """Whether the query has run for too long; Ctrl-C works meanwhile."""
        nonlocal calls
        calls += 1
        return calls > MOST_INSTRUCTIONS // _INSTRUCTIONS_A_CALL

    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
    connection.set_authorizer(allow)
    connection.set_progress_handler(count, _INSTRUCTIONS_A_CALL)
    cursor = connection.execute(query)
    if cursor.description is None:
        raise DataError("the query gives no rows: expected a SELECT")
    names = [column[0] for column in cursor.description]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise DataError(f"the query gives the column {doubled!r:.40} twice: name one with AS")
    rows = cursor.fetchmany(MOST_ROWS + 1)
    if len(rows) > MOST_ROWS:
        raise DataError(f"the query gives more than {MOST_ROWS:,} rows: add a LIMIT")
    return [dict(zip(names, row, strict=True)) for row in rows]
