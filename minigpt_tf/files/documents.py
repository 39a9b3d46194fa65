"""Files and folders -> documents, each a text that is read in pieces and never held as a whole.

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
from .decoding import BLOCK, tidy
from .readers import PLAIN, READERS
from .sources import as_source

if TYPE_CHECKING:  # most texts need no network
    from .download import Download

Pieces = Callable[[], Iterator[str]]
"""Gives a text from its start, in pieces of about BLOCK characters."""

Progress = Callable[[str, int, int], None]
"""Hears what is being done, how far it has come and how far it goes (0: not known)."""


def silent(what: str, done: int, total: int) -> None:
    """A Progress for nobody."""


@dataclass(frozen=True)
class Document:
    """The text of one file, with line ends as \\n."""

    path: Path | str
    """The file, or its URL."""
    characters: int
    digest: bytes
    """SHA-256 of the text in UTF-8."""
    read: Pieces

    def pieces(self) -> Iterator[str]:
        """The text in pieces. Raises DataError where it is no longer what it was at first."""
        digest = hashlib.sha256()
        for text in self.read():
            digest.update(text.encode())
            yield text
        if digest.digest() != self.digest:
            raise DataError(f"{self.path}: has changed while it was read: start again")

    @property
    def text(self) -> str:
        """All of the text, for who knows that it is short."""
        return "".join(self.pieces())


@dataclass
class Documents:
    """The documents that were read, and (path, reason) for every file that was passed over."""

    documents: list[Document] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """All texts, for who knows that they are short."""
        return [document.text for document in self.documents]


def survey(
    path: Path | str, read: Pieces, heard: Callable[[int], None] = lambda size: None
) -> Document:
    """Reads a text once and describes it. Raises DataError where it holds no text.

    `heard` is told the bytes of each piece, as UTF-8.
    """
    characters, blank = 0, True
    digest = hashlib.sha256()
    for text in read():
        content = text.encode()
        digest.update(content)
        characters += len(text)
        blank = blank and not text.strip()
        heard(len(content))
    if blank:
        raise DataError(f"{path}: holds no text")
    return Document(path, characters, digest.digest(), read)


def read_documents(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    encoding: str = DataConfig.encoding,
    progress: Progress = silent,
    notice: Callable[[str], None] = lambda text: None,
) -> Documents:
    """Reads files, folders with all they hold, in alphabetical order, and http(s) URLs.

    A download is kept in the cache folder; `notice` gets its place. A file named by the caller must
    be readable; a file met in a folder that is not is listed in `skipped`. Raises
    DataError, also where nothing at all was readable.
    """
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    result = Documents()
    files: list[tuple[Path | Download, bool]] = []  # and whether the caller has named it
    for path in map(as_source, paths):
        if isinstance(path, str):
            from .download import download

            files.append((download(path, progress, notice), True))
        elif path.is_dir():
            files += [(file, False) for file in _files_in(path, result)]
        elif path.exists():
            files.append((path, True))
        else:
            raise DataError(f"{path}: {_missing(path)}")
    tell = _Teller(progress, [_place_of(file) for file, _ in files])
    spool = _Spool()
    for file, named in files:
        try:
            result.documents.append(read_document(file, encoding, spool, tell))
        except DataError as error:
            if named:
                raise
            result.skipped.append((file, str(error).removeprefix(f"{file}: ")))
    if not result.documents:
        places = ", ".join(map(str, paths))
        reasons = "; ".join(f"{path}: {reason}" for path, reason in result.skipped[:5])
        known = " ".join(READERS)
        raise DataError(f"{places}: no text found (readable: {known}). {reasons}".rstrip())
    return result


def _missing(path: Path) -> str:
    """What is said of a path where nothing is."""
    if path.parts and path.parts[0] in ("http:", "https:"):
        url = str(path).replace(":/", "://", 1)
        return f"is a URL that lost a slash, as in a Path: give {url!r}, as text"
    return "no such file or folder"


def _place_of(file: "Path | Download") -> Path:
    return file if isinstance(file, Path) else file.path


class _Teller:
    """Tells how much of some files has been read."""

    def __init__(self, progress: Progress, files: list[Path]) -> None:
        self.progress, self.done = progress, 0
        self.total = sum(file.stat().st_size for file in files if file.is_file())

    def __call__(self, size: int) -> None:
        self.done = min(
            self.done + size, self.total
        )  # as UTF-8, a text may be longer than its file
        self.progress("reading the text", self.done, self.total)


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
    heard: Callable[[int], None] = lambda size: None,
) -> Document:
    """The document in one file. Raises DataError: unknown kind, unreadable, empty, wrong encoding.

    `heard`: as in `survey`.
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

    def pieces() -> Iterator[str]:
        """The text of the file. Raises DataError that names it."""
        try:
            with open(path, "rb") as content:
                yield from tidy(READERS[ending](content, encoding))
        except OSError as error:
            raise DataError(f"{name}: cannot be read: {error.strerror}") from None
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        except (ValueError, AssertionError, RecursionError) as error:  # parsers, on damage
            raise DataError(f"{name}: is damaged: {error}") from None

    if ending in PLAIN:
        return survey(name, pieces, heard)
    return survey(name, (spool or _Spool()).keep(pieces()), heard)


class _Spool:
    """Texts that took work to get out of their files, in one temporary file."""

    IN_MEMORY = 1 << 20

    def __init__(self) -> None:
        self.file = tempfile.SpooledTemporaryFile(self.IN_MEMORY)  # noqa: SIM115 - lives as long

    def keep(self, pieces: Iterator[str]) -> Pieces:
        """Stores a text; returns what reads it back."""
        start = end = self.file.seek(0, os.SEEK_END)
        for text in pieces:
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
