"""Texts cut into pieces: where the validation part begins, and where tokens cannot cross."""

import itertools
import random

import pytest

from minigpt_tf.text.chunks import rechunk, rechunk_splits, split_chunks

ALPHABET = "ab.'\n \t\u00a0\u2003\x1c日"


def pieces_of(text, size):
    return [text[start : start + size] for start in range(0, len(text), size)]


def random_texts(count=200):
    letters = random.Random(1)
    for _ in range(count):
        yield "".join(letters.choices(ALPHABET, k=letters.randrange(60)))


def split(text, val_split, whole_words, size):
    found = ["", ""]
    pieces = pieces_of(text, size)
    for part, piece in split_chunks(pieces, len(text), val_split, whole_words=whole_words):
        assert piece and not (part == 0 and found[1])
        found[part] += piece
    return tuple(found)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_split_takes_the_last_share_and_keeps_words_whole(size):
    assert split("0123456789", 0.3, False, size) == ("0123456", "789")
    assert split("0123456789", 0, True, size) == ("0123456789", "")
    assert split("0123456789", 0.3, True, size) == ("0123456789", "")
    assert split("alpha beta gamma", 0.5, True, size) == ("alpha beta", " gamma")


@pytest.mark.parametrize("val_split", [0.0, 0.1, 0.5, 0.999])
def test_split_does_not_depend_on_the_pieces(val_split):
    for text in random_texts():
        cut = int(len(text) * (1 - val_split))
        words = cut
        while 0 < words < len(text) and not text[words].isspace():
            words += 1
        for size in (1, 2, 7, 100):
            assert split(text, val_split, False, size) == (text[:cut], text[cut:])
            assert split(text, val_split, True, size) == (text[:words], text[words:])


@pytest.mark.parametrize("before", [" \n", " ", "", None])
def test_pieces_make_up_the_text_and_end_where_they_may(before):
    for text in random_texts():
        for given, size in [(1, 1), (2, 5), (5, 2), (100, 4), (100, 1000)]:
            cut = list(rechunk(pieces_of(text, given), size, before))
            assert "".join(cut) == text and "" not in cut
            if before is None:
                assert all(len(piece) <= size for piece in cut)
                continue
            for left, right in itertools.pairwise(cut):
                assert not left[-1].isspace() and right[0] in before and len(left) >= size


def test_a_piece_ends_at_the_first_place_where_it_may():
    assert list(rechunk(["ab cd ", "ef gh"], 3, " ")) == ["ab cd", " ef", " gh"]
    assert list(rechunk(["ab", " cd"], 2, " ")) == ["ab", " cd"]
    assert list(rechunk(["abc", "def"], 2, " ")) == ["abcdef"]


def test_parts_are_not_mixed():
    parts = [(0, "a b"), (0, " c"), (1, " d"), (1, " e")]
    assert list(rechunk_splits(parts, 100, " ")) == [(0, "a b c"), (1, " d e")]
    assert list(rechunk_splits(parts, 1, " ")) == [
        (0, "a"),
        (0, " b"),
        (0, " c"),
        (1, " d"),
        (1, " e"),
    ]
