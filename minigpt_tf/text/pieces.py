"""A long text in pieces: cut into training and validation part, and where tokens cannot cross."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

_SPACE = re.compile(r"\s")


def split_pieces(
    texts: Iterable[str], characters: int, val_split: float, *, whole_words: bool
) -> Iterator[tuple[int, str]]:
    """(part, piece) for the pieces of a text: part 0 trains, part 1 validates.

    The last `val_split` of the text's `characters` validates; with `whole_words` the cut moves on
    to the next white space.
    """
    cut = int(characters * (1 - val_split))
    done, part = 0, 0
    for text in texts:
        place = max(0, cut - done)
        done += len(text)
        if part == 0 and place < len(text):
            if whole_words and cut > 0:
                found = _SPACE.search(text, place)
                place = found.start() if found else len(text)
            if place > 0:
                yield 0, text[:place]
            if place == len(text):
                continue
            text, part = text[place:], 1
        yield part, text


def cut_parts(
    parts: Iterable[tuple[int, str]], size: int, before: str | None = None
) -> Iterator[tuple[int, str]]:
    """What `split_pieces` gives, cut anew by `cut_pieces` within each part."""
    for part, pieces in groupby(parts, key=lambda item: item[0]):
        for piece in cut_pieces((text for _, text in pieces), size, before):
            yield part, piece


def cut_pieces(texts: Iterable[str], size: int, before: str | None = None) -> Iterator[str]:
    """A text that comes in pieces, cut anew into pieces of `size` characters and somewhat more.

    A cut lies between a character that is no white space and one of `before` (unset: anywhere), at
    the first such place from `size` characters on. Where a text has none, the piece goes on until
    it has: a text without white space is one piece, and takes the memory of one.
    """
    if before is None:
        for text in texts:
            yield from (text[start : start + size] for start in range(0, len(text), size))
        return
    cut = re.compile(rf"(?<=\S)[{re.escape(before)}]" if before else "(?!)")
    held: list[str] = []  # what has come since the last cut
    length, last = 0, " "  # of what is held, and the character that came last
    for text in filter(None, texts):
        start, place = 0, max(0, size - length)
        if place == 0 and text[0] in before and not last.isspace():
            yield "".join(held)
            held, length, place = [], 0, size
        while found := cut.search(text, place):
            yield "".join([*held, text[start : found.start()]])
            held, length, start = [], 0, found.start()
            place = start + size
        held.append(text[start:])
        length, last = length + len(text) - start, text[-1]
    if held:
        yield "".join(held)
