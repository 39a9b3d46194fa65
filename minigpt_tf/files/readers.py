"""What reads each kind of file, .txt .md .html .csv .xlsx .json .jsonl .pdf .docx -> its text."""

import csv
import html.parser
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from ..errors import DataError
from .decoding import BLOCK, decode_stream, decode_text
from .sheets import read_sheets, text_of_cell

Reader = Callable[[BinaryIO, str], Iterator[str]]
"""A file and the encoding of its text, if it is text -> pieces. Raises DataError."""


class _TextOfHTML(html.parser.HTMLParser):
    """Collects what a reader of the page would see; a block element ends a line."""

    HIDDEN = {"script", "style", "template", "noscript"}
    BLOCKS = {"p", "div", "br", "li", "tr", "table", "section", "article", "title", "blockquote"}
    BLOCKS |= {"main", "aside", "nav", "hr", "figcaption"}
    CELLS = {"td", "th", "option"}
    BLOCKS |= {
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "dd",
        "dt",
        "pre",
        "header",
        "footer",
    }

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.hidden += tag in self.HIDDEN
        if tag in self.BLOCKS:
            self.parts.append("\n")
        elif tag in self.CELLS:
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(0, self.hidden - (tag in self.HIDDEN))
        if tag in self.BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(" ".join(data.split("\n")))


def _read_html(content: bytes, encoding: str) -> str:
    parser = _TextOfHTML()
    parser.feed(decode_text(content, encoding))
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.parts).split("\n"))
    return "\n".join(line for line in lines if line)


def _read_csv(content: bytes, encoding: str) -> str:
    """A row becomes a line; its cells are joined by spaces."""
    text = decode_text(content, encoding)
    csv.field_size_limit(2**31 - 1)  # the default refuses cells above 128 kB
    try:
        dialect: type[csv.Dialect] | str = csv.Sniffer().sniff(text[:10000], delimiters=",;\t|")
    except csv.Error:
        dialect = "excel"
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), dialect))
    except csv.Error as error:
        raise DataError(f"is not a readable CSV file: {error}") from None
    return "\n".join(map(_line_of, rows))


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


def _parse_json(text: str, line_offset: int = 0) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = error.lineno + line_offset
        raise DataError(f"is not valid JSON (line {line}: {error.msg})") from None
    except RecursionError:
        raise DataError("is JSON nested too deeply to read") from None


def _read_json(content: bytes, encoding: str) -> str:
    """Every string value, in order, one a line; keys and numbers are left out."""
    return "\n".join(_strings(_parse_json(decode_text(content, encoding))))


def _read_jsonl(file: BinaryIO, encoding: str) -> Iterator[str]:
    """As `_read_json` for each line; never more than a few lines are held."""

    def strings() -> Iterator[str]:
        for number, line in enumerate(_lines(decode_stream(file, encoding))):
            if line.strip():
                yield from _strings(_parse_json(line, number))

    return _joined(strings())


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """Lines with \\n between them, as pieces of about BLOCK characters."""
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
    """The lines of a text that comes in pieces, without their \\n."""
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
    """A reader of a kind of file that can only be read as a whole."""
    return lambda file, encoding: iter([read(file.read(), encoding)])


PLAIN = {".txt", ".md"}
"""The kinds whose text is the file as it stands: they can be read again at no cost."""

READERS: dict[str, Reader] = {
    ".txt": decode_stream,
    ".md": decode_stream,
    ".html": _whole(_read_html),
    ".htm": _whole(_read_html),
    ".csv": _whole(_read_csv),
    ".xlsx": _read_xlsx,
    ".json": _whole(_read_json),
    ".jsonl": _read_jsonl,
    ".pdf": _whole(_read_pdf),
    ".docx": _whole(_read_docx),
}
"""What reads a file, by its ending; .md is taken as it stands."""
