"""Records in use: read once, kept beside the model, and read again when a file changes."""

import contextlib
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import RecordsConfig
from ..config.retrieval import RetrievalConfig
from ..errors import MiniGPTError
from ..files.sources import as_source
from ..records.schema import content_of
from ..storage.json_files import read_object, write_json
from ..storage.paths import real_path
from ..storage.replacing import replaced_file
from ..text.chat_template import Message
from .entries import Entries, Entry, read_entries
from .index import Found, Index

KEPT_NAME = "records.json"
"""The file of a model folder with the entries that were read last."""

FORMAT = 1


class Library:
    """Files of records, in which answers are found. Safe to use from several threads.

    Args:
        sources: Files or folders; as for `read_entries`.
        config: How many entries are found, and how well they must fit (unset: the defaults).
        encoding: Of files without a byte order mark.
        folder: A model folder, in which the entries are kept so that the next start need not read
            the files (unset: nowhere).

    Raises:
        DataError: A file cannot be read, or there is nothing in any.

    Example:
        >>> from pathlib import Path
        >>> import minigpt_tf as mg
        >>> _ = Path("faq.csv").write_text("question,answer\\nopening hours,We open at 8:00.\\n")
        >>> library = mg.Library(["faq.csv"])
        >>> [found.entry.text for found in library.find("What are your opening hours?")]
        ['We open at 8:00.']
        >>> library.find("Who wrote Hamlet?")
        []
    """

    def __init__(
        self,
        sources: Sequence[str | os.PathLike],
        config: RetrievalConfig | None = None,
        encoding: str = RecordsConfig.encoding,
        folder: Path | None = None,
    ) -> None:
        self.sources = [as_source(source) for source in sources]
        self.config = config or RetrievalConfig()
        self.notes: list[str] = []
        """What the files hold that cannot be found, and where."""
        self._encoding, self._folder = encoding, folder
        self._lock = threading.Lock()
        self._state: list[Any] = []
        self._index = Index([])
        self._refresh()

    def __len__(self) -> int:
        """The number of entries."""
        return len(self._index.entries)

    def find(self, question: str, before: str = "") -> list[Found]:
        """The entries that answer a question, as the files are now.

        Args:
            question: What a user asks.
            before: What the user asked before, which a question such as "and for part-timers?" is
                about. It counts where the question alone finds nothing.

        Returns:
            The best first; none if the best does not fit as well as `min_score` asks.

        Raises:
            DataError: A file has changed, and cannot be read any more.
        """
        index = self._refresh()
        for asked in (question, f"{before} {question}") if before else (question,):
            found = index.search(asked, self.config.num_entries)
            if found and found[0].answers(self.config.min_score):
                return found
        return []

    def find_for(self, asked: Sequence[Message]) -> list[Found]:
        """The entries that answer the last question of a conversation.

        Args:
            asked: The messages; unless the last is the user's, nothing is looked for.

        Returns:
            As of `find`.

        Raises:
            DataError: As of `find`.
        """
        if not asked or asked[-1]["role"] != "user":
            return []
        *earlier, question = (content_of(item) for item in asked if item["role"] == "user")
        return self.find(question, earlier[-1] if earlier else "")

    def _refresh(self) -> Index:
        """The index, made anew if a file has changed."""
        with self._lock:
            state = [_state(source) for source in self.sources]
            if state != self._state:
                kept = self._kept(state)
                found = kept or read_entries(self.sources, self._encoding)
                self._index, self.notes = Index(found.entries), found.notes
                self._state = state
                if kept is None:
                    self._keep(found)
            return self._index

    def _kept(self, state: list[Any]) -> Entries | None:
        """The entries that were kept, if they are of these files as they are now."""
        if self._folder is None or not (file := self._folder / KEPT_NAME).is_file():
            return None
        try:
            described = read_object(file)
            if described["key"] != self._key(state):
                return None
            entries = [
                Entry(tuple(map(_text, questions)), _text(text), _text(source))
                for questions, text, source in described["entries"]
            ]
            return Entries(entries, list(map(_text, described["notes"])))
        except (MiniGPTError, OSError, KeyError, TypeError, ValueError):  # damaged: it is made anew
            return None

    def _keep(self, found: Entries) -> None:
        """Writes the entries into the model folder; one that cannot be written to goes without."""
        if self._folder is None or not self._folder.is_dir():
            return
        described = {
            "key": self._key(self._state),
            "notes": found.notes,
            "entries": [[list(e.questions), e.text, e.source] for e in found.entries],
        }
        with contextlib.suppress(OSError), replaced_file(self._folder / KEPT_NAME) as scratch:
            write_json(scratch, described)

    def _key(self, state: list[Any]) -> dict[str, Any]:
        """What kept entries must have been made from; as JSON gives it back."""
        key = {"format": FORMAT, "encoding": self._encoding, "sources": state}
        return json.loads(json.dumps(key))


def _state(source: str | Path) -> list[Any]:
    """Path, size and time of change of a file, or of all files in a folder."""
    if isinstance(source, str):  # a URL: read once
        return [source]
    place = real_path(source)
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    states: list[Any] = []
    for file in files:
        with contextlib.suppress(OSError):
            found = file.stat()
            states.append([str(file), found.st_size, found.st_mtime_ns])
    return states


def _text(value: Any) -> str:
    """The value, which must be a text."""
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {value!r:.40}")
    return value
