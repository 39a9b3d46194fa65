"""Files and folders -> documents, each a text that is read in chunks and never held as a whole.

`read_documents` reads everything once: what cannot be read is known before anything is trained.
"""

import codecs
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import CHECKPOINT_NAME, CONFIG_NAME, MODEL_NAME, RUN_NAME, DataConfig
from ..errors import DataError, MiniGPTError
from ..events import SILENT, Listener
from .decoding import BLOCK, tidy
from .notes import Notes
from .readers import PLAIN, READERS
from .sources import as_source
from .twins import Twins

if TYPE_CHECKING:  # most texts need no network
    from .download import Download

Chunks = Callable[[], Iterator[str]]
"""Gives a text from its start, in chunks of about BLOCK characters."""


@dataclass(frozen=True)
class Document:
    """The text of one file, with line ends as \\n."""

    path: Path | str
    """The file, or its URL."""
    characters: int
    digest: bytes
    """SHA-256 of the text in UTF-8."""
    read: Chunks
    notes: tuple[str, ...] = ()
    """What was left out of the file, or taken for something else."""

    def chunks(self) -> Iterator[str]:
        """The text in chunks. Raises DataError where it is no longer what it was at first."""
        digest = hashlib.sha256()
        for text in self.read():
            digest.update(text.encode())
            yield text
        if digest.digest() != self.digest:
            raise DataError(f"{self.path}: has changed while it was read: start again")

    @property
    def text(self) -> str:
        """All of the text, for who knows that it is short."""
        return "".join(self.chunks())


@dataclass
class Documents:
    """The documents that were read, and (path, reason) for every file that was passed over."""

    documents: list[Document] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    twins: str = ""
    """Letters that are written in two ways, which a tokenizer takes for different ones."""

    @property
    def notes(self) -> list[tuple[Path | str, str]]:
        """(path, note) for what was left out of files, or taken for something else."""
        return [(d.path, note) for d in self.documents for note in d.notes]

    @property
    def texts(self) -> list[str]:
        """All texts, for who knows that they are short."""
        return [document.text for document in self.documents]


def scan(
    path: Path | str,
    read: Chunks,
    meter: "_Meter | None" = None,
    notes: Notes | None = None,
    twins: Twins | None = None,
) -> Document:
    """Reads a text once and describes it.

    Args:
        path: The name of its file in errors.
        read: Gives the text from its start.
        meter: Counts what has been read.
        notes: What `read` has to say of the text the first time.
        twins: Looks for letters that are written in two ways.

    Returns:
        The document.

    Raises:
        DataError: It contains no text.
    """
    characters, blank = 0, True
    digest = hashlib.sha256()
    for text in read():
        content = text.encode()
        digest.update(content)
        characters += len(text)
        blank = blank and not text.strip()
        if meter is not None:
            meter.add(len(content))
        if twins is not None and len(content) > len(text):
            twins.add(text)
    about = notes.lines() if notes is not None else ()
    if blank:
        raise DataError("; ".join([f"{path}: contains no text", *about]))
    return Document(path, characters, digest.digest(), read, about)


def read_documents(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    encoding: str = DataConfig.encoding,
    listener: Listener = SILENT,
) -> Documents:
    """Reads files, folders with all they hold, in alphabetical order, and http(s) URLs.

    Args:
        paths: Where the texts are. A file that is named must be readable; a file met in a folder
            that is not is listed in `skipped`. A download is kept in the cache folder.
        encoding: Of texts without a byte order mark.
        listener: Gets how much has been read, and the places of downloads.

    Returns:
        The documents, read once, and which files were passed over.

    Raises:
        DataError: Something named cannot be read, or nothing at all was readable.

    Example:
        >>> from pathlib import Path
        >>> import minigpt_tf as mg
        >>> _ = Path("a.txt").write_text("he was a genius")
        >>> mg.read_documents("a.txt").texts
        ['he was a genius']
    """
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    result = Documents()
    files: list[tuple[Path | Download, bool]] = []  # and whether the caller has named it
    for path in map(as_source, paths):
        if isinstance(path, str):
            from .download import download

            files.append((download(path, listener), True))
        elif path.is_dir():
            files += [(file, False) for file in _files_in(path, result)]
        elif path.exists():
            files.append((path, True))
        else:
            raise DataError(f"{path}: {_missing(path)}")
    meter = _Meter(listener, [_place_of(file) for file, _ in files])
    spool, twins = _Spool(), Twins()
    for file, named in files:
        try:
            result.documents.append(read_document(file, encoding, spool, meter, twins))
        except DataError as error:
            if named or not isinstance(file, Path):
                raise
            result.skipped.append((file, str(error).removeprefix(f"{file}: ")))
    result.twins = twins.said()
    if not result.documents:
        places = ", ".join(map(str, paths))
        reasons = "; ".join(f"{path}: {reason}" for path, reason in result.skipped[:5])
        known = " ".join(READERS)
        raise DataError(f"{places}: no text found (readable: {known}). {reasons}".rstrip())
    return result


