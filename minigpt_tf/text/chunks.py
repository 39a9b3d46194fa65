"""A long text in chunks: split for training and validation, and cut where tokens cannot cross."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

_SPACE = re.compile(r"\s")


def split_chunks(
    texts: Iterable[str], characters: int, val_split: float, *, whole_words: bool
) -> Iterator[tuple[int, str]]:
    """Splits a text that comes in chunks: its end validates.

    Args:
        texts: The chunks.
        characters: How many they have together.
        val_split: The fraction that validates.
        whole_words: Whether the border moves on to the next white space.

    Returns:
        (split, chunk) in order: split 0 trains, split 1 validates.
    """
    border = int(characters * (1 - val_split))
    done, split = 0, 0
    for text in texts:
        place = max(0, border - done)
        done += len(text)
        if split == 0 and place < len(text):
            if whole_words and border > 0:
                found = _SPACE.search(text, place)
                place = found.start() if found else len(text)
            if place > 0:
                yield 0, text[:place]
            if place == len(text):
                continue
            text, split = text[place:], 1
        yield split, text


def rechunk_splits(
    chunks: Iterable[tuple[int, str]], size: int, before: str | None = None
) -> Iterator[tuple[int, str]]:
    """What `split_chunks` gives, in chunks of another size.

    Args:
        chunks: (split, chunk) in order.
        size: As in `rechunk`.
        before: As in `rechunk`.

    Returns:
        (split, chunk); no chunk lies across the border.
    """
    for split, group in groupby(chunks, key=lambda item: item[0]):
        for chunk in rechunk((text for _, text in group), size, before):
            yield split, chunk


def rechunk(texts: Iterable[str], size: int, before: str | None = None) -> Iterator[str]:
    """A text that comes in chunks, in chunks of another size.

    Args:
        texts: The chunks.
        size: Characters of a new chunk; it has somewhat more where it may not end there.
        before: A chunk ends between a character other than white space and one of these (unset:
            anywhere). A text without such a place is one chunk, and takes the memory of one.

    Returns:
        The new chunks.

    Example:
        >>> from minigpt_tf.text.chunks import rechunk
        >>> list(rechunk(["he was a ge", "nius"], 4, before=" "))
        ['he was', ' a genius']
    """
    if before is None:
        for text in texts:
            yield from (text[start : start + size] for start in range(0, len(text), size))
        return
    border = re.compile(rf"(?<=\S)[{re.escape(before)}]" if before else "(?!)")
    held: list[str] = []  # what has come since the last border
    length, last = 0, " "  # of what is held, and the character that came last
    for text in filter(None, texts):
        start, place = 0, max(0, size - length)
        if place == 0 and text[0] in before and not last.isspace():
            yield "".join(held)
            held, length, place = [], 0, size
        while found := border.search(text, place):
            yield "".join([*held, text[start : found.start()]])
            held, length, start = [], 0, found.start()
            place = start + size
        held.append(text[start:])
        length, last = length + len(text) - start, text[-1]
    if held:
        yield "".join(held)
