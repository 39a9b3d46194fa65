"""The `tokenizers` library's byte-level tokenizers: what they do to a text, and the same faster."""

import functools
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ...config import END_OF_TEXT

ASSIGNED = 0x40000
"""Beyond this code point Unicode has no letters, numbers or spaces."""

_PLAIN_MODEL = {"type": "BPE", "dropout": None, "unk_token": None, "byte_fallback": False}
_PLAIN_MODEL |= {"continuing_subword_prefix": None, "end_of_word_suffix": None}
_PLAIN_MODEL |= {"ignore_merges": False}
_PLAIN_CUT = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_PLAIN_TOKEN = {"single_word": False, "lstrip": False, "rstrip": False}
"""What a tokenizer's file must say for its ids to be those of `byte_pairs`."""


def describe(backend: Any) -> dict[str, Any]:
    """The content of a `tokenizers.Tokenizer`, as its file has it."""
    return json.loads(backend.to_str())


def cuts_as_gpt2(description: dict[str, Any]) -> bool:
    """Whether a tokenizer cuts text into words as GPT-2's does, and knows no token but END_OF_TEXT
    that could lie across."""
    added = description["added_tokens"]
    return (
        description["normalizer"] is None
        and _says(description["pre_tokenizer"] or {}, _PLAIN_CUT)
        and [token["content"] for token in added] in ([], [END_OF_TEXT])
        and all(_says(token, _PLAIN_TOKEN) for token in added)
    )


def fast_encoder(description: dict[str, Any]) -> Callable[[str], np.ndarray] | None:
    """A function text -> int32 ids (T,), the ids that the library gives, for any number of threads.

    None where the tokenizer does something that `byte_pairs` does not.
    """
    model = description["model"]
    if not cuts_as_gpt2(description) or not _says(model, _PLAIN_MODEL):
        return None
    if not all(symbol in model["vocab"] for symbol in byte_symbols()):
        return None
    tables = _Tables(model["vocab"], model["merges"], next(iter(description["added_tokens"]), None))
    return tables.encode


def _says(description: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether the settings are as wanted; an empty text, or none, is as good as null."""
    return all((description.get(name) or None) == (wanted[name] or None) for name in wanted)


def byte_symbols() -> list[str]:
    """The characters that stand for the bytes 0 to 255 in byte-level vocabularies.

    Printable Latin-1 characters stand for themselves, the other bytes for the characters from 256
    on (Radford et al., 2019).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


@functools.cache
def character_classes() -> np.ndarray:
    """The class of every code point, (0x110000,) uint8, as the library's own regular expressions
    have it: Python's Unicode tables may be of another year."""
    import tokenizers

    from . import byte_pairs

    def runs(pattern: str, text: str, behavior: str) -> list[tuple[int, int]]:
        regex = tokenizers.Regex(pattern)
        cutter = tokenizers.pre_tokenizers.Split(regex, behavior, invert=behavior == "removed")
        return [place for _, place in cutter.pre_tokenize_str(text)]

    codes = np.r_[0:0xD800, 0xE000:ASSIGNED]  # halves of UTF-16 pairs are no text
    text = "".join(map(chr, codes))
    places = runs(r"\p{L}+|\p{N}+|\s+|[^\s\p{L}\p{N}]+", text, "isolated")
    firsts = "".join(text[start] for start, _ in places)  # neighbours are of different classes
    classes = np.full(0x110000, byte_pairs.OTHER, dtype=np.uint8)
    named = {r"\p{L}": byte_pairs.LETTER, r"\p{N}": byte_pairs.NUMBER, r"\s": byte_pairs.SPACE}
    for pattern, kind in named.items():
        for index, _ in runs(pattern, firsts, "removed"):
            start, end = places[index]
            classes[codes[start:end]] = kind
    return classes


class _Tables:
    """A vocabulary and its merges as `byte_pairs.encode` takes them."""

    def __init__(self, vocabulary: dict[str, int], merges: list, stop: dict | None) -> None:
        """`merges`: pairs, or texts with a space between the two; `stop`: the special token."""
        from ...compiled import uninterrupted  # Numba: only where a long text is to be encoded
        from . import byte_pairs

        self._code = byte_pairs
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
        columns = [[a for a, _ in pairs], [b for _, b in pairs], [a + b for a, b in pairs]]
        ids = [np.array([vocabulary[token] for token in c], dtype=np.int32) for c in columns]
        self.byte_ids = np.array([vocabulary[symbol] for symbol in byte_symbols()], dtype=np.int32)
        self.stop = np.frombuffer(stop["content"].encode() if stop else b"", dtype=np.uint8)
        self.stop_id = stop["id"] if stop else -1
        self.classes = character_classes()
        size = 1 << (4 * len(pairs)).bit_length()  # at most a quarter full: most pairs are unknown
        self.pairs = np.zeros(size, dtype=np.uint64)
        self.merges = np.full((size, 2), -1, dtype=np.int32)
        self._memory = threading.local()
        with uninterrupted():  # compiles both functions, where that was not done before
            byte_pairs.fill_pairs(*ids, self.pairs, self.merges)
            self.encode("a")

    def encode(self, text: str) -> np.ndarray:
        """Text -> int32 ids of shape (T,)."""
        content = np.frombuffer(text.encode(), dtype=np.uint8)
        memory, code = self._memory, self._code
        if not hasattr(memory, "keys"):  # this thread's first call
            memory.keys = np.zeros((code.SLOTS + 1, code.KEY_WORDS), dtype=np.uint64)
            memory.known = np.zeros((code.SLOTS, 1 + code.MOST_IDS), dtype=np.int32)
        # Pages of these are only taken up where they are written to: by long words.
        links = np.empty((3, content.size), dtype=np.int32)
        heap = np.empty(3 * content.size, dtype=np.uint64)
        out = np.empty(content.size, dtype=np.int32)
        count = code.encode(
            content,
            self.stop,
            self.stop_id,
            self.classes,
            self.byte_ids,
            self.pairs,
            self.merges,
            memory.keys,
            memory.known,
            links,
            heap,
            out,
        )
        return out[:count].copy()
