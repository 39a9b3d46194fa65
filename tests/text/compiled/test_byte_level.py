"""Byte pairs in compiled code against the `tokenizers` library, on text made to be difficult."""

import json
import random

import numpy as np
import pytest
import tokenizers

from minigpt_tf.text.compiled import byte_level, byte_pairs
from minigpt_tf.text.compiled.byte_level import (
    byte_symbols,
    character_classes,
    cuts_as_gpt2,
    fast_encoder,
)
from minigpt_tf.text.tokenizers import BytePairTokenizer
from tests.conftest import SAMPLE

PARTS = ["<|endoftext|>", "<|endoftext|", "<|", "it's", "'ll", "'s", "'S", "'re", "'v", "'", "  "]
PARTS += [" ", "\n", "\t", "\u00a0", "\u2003", "\x1c", "\u200b", "\x85", "the ", " of", "12", "½"]
PARTS += ["é", "e\u0301", "日本", "😀", "ß", "ا", "Ⅷ", "ǅ", "_", "...", "\x00", "\ufffd", "a" * 40]


def random_text(choices):
    """Words, white space and marks in any order; every other text has any characters at all."""
    parts = choices.choices(PARTS, k=choices.randrange(40))
    if choices.random() < 0.5:
        codes = (choices.randrange(0x110000) for _ in range(15))
        parts += (chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        choices.shuffle(parts)
    return "".join(parts)


def library_ids(tokenizer, text):
    return tokenizer.backend.encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module")
def small():
    return BytePairTokenizer.train([SAMPLE.read_text(encoding="utf-8"), *PARTS * 3], 600)


@pytest.mark.parametrize("kind", ["small", "gpt2"])
def test_ids_are_those_of_the_library(kind, small, gpt2_files):
    tokenizer = small if kind == "small" else BytePairTokenizer.gpt2()
    encode = fast_encoder(byte_level.describe(tokenizer.backend))
    choices = random.Random(7)
    for _ in range(1500):
        text = random_text(choices)
        assert encode(text).tolist() == library_ids(tokenizer, text), repr(text)
    assert encode("").tolist() == []


def test_words_are_remembered_and_forgotten_without_a_mistake(small, monkeypatch):
    """Many more words than there are slots, each met twice."""
    choices = random.Random(3)
    words = ["".join(choices.choices("abcdeé ", k=choices.randrange(1, 9))) for _ in range(20000)]
    encode = fast_encoder(byte_level.describe(small.backend))
    text = " ".join([*words, *words])
    assert encode(text).tolist() == library_ids(small, text)


@pytest.mark.parametrize("word", ["a", "ab", "the", "é", "日本", "."])
def test_a_word_without_end_is_merged_in_the_right_order(word, small):
    encode = fast_encoder(byte_level.describe(small.backend))
    for length in (20, 31, 32, 33, 20_000):
        text = (word * length)[:length]
        assert encode(text).tolist() == library_ids(small, text)


def test_character_classes_are_the_librarys():
    codes = [*range(0, 0x3000), *range(0x1E000, 0x20000), 0x3FFFF, *range(0x40000, 0x110000, 37)]
    kinds = {r"\p{L}": byte_pairs.LETTER, r"\p{N}": byte_pairs.NUMBER, r"\s": byte_pairs.SPACE}
    text = "".join(map(chr, codes))
    expected = np.full(len(codes), byte_pairs.OTHER)
    for pattern, kind in kinds.items():
        cutter = tokenizers.pre_tokenizers.Split(
            tokenizers.Regex(pattern), "removed", invert=True
        )  # each character of the kind on its own
        expected[[start for _, (start, _) in cutter.pre_tokenize_str(text)]] = kind
    assert np.array_equal(character_classes()[codes], expected)


def test_what_the_library_takes_for_space_python_does_too():
    """So a cut behind what Python does not take for space never lies within white space."""
    spaces = np.flatnonzero(character_classes() == byte_pairs.SPACE)
    assert len(spaces) > 20 and all(chr(code).isspace() for code in spaces)


def test_byte_symbols_are_those_of_the_library():
    assert set(byte_symbols()) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    cutter = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    symbols = byte_symbols()
    for text in ("".join(map(chr, range(0x80))), "é日😀ÿ\u07ff"):
        ((shown, _),) = cutter.pre_tokenize_str(text)
        assert shown == "".join(symbols[byte] for byte in text.encode())


def test_merges_are_read_in_the_old_form_too(small):
    description = byte_level.describe(small.backend)
    pairs = description["model"]["merges"]
    description["model"]["merges"] = [" ".join(pair) for pair in pairs]
    text = SAMPLE.read_text(encoding="utf-8")
    assert fast_encoder(description)(text).tolist() == library_ids(small, text)


@pytest.mark.parametrize(
    ("place", "value", "cuts"),
    [
        (("pre_tokenizer", "add_prefix_space"), True, False),
        (("pre_tokenizer", "use_regex"), False, False),
        (("pre_tokenizer",), None, False),
        (("normalizer",), {"type": "NFC"}, False),
        (("added_tokens", 0, "lstrip"), True, False),
        (("added_tokens", 0, "content"), "two words", False),
        (("model", "dropout"), 0.5, True),
        (("model", "ignore_merges"), True, True),
        (("model", "end_of_word_suffix"), "</w>", True),
    ],
)
def test_other_kinds_of_tokenizers_are_left_to_the_library(place, value, cuts, small):
    description = byte_level.describe(small.backend)
    assert cuts_as_gpt2(description)
    inner = description
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    assert cuts_as_gpt2(description) == cuts and fast_encoder(description) is None


def test_a_vocabulary_without_some_bytes_is_left_to_the_library(small):
    description = json.loads(small.backend.to_str())
    del description["model"]["vocab"][byte_symbols()[200]]
    assert fast_encoder(description) is None
