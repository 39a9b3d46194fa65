"""Training text: .txt .md .html .csv .tsv .xlsx .json .jsonl .pdf .docx -> the text of each."""

import io
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from ..errors import DataError
from .decoding import BLOCK, decode_stream, decode_text, tidy
from .html_pages import text_of_html
from .json_values import parse_json_file, parse_json_lines
from .sheets import read_sheets, text_of_cell
from .tables import find_delimiter, split_cells

Reader = Callable[[BinaryIO, str], Iterator[str]]
"""A file and the encoding of its text, if it is text -> chunks. Raises DataError."""


def _read_html(content: bytes, encoding: str) -> str:
    return text_of_html(decode_text(content, encoding))


def _read_csv(content: bytes, encoding: str, preferred: str = ",") -> str:
    """A row becomes a line; its cells are joined by spaces."""
    text = "".join(tidy([decode_text(content, encoding)]))
    rows = split_cells(text, find_delimiter(text, preferred))
    return "\n".join(_line_of(cells) for _, cells in rows)


def _read_tsv(content: bytes, encoding: str) -> str:
    """As `_read_csv`, with tabs where several delimiters fit."""
    return _read_csv(content, encoding, preferred="\t")


def _line_of(cells: Iterable[str]) -> str:
    """A row of a table as a line."""
    return " ".join(cell.strip() for cell in cells if cell.strip())


def _read_xlsx(file: BinaryIO, encoding: str) -> Iterator[str]:
    """As `_read_csv`, all sheets in their order, with a blank line between two."""

    def lines() -> Iterator[str]:
        """A row is a line."""
        above = None
        for sheet, cells in read_sheets(file, choose=list):
            line = _line_of(str(text_of_cell(cell)) for cell in cells if cell is not None)
            if line:
                if above not in (None, sheet):
                    yield ""
                yield line
                above = sheet

    return _joined(lines())


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _read_json(content: bytes, encoding: str) -> str:
    """Every string value, in order, one a line; keys and numbers are left out."""
    _, values = parse_json_file(decode_text(content, encoding))
    return "\n".join(string for _, value in values for string in _strings(value))


def _read_jsonl(file: BinaryIO, encoding: str) -> Iterator[str]:
    """As `_read_json` for each line; never more than a few lines are held."""
    values = parse_json_lines(_lines(decode_stream(file, encoding)))
    return _joined(string for _, value in values for string in _strings(value))


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


def _read_pdf(content: bytes, encoding: str) -> str:
    try:
        import pypdf
    except ImportError:
        raise DataError("needs pypdf to be read: install it, or the extra 'documents'") from None
    try:
        pages = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content)).pages]
    except Exception as error:  # pypdf raises many kinds on damaged files
        raise DataError(f"is not a readable PDF file: {error}") from None
    return "\n\n".join(pages)


def _read_docx(content: bytes, encoding: str) -> str:
    try:
        import docx
    except ImportError:
        raise DataError(
            "needs python-docx to be read: install it, or the extra 'documents'"
        ) from None
    try:
        document = docx.Document(io.BytesIO(content))
        blocks = list(document.iter_inner_content())
    except Exception as error:  # python-docx raises KeyError, BadZipFile, ... on damaged files
        raise DataError(f"is not a readable DOCX file: {error}") from None
    lines = []
    for block in blocks:  # paragraphs and tables in reading order
        rows = getattr(block, "rows", None)
        if rows is None:
            lines.append(getattr(block, "text", ""))
        else:
            lines += [" ".join(cell.text for cell in row.cells) for row in rows]
    return "\n".join(lines)


def _whole(read: Callable[[bytes, str], str]) -> Reader:
    """A reader of a format that can only be read as a whole."""
    return lambda file, encoding: iter([read(file.read(), encoding)])


PLAIN = {".txt", ".md"}
"""Formats whose text is the file as it stands: it can be read again at no cost."""

READERS: dict[str, Reader] = {
    ".txt": decode_stream,
    ".md": decode_stream,
    ".html": _whole(_read_html),
    ".htm": _whole(_read_html),
    ".csv": _whole(_read_csv),
    ".tsv": _whole(_read_tsv),
    ".tab": _whole(_read_tsv),
    ".xlsx": _read_xlsx,
    ".json": _whole(_read_json),
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".pdf": _whole(_read_pdf),
    ".docx": _whole(_read_docx),
}
"""What reads a file, by its ending; .md is taken as it stands."""
