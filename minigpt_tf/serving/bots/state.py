"""What a bot remembers over a restart, in an SQLite file: what was answered, and by whom."""

import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from ...errors import ConfigError
from ..clients.client import Message

DAYS_KEPT = 30
"""Messages that were answered are remembered so long; messengers repeat them for days."""

TABLES = """
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS chats (chat TEXT PRIMARY KEY, model TEXT, messages TEXT);
"""


class BotState:
    """The file of a bot.

    Args:
        path: The file; made if absent.

    Raises:
        ConfigError: It cannot be written, or is something else.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            self._file = sqlite3.connect(path, isolation_level=None, timeout=10)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.executescript(TABLES)
            self._file.execute("DELETE FROM seen WHERE at < ?", [time.time() - DAYS_KEPT * 86400])
        except sqlite3.Error as error:
            raise ConfigError(f"{path}: not usable as the bot's state: {error}") from None

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def is_new(self, message_id: str) -> bool:
        """Notes a message down, before it is answered: an answer is never repeated.

        Args:
            message_id: The messenger's id of it.

        Returns:
            False if it was noted down before, also by another process.
        """
        command = "INSERT OR IGNORE INTO seen VALUES (?, ?)"
        return self._file.execute(command, [message_id, time.time()]).rowcount == 1

    def chat(self, chat: str) -> tuple[str | None, list[Message]]:
        """What is kept of a chat.

        Args:
            chat: Its id.

        Returns:
            The model that was chosen, or None, and the messages.
        """
        command = "SELECT model, messages FROM chats WHERE chat = ?"
        row = self._file.execute(command, [chat]).fetchone()
        return (row[0], json.loads(row[1] or "[]")) if row else (None, [])

    def keep_chat(self, chat: str, model: str | None, messages: Sequence[Message]) -> None:
        """Keeps a chat.

        Args:
            chat: Its id.
            model: The model that was chosen, or None.
            messages: The conversation.
        """
        command = "INSERT OR REPLACE INTO chats VALUES (?, ?, ?)"
        self._file.execute(command, [chat, model, json.dumps(list(messages))])
