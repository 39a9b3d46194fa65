"""Bytes -> text, a piece at a time: encodings, byte order marks, line ends."""

import codecs
import functools
import io
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..console import one_line
from ..errors import DataError
from .encodings import MULTIBYTE, SAMPLE, guess_encoding, looks_like_text
from .notes import Notes, counted

BLOCK = 1 << 20
"""So many bytes are read at a time."""

SHORTEST_TEXT = 16
"""Of fewer bytes nobody knows whether the end is missing."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_SURROGATES = re.compile("[\ud800-\udfff]")
"""Halves of UTF-16 pairs, which JSON can hold alone: no text, and not to be encoded."""


def decode_text(content: bytes, encoding: str = "utf-8", notes: Notes | None = None) -> str:
    """Decodes bytes to text.

    Args:
        content: The bytes of a text file.
        encoding: The name of a Python codec, used if there is no byte order mark.
        notes: Gets what is left out, or read in another encoding.

    Returns:
        The text, without its byte order mark.

    Raises:
        DataError: The content is binary or in another encoding; the message suggests one.
    """
    return "".join(decode_stream(io.BytesIO(content), encoding, notes))


def read_text(path: Path, encoding: str = "utf-8", notes: Notes | None = None) -> str:
    """The text of a file, for formats that are read as a whole.

    Args:
        path: The file.
        encoding: Of a text without a byte order mark.
        notes: Gets what is left out, or read in another encoding.

    Returns:
        The text, with line ends as \\n.

    Raises:
        DataError: It is not text in the encoding.
        OSError: It cannot be read.
    """
    return tidy_text(decode_text(path.read_bytes(), encoding, notes))


def decode_stream(
    file: BinaryIO, encoding: str = "utf-8", notes: Notes | None = None, block_size: int = BLOCK
) -> Iterator[str]:
    """Decodes a file in blocks, as `decode_text` decodes bytes.

    A file of UTF-8 may have some lines in another encoding, as joined files do; it may end within
    a character, and hold zeros that a crash or a copy left in it. All that is noted.

    Args:
        file: A seekable file, at its beginning.
        encoding: The name of a Python codec, used if there is no byte order mark.
        notes: Gets what is left out, or read in another encoding.
        block_size: Bytes read at a time.

    Yields:
        The text in chunks, none of them empty.

    Raises:
        DataError: The content is binary or in another encoding; the message suggests one.
    """
    notes = Notes() if notes is None else notes
    head = file.read(SAMPLE)
    encoding, decoder = _decoder_for(head, encoding)
    _check_named(head, encoding, notes)
    zeros_are_known = False
    line = 1
    for text in _decoded(file, head, encoding, decoder, notes, block_size):
        if "\0" in text:
            if not zeros_are_known:
                _check_zeros(file, encoding)
                zeros_are_known = True
            place = f"line {line + text.count(chr(10), 0, text.index(chr(0)))}"
            notes.leave_out("NUL character", text.count("\0"), place=place)
        if "\ufeff" in text:  # as where files were joined
            place = f"line {line + text.count(chr(10), 0, text.index(chr(0xFEFF)))}"
            notes.leave_out("byte order mark in the text", text.count("\ufeff"), place=place)
        line += text.count("\n")
        text = text.replace("\0", "").replace("\ufeff", "")
        if text:
            yield text


def _decoded(
    file: BinaryIO,
    block: bytes,
    encoding: str,
    decoder: codecs.IncrementalDecoder,
    notes: Notes,
    block_size: int,
) -> Iterator[str]:
    """The blocks of a file that begins with `block`. Raises DataError."""
    place = 0
    while True:
        held = decoder.getstate()[0]  # the first bytes of a character that the last block cut off
        try:
            yield decoder.decode(block, final=not block)
        except UnicodeError as error:
            start = place + getattr(error, "start", 0) - len(held)
            if not block and _is_cut(file, encoding, start):
                notes.leave_out("byte of a character that the end cuts off", len(held))
                return
            census = _LineCensus.of(file) if _is_utf8(encoding) else None
            if census is None or not census.is_mixed:
                raise _not_in(encoding, file, start, census) from None
            file.seek(place - len(held))
            yield from census.decoded(file, notes, place > len(held))
            return
        if not block:
            return
        place += len(block)
        block = file.read(block_size)


def _decoder_for(head: bytes, encoding: str) -> tuple[str, codecs.IncrementalDecoder]:
    """The encoding of a file that begins with `head`, and its decoder."""
    for mark, marked_encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return marked_encoding, codecs.getincrementaldecoder(marked_encoding)()
    name = codecs.lookup(encoding).name
    if name in ("utf-16", "utf-32"):  # without a mark: this machine's order of bytes
        name += "-le" if sys.byteorder == "little" else "-be"
    return encoding, codecs.getincrementaldecoder(name)()


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def _check_named(head: bytes, encoding: str, notes: Notes) -> None:
    """Notes UTF-8 that was named otherwise; raises DataError for ASCII that escapes another."""
    if _is_utf8(encoding):
        if b"\x1b$" in head and guess_encoding(head) == "iso2022_jp":
            raise DataError("looks like iso2022_jp: name its encoding with --encoding")
        return
    name = codecs.lookup(encoding).name
    if head.isascii() or name.startswith(("utf", "iso2022", "hz")):
        return
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeError:
        return
    notes.remark(f"is UTF-8, as it seems, and was read as {encoding}: drop --encoding")


def _check_zeros(file: BinaryIO, encoding: str) -> None:
    """Raises DataError where the zeros of a file show that it is not text in the encoding."""
    place = file.tell()
    zero = _first_zero(file)
    sample = _sample(file, zero)
    guess = guess_encoding(sample)
    if guess and guess.startswith("utf-") and guess != codecs.lookup(encoding).name:
        raise DataError(f"looks like text in {guess}: add --encoding {guess}")
    wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    if not wide and not looks_like_text(sample):
        line = _count_lines(file, zero)
        raise DataError(f"looks like binary data, not text (a NUL in line {line})")
    file.seek(place)


def _first_zero(file: BinaryIO) -> int:
    """The place of the first zero in a file."""
    file.seek(0)
    place = 0
    while block := file.read(BLOCK):
        if (found := block.find(b"\0")) >= 0:
            return place + found
        place += len(block)
    return place


def _is_cut(file: BinaryIO, encoding: str, start: int) -> bool:
    """Whether what cannot be decoded from `start` on is a character that the end cuts off."""
    name = codecs.lookup(encoding).name
    if start < SHORTEST_TEXT:
        return False
    if not _is_utf8(encoding):
        return name.startswith(("utf-16", "utf-32")) or name in MULTIBYTE
    file.seek(start)
    rest = file.read(4)
    # One byte alone may as well be a letter of an 8-bit encoding.
    return len(rest) > 1 or _LineCensus.of(file).utf8 > 0


@dataclass
class _LineCensus:
    """Of the lines with more than ASCII: how many are UTF-8, and those that are not."""

    utf8: int = 0
    foreign: int = 0
    first_foreign: int = 0
    sample: bytes = b""
    """The first foreign lines."""

    @classmethod
    def of(cls, file: BinaryIO) -> "_LineCensus":
        """Counts the lines of a file."""
        file.seek(0)
        found = cls()
        for number, line in enumerate(file, start=1):
            if line.isascii():
                continue
            try:
                line.decode()
                found.utf8 += 1
            except UnicodeDecodeError as error:
                if error.reason == "unexpected end of data" and not line.endswith(b"\n"):
                    found.utf8 += not line[: error.start].isascii()
                    continue
                found.foreign += 1
                found.first_foreign = found.first_foreign or number
                rest, sequences = _MULTIBYTE_UTF8.subn(b"", line)
                if sequences and sequences >= len(rest.translate(None, bytes(range(128)))):
                    found.utf8 += 1  # but for a few bytes
                    line = rest
                if len(found.sample) < SAMPLE:
                    found.sample += line[:SAMPLE]
        return found

    @functools.cached_property
    def encoding(self) -> str | None:
        """What the foreign lines are in."""
        return guess_encoding(self.sample)

    @property
    def is_mixed(self) -> bool:
        """Whether lines of UTF-8 stand beside others. Bytes of East Asian encodings sometimes look
        like UTF-8, those of 8-bit encodings hardly ever."""
        if not self.utf8 or not self.foreign or self.encoding is None:
            return False
        return self.utf8 >= self.foreign * (3 if self.encoding in MULTIBYTE else 1 / 3)

    def decoded(self, file: BinaryIO, notes: Notes, has_begun: bool) -> Iterator[str]:
        """The rest of a file, line by line: UTF-8, or the other encoding."""
        if self.encoding is None:
            return
        lines = counted(self.foreign, "line")
        verb = "is" if self.foreign == 1 else "are"
        place = f"line {self.first_foreign}"
        where = place if self.foreign == 1 else f"the first is {place}"
        notes.remark(f"{lines} ({where}) {verb} not UTF-8, and read as {self.encoding}")
        batch: list[str] = []
        size = 0
        for line in file:
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                ends = error.reason == "unexpected end of data" and not line.endswith(b"\n")
                if ends and self.utf8:
                    missing = len(line) - error.start
                    notes.leave_out("byte of a character that the end cuts off", missing)
                    text = line[: error.start].decode()
                else:
                    text = self._foreign_text(line)
            batch.append(text if has_begun else text.removeprefix("\ufeff"))
            has_begun = True
            size += len(text)
            if size > BLOCK:
                yield "".join(batch)
                batch, size = [], 0
        yield "".join(batch)

    def _foreign_text(self, line: bytes) -> str:
        """A line of which something is not UTF-8: all of it, or single bytes."""
        encoding = self.encoding or "cp1252"
        chunks = _MULTIBYTE_UTF8.split(line)
        if len(chunks) == 1 or encoding in MULTIBYTE:
            return line.decode(encoding, "replace")
        return "".join(
            chunk.decode("utf-8" if number % 2 else encoding, "replace")
            for number, chunk in enumerate(chunks)
        )


_MULTIBYTE_UTF8 = re.compile(
    rb"([\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})"
)


def _not_in(encoding: str, file: BinaryIO, place: int, census: _LineCensus | None) -> DataError:
    """The error for a file that is not in the encoding at byte `place`."""
    line = _count_lines(file, place)
    sample = census.sample if census and census.sample else _sample(file, place)
    around = _sample(file, place)
    guess = guess_encoding(sample) if looks_like_text(around) else guess_encoding(around)
    name = encoding.upper().removesuffix("-SIG")
    if guess is None:
        if not looks_like_text(around):
            return DataError("looks like binary data, not text")
        return DataError(
            f"is not {name} (byte {place}, line {line}), nor in another known encoding: mend that "
            "line, or name the encoding with --encoding"
        )
    about = ""
    if census and census.utf8 and guess not in MULTIBYTE:
        about = f", but for {counted(census.utf8, 'line')} of UTF-8"
    return DataError(
        f"is not {name} (byte {place}, line {line}); it looks like {guess}"
        f"{_as_read(file, place, guess)}{about}: name its encoding with --encoding, or convert the "
        "file to UTF-8"
    )


def _as_read(file: BinaryIO, place: int, encoding: str) -> str:
    """How the words at a place read in an encoding, so that a person sees whether it is right."""
    if encoding.startswith("utf-"):
        return ""
    begin = max(0, place - 200)
    file.seek(begin)
    around = file.read(400)
    before = around[: place - begin].replace(b"\n", b" ").split(b" ")[-3:]
    after = around[place - begin :].splitlines()[0].split(b" ")[:4]
    words = (b" ".join(before) + b" ".join(after)).decode(encoding, "replace").strip()
    return f" ({one_line(words, 60)!r})"


def _sample(file: BinaryIO, place: int) -> bytes:
    """The bytes around a place in a file, from where a character may begin in any encoding."""
    file.seek(max(0, place - SAMPLE // 2) // 4 * 4)
    return file.read(SAMPLE)


def _count_lines(file: BinaryIO, place: int) -> int:
    """The line, counted from 1, in which byte `place` of the file lies."""
    file.seek(0)
    lines = 1
    while place > 0 and (block := file.read(min(place, BLOCK))):
        lines += block.count(b"\n")
        place -= len(block)
    return lines


def tidy(texts: Iterable[str]) -> Iterator[str]:
    """The chunks of a text with line ends as \\n, also where two chunks meet, and no surrogates."""
    line_ends = io.IncrementalNewlineDecoder(None, translate=True)
    for text in texts:
        yield _without_surrogates(line_ends.decode(text))
    yield _without_surrogates(line_ends.decode("", final=True))


def tidy_text(text: str) -> str:
    """As `tidy`, of a whole text.

    Args:
        text: Any text.

    Returns:
        The text with line ends as \\n and no surrogates.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _without_surrogates(text)


def _without_surrogates(text: str) -> str:
    try:
        text.encode()  # several times as fast as the search
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text)
    return text
