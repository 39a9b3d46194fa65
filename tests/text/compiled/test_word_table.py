"""Words in compiled code against the tokenizer that is checked against Keras's."""

import random

import numpy as np
import pytest

from minigpt_tf.text import tokenizers
from minigpt_tf.text.tokenizers import WordTokenizer
from tests.conftest import SAMPLE

PARTS = ["the", "The", "ΣΊΣΥΦΟΣ", "İstanbul", "STRASSE", "ß", "日本", "<OOV>", "oov", "can't", "é"]
PARTS += [" ", " ", "\n", "\t", ".", "--", "\u00a0", "\u2003", "\x1c", "😀", "\x0b", "ab", "b"]
TEXTS = [SAMPLE.read_text(encoding="utf-8"), " ".join(PARTS)]


@pytest.mark.parametrize("num_words", [30, 5000, None])
@pytest.mark.parametrize("oov_token", ["<OOV>", None])
def test_ids_are_those_of_the_tokenizer(num_words, oov_token):
    learned = WordTokenizer.train(TEXTS, 5000)
    words = learned.words if oov_token else learned.words[1:]
    tokenizer = WordTokenizer.from_words(words, num_words, oov_token)
    encode = tokenizer.chunk_encoder(tokenizers.LONG_TEXT)
    assert encode != tokenizer.encode
    choices = random.Random(5)
    for text in [*TEXTS, "", "...", *("".join(choices.choices(PARTS, k=30)) for _ in range(300))]:
        assert np.array_equal(encode(text), tokenizer.encode(text)), repr(text)


def test_other_separators_and_case_are_kept():
    settings = {"filters": "|", "lower": False, "split": ","}
    tokenizer = WordTokenizer.from_words(["<OOV>", "a b", "A b", "c"], None, **settings)
    encode = tokenizer.chunk_encoder(tokenizers.LONG_TEXT)
    assert encode("a b,A b|c,,d c").tolist() == [2, 3, 4, 1]
    wide = WordTokenizer.from_words(["<OOV>", "a"], None, filters="。")
    assert wide.chunk_encoder(tokenizers.LONG_TEXT) == wide.encode
