"""Distinct-n and loop rate against tables worked out by hand."""

import itertools

import pytest

from minigpt_tf.errors import ConfigError, DataError
from minigpt_tf.evaluation.repetition import distinct, in_loop, loop_rate


@pytest.mark.parametrize(
    ("texts", "shares"),
    [
        # a b a b c: 3 of 5; ab ba ab bc: 3 of 4; aba bab abc: 3 of 3; abab babc: 2 of 2
        (["ababc"], [3 / 5, 3 / 4, 1, 1]),
        # the four a: a of 4, aa of 3, aaa of 2, aaaa of 1
        (["aaaa"], [1 / 4, 1 / 3, 1 / 2, 1]),
        # "ab" and "abc": a b c of 5; ab bc of 3, none lies across; abc of 1
        (["ab", "abc"], [3 / 5, 2 / 3, 1, None]),
        (["", "a"], [1, None, None, None]),
    ],
)
def test_distinct_n(texts, shares):
    ids = [[ord(letter) for letter in text] for text in texts]
    for n, share in enumerate(shares, start=1):
        if share is None:
            with pytest.raises(DataError, match=f"no text has {n} tokens"):
                distinct(ids, n)
        else:
            assert distinct(ids, n) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("abcabd", "......"),
        ("aab", "..."),  # twice is not yet a loop
        ("aaab", "###."),
        ("xaaaay", ".####."),
        ("ababa", "....."),
        ("ababab", "######"),
        ("xabababay", ".#######."),  # the last time breaks off
        ("abcabcabc", "#########"),
        ("abcabcab", "........"),
        ("abccccdefefefe", "..####.#######"),
        ("aaabbb", "######"),
        ("aaabaaabaaab", "############"),
        ("", ""),
    ],
)
def test_tokens_in_loops(text, marks):
    flags = in_loop([ord(letter) for letter in text])
    assert "".join(".#"[int(flag)] for flag in flags) == marks


def by_definition(text):
    """Marks every place of every three equal neighbours."""
    flags = [False] * len(text)
    for n in range(1, len(text) + 1):
        for start in range(len(text) - 3 * n + 1):
            parts = {text[start + i * n : start + (i + 1) * n] for i in range(3)}
            if len(parts) == 1:
                flags[start : start + 3 * n] = [True] * (3 * n)
    return flags


def test_loops_are_those_of_the_definition_in_all_short_texts():
    for length in range(1, 11):
        for letters in itertools.product((0, 1), repeat=length):
            assert in_loop(letters).tolist() == by_definition(letters), letters


def test_loop_rate_counts_the_tokens_of_all_texts():
    assert loop_rate([[1, 1, 1, 2], [3, 4], [], [5, 5, 5, 5]]) == 7 / 10
    with pytest.raises(DataError, match="no token"):
        loop_rate([[], []])
    with pytest.raises(ConfigError, match="n=0"):
        distinct([[1]], 0)