def _missing(path: Path) -> str:
    """The error for a path where nothing is."""
    if path.parts and path.parts[0] in ("http:", "https:"):
        url = str(path).replace(":/", "://", 1)
        return f"is a URL that lost a slash, as in a Path: give {url!r}, as text"
    return "no such file or folder"


def _place_of(file: "Path | Download") -> Path:
    return file if isinstance(file, Path) else file.path


class _Meter:
    """Reports how much of some files has been read."""

    def __init__(self, listener: Listener, files: list[Path]) -> None:
        self.listener, self.done = listener, 0
        self.total = sum(file.stat().st_size for file in files if file.is_file())

    def add(self, size: int) -> None:
        """So many bytes more; as UTF-8, a text may be longer than its file."""
        self.done = min(self.done + size, self.total)
        self.listener.preparation("reading the text", self.done, self.total)


def _files_in(folder: Path, result: Documents) -> Iterator[Path]:
    """All files below a folder but for hidden ones, which nobody meant to be read."""

    def unreadable(error: OSError) -> None:
        result.skipped.append((Path(error.filename), f"cannot be read: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        here = Path(place)
        if _is_model_folder(here):
            result.skipped.append((here, "is a model folder"))
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from sorted(here / name for name in files if not name.startswith("."))


def _is_model_folder(folder: Path) -> bool:
    model = (folder / MODEL_NAME).exists() and (folder / CONFIG_NAME).exists()
    return model or (folder / CHECKPOINT_NAME / RUN_NAME).exists()


def read_document(
    file: "Path | Download",
    encoding: str = DataConfig.encoding,
    spool: "_Spool | None" = None,
    meter: "_Meter | None" = None,
    twins: Twins | None = None,
) -> Document:
    """Reads the document in one file.

    Args:
        file: The file, or what a URL has become.
        encoding: Of a text without a byte order mark.
        spool: Keeps texts that took work to get out of their files.
        meter: Counts what has been read.
        twins: Looks for letters that are written in two ways.

    Returns:
        The document.

    Raises:
        DataError: Unsupported format, unreadable, empty, wrong encoding.
    """
    path = _place_of(file)
    name: Path | str = path
    ending = path.suffix.lower()
    if not isinstance(file, Path):
        name = file.url
        if file.encoding is not None and encoding == DataConfig.encoding:
            encoding = file.encoding
    if ending not in READERS:
        kind = f"files ending in {path.suffix}" if path.suffix else "files without an ending"
        raise DataError(f"{name}: {kind} are not read (readable: {' '.join(READERS)})")
    if not path.is_file():
        raise DataError(f"{name}: is not a regular file")

    def chunks(notes: Notes) -> Iterator[str]:
        """The text of the file. Raises DataError that names it."""
        try:
            with open(path, "rb") as content:
                yield from tidy(READERS[ending](content, encoding, notes))
        except OSError as error:
            raise DataError(f"{name}: cannot be read: {error.strerror}") from None
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        except (ValueError, AssertionError, RecursionError) as error:  # parsers, on damage
            raise DataError(f"{name}: is damaged: {error}") from None

    notes = Notes()  # of the first reading: a text that is read again is not noted twice
    if ending in PLAIN:
        first = iter([notes])
        return scan(name, lambda: chunks(next(first, Notes())), meter, notes, twins)
    return scan(name, (spool or _Spool()).store(chunks(notes)), meter, notes, twins)


class _Spool:
    """Texts that took work to get out of their files, in one temporary file."""

    IN_MEMORY = 1 << 20

    def __init__(self) -> None:
        self.file = tempfile.SpooledTemporaryFile(self.IN_MEMORY)  # noqa: SIM115 - lives as long

    def store(self, chunks: Iterator[str]) -> Chunks:
        """Stores a text; returns what reads it back."""
        start = end = self.file.seek(0, os.SEEK_END)
        for text in chunks:
            try:
                end += self.file.write(text.encode())
            except OSError as error:
                place = tempfile.gettempdir()
                # No DataError, for which a document would be passed over: none can be read now.
                raise MiniGPTError(
                    f"{place}: cannot hold the text of the documents: {error.strerror}: make room, "
                    "or set TMPDIR to another folder"
                ) from None
        return lambda: self._read(start, end)

    def _read(self, start: int, end: int) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        while start < end:
            self.file.seek(start)
            content = self.file.read(min(BLOCK, end - start))
            start += len(content)
            yield decoder.decode(content)
