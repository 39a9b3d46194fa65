"""Files and folders -> documents: plain text from .txt .md .html .csv .json .jsonl .pdf .docx."""

import codecs
import csv
import html.parser
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..config import CHECKPOINT_NAME, CONFIG_NAME, MODEL_NAME, RUN_NAME
from ..errors import DataError


@dataclass(frozen=True)
class Document:
    """The text of one file, with line ends as \\n."""

    path: Path
    text: str


@dataclass
class Documents:
    """The documents that were read, and (path, reason) for every file that was passed over."""

    documents: list[Document] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [document.text for document in self.documents]


def read_documents(
    paths: str | os.PathLike | Iterable[str | os.PathLike], encoding: str = "utf-8"
) -> Documents:
    """Reads files and folders, folders with all they hold, in alphabetical order.

    A file named by the caller must be readable; a file met in a folder that is not is listed in
    `skipped`. Raises DataError, also where nothing at all was readable.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    result = Documents()
    for path in map(Path, paths):
        if path.is_dir():
            _read_folder(path, encoding, result)
        elif path.exists():
            result.documents.append(Document(path, read_document(path, encoding)))
        else:
            raise DataError(f"{path}: no such file or folder")
    if not result.documents:
        places = ", ".join(map(str, paths))
        reasons = "; ".join(f"{path}: {reason}" for path, reason in result.skipped[:5])
        known = " ".join(READERS)
        raise DataError(f"{places}: no text found (readable: {known}). {reasons}".rstrip())
    return result


def _read_folder(folder: Path, encoding: str, result: Documents) -> None:
    """Reads all files below a folder but for hidden ones, which nobody meant to be read."""

    def unreadable(error: OSError) -> None:
        result.skipped.append((Path(error.filename), f"cannot be read: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        here = Path(place)
        if _is_model_folder(here):
            result.skipped.append((here, "is a model folder"))
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in sorted(here / name for name in files if not name.startswith(".")):
            try:
                result.documents.append(Document(path, read_document(path, encoding)))
            except DataError as error:
                result.skipped.append((path, str(error).removeprefix(f"{path}: ")))


def _is_model_folder(folder: Path) -> bool:
    model = (folder / MODEL_NAME).exists() and (folder / CONFIG_NAME).exists()
    return model or (folder / CHECKPOINT_NAME / RUN_NAME).exists()


def read_document(path: Path, encoding: str = "utf-8") -> str:
    """The text of one file. Raises DataError: unknown kind, unreadable, empty, wrong encoding."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        kind = f"files ending in {path.suffix}" if path.suffix else "files without an ending"
        raise DataError(f"{path}: {kind} are not read (readable: {' '.join(READERS)})")
    if not path.is_file():
        raise DataError(f"{path}: is not a regular file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        text = reader(content, encoding)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (ValueError, AssertionError, RecursionError) as error:  # what parsers raise on damage
        raise DataError(f"{path}: is damaged: {error}") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _SURROGATES.sub("\ufffd", text)
    if not text.strip():
        raise DataError(f"{path}: holds no text")
    return text


_SURROGATES = re.compile("[\ud800-\udfff]")
"""Halves of UTF-16 pairs, which JSON can hold alone: no text, and not to be encoded."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode_text(content: bytes, encoding: str = "utf-8") -> str:
    """Bytes -> text. A byte order mark decides; else `encoding` does. Raises DataError."""
    for mark, marked_encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            encoding = marked_encoding
            break
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        place = getattr(error, "start", 0)
        guess = guess_encoding(content)
        if guess is None:
            raise DataError("looks like binary data, not text") from None
        line = content.count(b"\n", 0, place) + 1
        raise DataError(
            f"is not {encoding.upper().removesuffix('-SIG')} (byte {place}, line {line}); it looks "
            f"like {guess}: name its encoding with --encoding, or convert the file to UTF-8"
        ) from None
    if "\0" in text:
        guess = guess_encoding(content)
        advice = f"text in {guess}: add --encoding {guess}" if guess else "binary data, not text"
        raise DataError(f"looks like {advice}")
    return text


def guess_encoding(content: bytes) -> str | None:
    """The likeliest encoding of text that is not UTF-8, or None where it looks like binary data."""
    sample = content[:65536]
    zeros_even, zeros_odd = sample[::2].count(0), sample[1::2].count(0)
    if zeros_even or zeros_odd:  # Latin text in UTF-16 has a zero in every other byte
        wide = max(zeros_even, zeros_odd) > 0.4 * len(sample) / 2
        narrow = min(zeros_even, zeros_odd) < 0.05 * len(sample) / 2
        if wide and narrow:
            return "utf-16-be" if zeros_even > zeros_odd else "utf-16-le"
        return None
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in sample)
    if controls > 0.01 * len(sample):
        return None
    try:  # TensorFlow brings it along; without it there is a refusal without a name
        from charset_normalizer import from_bytes
    except ImportError:
        return "another encoding"
    matches = from_bytes(sample, cp_exclusion=["utf_16", "utf_16_be", "utf_16_le", "utf_7"])
    best = matches.best()
    if best is None:
        return None
    # Short Western texts fit several code pages equally well; Windows-1252 is the usual one.
    equals = [match.encoding for match in matches if match.chaos <= best.chaos]
    return "cp1252" if "cp1252" in equals else best.encoding.replace("_", "-")


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
    return "\n".join(" ".join(cell.strip() for cell in row if cell.strip()) for row in rows)


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


def _read_jsonl(content: bytes, encoding: str) -> str:
    lines = decode_text(content, encoding).split("\n")
    records = (_parse_json(line, number) for number, line in enumerate(lines) if line.strip())
    return "\n".join(string for record in records for string in _strings(record))


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
            lines.append(block.text)
        else:
            lines += [" ".join(cell.text for cell in row.cells) for row in rows]
    return "\n".join(lines)


READERS: dict[str, Callable[[bytes, str], str]] = {
    ".txt": decode_text,
    ".md": decode_text,
    ".html": _read_html,
    ".htm": _read_html,
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".pdf": _read_pdf,
    ".docx": _read_docx,
}
"""What reads a file, by its ending; .md is taken as it stands."""
