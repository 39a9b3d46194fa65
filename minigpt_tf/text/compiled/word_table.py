"""Words of long texts -> ids, in compiled code that leaves other threads alone."""

from collections.abc import Iterable

import numpy as np

from ...compiled import entry, inner, uninterrupted

_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
"""Of the hash FNV-1a (Fowler, Noll and Vo)."""


@inner
def _slot_of(text, start, end, hash, slots, starts, known):
    """The slot of the word text[start:end]: where it is, or where it would stand."""
    mask = np.int64(slots.size - 1)
    place = np.int64(hash ^ (hash >> np.uint64(32))) & mask
    while slots[place] >= 0:
        word = slots[place]
        length = starts[word + 1] - starts[word]
        if length == end - start:
            same = 0
            while same < length and known[starts[word] + same] == text[start + same]:
                same += 1
            if same == length:
                return place
        place = (place + 1) & mask
    return place


@entry
def fill_slots(slots, starts, known):
    """Enters words into a hash table.

    Args:
        slots: (S,) int, all -1, S a power of two; gets the word's index in its slot.
        starts: (W + 1,) where each word begins in `known`, in bytes.
        known: uint8, the words one after another, in UTF-8.
    """
    for word in range(starts.size - 1):
        hash = _OFFSET
        for i in range(starts[word], starts[word + 1]):
            hash = (hash ^ np.uint64(known[i])) * _PRIME
        slots[_slot_of(known, starts[word], starts[word + 1], hash, slots, starts, known)] = word


@entry
def encode(text, separates, slots, starts, known, ids, unknown, out):
    """Encodes text as the ids of its words.

    Args:
        text: (N,) uint8, UTF-8.
        separates: (256,) bool, the bytes between words.
        slots, starts, known: The hash table, as in `fill_slots`.
        ids: (W,) the id of each word.
        unknown: The id of unknown words, or -1 to drop them.
        out: At least (N / 2 + 1,), gets the ids.

    Returns:
        The number of ids written.
    """
    count = start = np.int64(0)
    hash = _OFFSET
    for i in range(text.size + 1):
        if i < text.size and not separates[text[i]]:
            hash = (hash ^ np.uint64(text[i])) * _PRIME
            continue
        if i > start:
            word = slots[_slot_of(text, start, i, hash, slots, starts, known)]
            token = ids[word] if word >= 0 else unknown
            if token >= 0:
                out[count] = token
                count += 1
        start = np.int64(i + 1)
        hash = _OFFSET
    return count


class WordTable:
    """A vocabulary as `encode` takes it."""

    def __init__(self, word_ids: dict[str, int], unknown: int | None, separators: Iterable[str]):
        """`separators`: the ASCII characters between words."""
        words = [word.encode("utf-8", "surrogatepass") for word in word_ids]
        self.ids = np.array(list(word_ids.values()), dtype=np.int32)
        self.starts = np.cumsum([0, *map(len, words)])
        self.known = np.frombuffer(b"".join(words), dtype=np.uint8)
        self.unknown = -1 if unknown is None else unknown
        self.separates = np.zeros(256, dtype=np.bool_)
        self.separates[[ord(character) for character in separators]] = True
        self.slots = np.full(1 << (2 * len(words)).bit_length(), -1, dtype=np.int32)
        with uninterrupted():  # compiles both functions, where that was not done before
            fill_slots(self.slots, self.starts, self.known)
            self.encode("a")

    def encode(self, text: str) -> np.ndarray:
        """Text, in lower case if the words are -> int32 ids (T,); for any number of threads."""
        content = np.frombuffer(text.encode(), dtype=np.uint8)
        out = np.empty(content.size // 2 + 1, dtype=np.int32)
        count = encode(
            content,
            self.separates,
            self.slots,
            self.starts,
            self.known,
            self.ids,
            self.unknown,
            out,
        )
        return out[:count].copy()
