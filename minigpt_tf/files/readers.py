"""Training text: .txt .md .html .csv .tsv .xlsx .json .jsonl .pdf .docx -> the text of each."""

import io
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from ..errors import DataError
from .decoding import BLOCK, decode_stream, decode_text, tidy, tidy_text
from .html_pages import decode_html, text_of_html
from .json_values import json_texts
from .notes import Notes, counted
from .tables import note_ragged, read_table

Reader = Callable[[BinaryIO, str, Notes], Iterator[str]]
"""A file, the encoding of its text, if it is text, and what gets its notes -> chunks. Raises
DataError."""

PDF_SECONDS = 15
PDF_BYTES_A_SECOND = 50_000
"""How long pages may take, and how much longer those of a larger file: there are files whose pages
never end."""


def _read_html(content: bytes, encoding: str, notes: Notes) -> str:
    return text_of_html(decode_html(content, encoding, notes), notes)


def _read_csv(file: BinaryIO, encoding: str, notes: Notes, preferred: str = ",") -> Iterator[str]:
    """A row becomes a line; its cells are joined by spaces."""
    text = tidy_text(decode_text(file.read(), encoding, notes))
    rows = read_table(text, preferred, notes=notes)
    note_ragged(rows, notes)
    return _joined(_line_of(cells) for _, cells in rows)


def _read_tsv(file: BinaryIO, encoding: str, notes: Notes) -> Iterator[str]:
    """As `_read_csv`, with tabs where several delimiters fit."""
    return _read_csv(file, encoding, notes, preferred="\t")


def _line_of(cells: Iterable[str]) -> str:
    """A row of a table as a line."""
    return " ".join(cell.strip() for cell in cells if cell.strip())


def _read_xlsx(file: BinaryIO, encoding: str, notes: Notes) -> Iterator[str]:
    """As `_read_csv`, all sheets that a person sees, with a blank line between two."""
    from .sheets import NO_VALUE, STORE_VALUES, read_sheets  # and exact numbers, which take a while

    def choose(seen: list[str], hidden: list[str]) -> list[str]:
        """All that are seen."""
        for title in hidden:
            notes.leave_out("hidden sheet", name=title)
        return seen

    def lines() -> Iterator[str]:
        """A row is a line."""
        above = None
        for sheet, _, cells in read_sheets(file, choose, notes):
            line = _line_of(cell for cell in cells if isinstance(cell, str))
            if line:
                if above not in (None, sheet):
                    yield ""
                yield line
                above = sheet
        if above is None and (count := notes.counts.get(NO_VALUE)):
            raise DataError(f"contains no text, but {counted(count, NO_VALUE)}: {STORE_VALUES}")

    return _joined(lines())


def _read_json(file: BinaryIO, encoding: str, notes: Notes) -> Iterator[str]:
    """The texts of JSON and JSONL; of the latter never more than a few lines are held."""
    lines = _lines(tidy(decode_stream(file, _json_encoding(file, encoding), notes)))
    return _joined(json_texts(lines, notes))


def _json_encoding(file: BinaryIO, encoding: str) -> str:
    """The encoding of JSON, whose first bytes show it (RFC 4627, section 3)."""
    head = file.read(4)
    file.seek(0)
    if encoding == "utf-8" and b"\0" in head:
        return json.detect_encoding(head)
    return encoding


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """Lines with \\n between them, as chunks of about BLOCK characters."""
    batch: list[str] = []
    size = 0
    separator = ""
    for line in lines:
        batch += [separator, line]
        size += len(line)
        separator = "\n"
        if size > BLOCK:
            yield "".join(batch)
            batch, size = [], 0
    yield "".join(batch)


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in chunks, without their \\n."""
    begun: list[str] = []
    for text in texts:
        *ended, rest = text.split("\n")
        if ended:
            yield "".join([*begun, ended[0]])
            yield from ended[1:]
            begun = []
        begun.append(rest)
    yield "".join(begun)


def _read_pdf(content: bytes, encoding: str, notes: Notes) -> str:
    try:
        import pypdf
    except ModuleNotFoundError:
        raise DataError("needs pypdf to be read: install it, or the extra 'documents'") from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it thinks of damage, line by line
    most = PDF_SECONDS + len(content) / PDF_BYTES_A_SECOND
    end = time.monotonic() + most
    pages = []
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        for number, page in enumerate(reader.pages, start=1):
            pages.append(page.extract_text())
            if not pages[-1].strip():
                notes.leave_out("page without text", place=f"page {number}")
            if time.monotonic() > end:
                raise DataError(f"takes more than {most:.0f} s: convert it to text")
    except (DataError, MemoryError):
        raise
    except Exception as error:  # pypdf raises many kinds on damaged files
        raise DataError(f"is not a readable PDF file: {error}") from None
    return "\n\n".join(pages)


def _read_docx(file: BinaryIO, encoding: str, notes: Notes) -> Iterator[str]:
    from .word import text_of_docx

    return _joined(text_of_docx(file, notes))


def _whole(read: Callable[[bytes, str, Notes], str]) -> Reader:
    """A reader of a format that can only be read as a whole."""
    return lambda file, encoding, notes: iter([read(file.read(), encoding, notes)])


PLAIN = {".txt", ".md"}
"""Formats whose text is the file as it stands: it can be read again at no cost."""

READERS: dict[str, Reader] = {
    ".txt": decode_stream,
    ".md": decode_stream,
    ".html": _whole(_read_html),
    ".htm": _whole(_read_html),
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".tab": _read_tsv,
    ".xlsx": _read_xlsx,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".pdf": _whole(_read_pdf),
    ".docx": _read_docx,
}
"""What reads a file, by its ending; .md is taken as it stands."""
