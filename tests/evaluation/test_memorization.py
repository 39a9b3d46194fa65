"""Copies of the training text against a search by brute force."""

import numpy as np
import pytest

from minigpt_tf.errors import ConfigError, DataError
from minigpt_tf.evaluation import memorization
from minigpt_tf.evaluation.memorization import find_copied


def brute_force(texts, train, n):
    """Length of the longest run in common, and the share of n-grams."""

    def stands(run):
        return any(train[i : i + len(run)] == run for i in range(len(train) - len(run) + 1))

    runs = [t[i:j] for t in texts for i in range(len(t)) for j in range(i + 1, len(t) + 1)]
    longest = max((len(run) for run in runs if stands(run)), default=0)
    grams = [t[i : i + n] for t in texts for i in range(len(t) - n + 1)]
    return longest, sum(map(stands, grams)) / len(grams) if grams else None


@pytest.mark.parametrize("seed", range(60))
def test_random_texts(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(memorization, "CHUNK", int(rng.integers(1, 30)))  # runs span chunks
    size, n = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    train = rng.integers(0, size, rng.integers(0, 60)).astype(np.uint8)
    texts = [rng.integers(0, size + 1, rng.integers(1, 15)).tolist() for _ in range(3)]
    found = find_copied(texts, train, n)
    longest = found.longest.tolist()
    assert (len(longest), found.ngram_fraction) == brute_force(texts, train.tolist(), n)
    for inside in ([train.tolist()] * bool(longest), [t for t in texts if longest]):
        places = [t[i : i + len(longest)] for t in inside for i in range(len(t))]
        assert not longest or longest in places


def test_a_copy_across_two_pieces_of_a_long_text():
    train = np.random.default_rng(0).integers(0, 50_000, memorization.CHUNK + 500)
    copy = train[memorization.CHUNK - 40 : memorization.CHUNK + 30]
    found = find_copied([[1, 2, 3, *copy, 4, 5]], train.astype(np.uint16))
    assert found.longest.tolist() == copy.tolist()
    assert found.ngram_fraction == (70 - 7) / (75 - 7)


def test_equal_hashes_are_not_taken_for_copies(monkeypatch):
    monkeypatch.setattr(memorization._Hasher, "runs", lambda self, sums, length: 0 * sums[length:])
    found = find_copied([[1, 2, 3, 4]], np.array([5, 6, 7, 8]), n=2)
    assert len(found.longest) == 0 and found.ngram_fraction == 0


def test_repeated_n_grams_count_as_often_as_they_come():
    found = find_copied([[1, 2, 1, 2, 9]], np.array([7, 1, 2, 7]), n=2)  # 12 21 12 29
    assert found.ngram_fraction == 2 / 4 and found.longest.tolist() == [1, 2]


def test_texts_too_short():
    found = find_copied([[1, 2]], np.array([1, 2, 3]))
    assert found.ngram_fraction is None and found.longest.tolist() == [1, 2]
    with pytest.raises(DataError, match="no token that could be copied"):
        find_copied([[], []], np.array([1, 2, 3]))
    with pytest.raises(ConfigError, match="n=0"):
        find_copied([[1]], np.array([1]), n=0)
