"""One SELECT in a process of its own, whose memory and time are bounded.

`database` starts this file by its path: it imports the standard library alone. Standard input has
the question as a JSON object; each line of standard output is an answer: {"names": [...]}, then the
cells of a row as a list (bytes as {"hex": ...}), in the end {"end": true} or {"fault": ...}.
"""

import contextlib
import json
import sqlite3
import sys
import time
from typing import Any

ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}

INSTRUCTIONS_A_CALL = 100_000
"""Of SQLite's machine, between two looks at the time."""

OBJECT_BYTES = 56
"""What Python takes for a cell beside its content, and for each name of a row."""


def limit(memory: int, seconds: int) -> None:
    """Bounds this process, where the system can.

    Args:
        memory: Bytes.
        seconds: Of the processor.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def answer(question: dict[str, Any]) -> None:
    """Runs the query and writes its rows.

    Args:
        question: "uri" and "query", and the bounds "rows", "value", "total", "memory", "seconds".

    Raises:
        sqlite3.Error: The query fails, or does more than to read.
        ValueError: The query is not text that SQLite takes.
    """
    connection = sqlite3.connect(question["uri"], uri=True)
    connection.execute("PRAGMA temp_store = MEMORY")  # what it sorts is bounded by the memory
    refused = []
    end = time.monotonic() + question["seconds"]

    def allow(action: int, first: str | None, second: str | None, *rest: str | None) -> int:
        """Whether a step of the query only reads."""
        reads = action in ALLOWED
        reads |= action == sqlite3.SQLITE_FUNCTION and second != "load_extension"
        if not reads:
            refused.append(action)
        return sqlite3.SQLITE_OK if reads else sqlite3.SQLITE_DENY

    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, question["value"])
    connection.set_authorizer(allow)
    connection.set_progress_handler(lambda: time.monotonic() > end, INSTRUCTIONS_A_CALL)
    try:
        write_rows(connection.execute(question["query"]), question)
    except sqlite3.Error as error:
        if not refused:
            raise
        write({"fault": "refused", "text": str(error)})


def write_rows(cursor: sqlite3.Cursor, question: dict[str, Any]) -> None:
    """Writes the names and the rows, as far as the bounds allow.

    Args:
        cursor: Of the query.
        question: As `answer` has it.
    """
    if cursor.description is None:
        write({"fault": "no rows"})
        return
    names = [column[0] for column in cursor.description]
    write({"names": names})
    total, end = 0, time.monotonic() + question["seconds"]
    for count, row in enumerate(cursor, start=1):
        total += sum(OBJECT_BYTES + (len(c) if isinstance(c, str | bytes) else 0) for c in row)
        total += OBJECT_BYTES * len(names)
        if count > question["rows"] or total > question["total"]:
            write({"fault": "rows" if count > question["rows"] else "total"})
            return
        if time.monotonic() > end:
            write({"fault": "time"})
            return
        write([{"hex": c.hex()} if isinstance(c, bytes) else c for c in row])
    write({"end": True})


def write(value: Any) -> None:
    """Writes one line of the answer.

    Args:
        value: What JSON can express.
    """
    print(json.dumps(value))


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    limit(asked["memory"], asked["seconds"] + 1)
    try:
        answer(asked)
    except (MemoryError, sqlite3.Error, sqlite3.Warning, ValueError) as error:
        memory = isinstance(error, MemoryError) or "out of memory" in str(error)
        late = "interrupted" in str(error)
        write({"fault": "memory" if memory else "time" if late else "query", "text": str(error)})
