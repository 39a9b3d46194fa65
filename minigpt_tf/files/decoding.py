"""Bytes -> text, a piece at a time: encodings, byte order marks, line ends."""

import codecs
import io
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import DataError

BLOCK = 1 << 20
"""So many bytes are read at a time."""

SAMPLE = 1 << 16
"""So many bytes show what a file is."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_SURROGATES = re.compile("[\ud800-\udfff]")
"""Halves of UTF-16 pairs, which JSON can hold alone: no text, and not to be encoded."""


def decode_text(content: bytes, encoding: str = "utf-8") -> str:
    """Decodes bytes to text.

    Args:
        content: The bytes of a text file.
        encoding: The name of a Python codec, used if there is no byte order mark.

    Returns:
        The text, without its byte order mark.

    Raises:
        DataError: The content is binary or in another encoding; the message suggests one.
    """
    return "".join(decode_stream(io.BytesIO(content), encoding))


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file, for formats that are read as a whole.

    Args:
        path: The file.
        encoding: Of a text without a byte order mark.

    Returns:
        The text, with line ends as \\n.

    Raises:
        DataError: It is not text in the encoding.
        OSError: It cannot be read.
    """
    return "".join(tidy([decode_text(path.read_bytes(), encoding)]))


def decode_stream(
    file: BinaryIO, encoding: str = "utf-8", block_size: int = BLOCK
) -> Iterator[str]:
    """Decodes a file in blocks, as `decode_text` decodes bytes.

    Args:
        file: A seekable file, at its beginning.
        encoding: The name of a Python codec, used if there is no byte order mark.
        block_size: Bytes read at a time.

    Yields:
        The text in chunks, none of them empty.

    Raises:
        DataError: The content is binary or in another encoding; the message suggests one.
    """
    block = file.read(SAMPLE)
    encoding, decoder = _decoder_for(block, encoding)
    place = 0
    while True:
        held = decoder.getstate()[0]  # the first bytes of a character that the last block cut off
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeError as error:
            place += getattr(error, "start", 0) - len(held)
            raise _not_in(encoding, file, place) from None
        if "\0" in text:
            raise _not_text(file, place + text.index("\0"))
        if text:
            yield text
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


def _not_in(encoding: str, file: BinaryIO, place: int) -> DataError:
    """The error for a file that is not in the encoding at byte `place`."""
    guess = guess_encoding(_sample(file, place))
    if guess is None:
        return DataError("looks like binary data, not text")
    return DataError(
        f"is not {encoding.upper().removesuffix('-SIG')} (byte {place}, line "
        f"{_count_lines(file, place)}); it looks like {guess}: name its encoding with --encoding, "
        "or convert the file to UTF-8"
    )


def _not_text(file: BinaryIO, place: int) -> DataError:
    """The error for a file with a zero at about byte `place`: no text in the encoding has one."""
    guess = guess_encoding(_sample(file, place))
    if guess is None or not guess.startswith("utf-16"):
        return DataError("looks like binary data, not text")
    return DataError(f"looks like text in {guess}: add --encoding {guess}")


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


def _without_surrogates(text: str) -> str:
    try:
        text.encode()  # several times as fast as the search
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text)
    return text


def guess_encoding(content: bytes) -> str | None:
    """The most likely encoding of text that is not UTF-8.

    Args:
        content: The text, or its beginning.

    Returns:
        The name of an encoding; None for what looks like binary data.
    """
    sample = content[:SAMPLE]
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
