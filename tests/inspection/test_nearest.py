"""The passages of a training text that are nearest to a text, against all pairs of places."""

import numpy as np
import pytest

from minigpt_tf.inspection import nearest
from minigpt_tf.inspection.nearest import nearest_runs


def all_runs(ids, train_ids):
    """(bits, place in the training text, place in the text, length) of every shared run that can be
    continued on neither side."""
    counts = np.bincount(train_ids, minlength=int(max(ids)) + 1)
    found = []
    for i in range(len(train_ids)):
        for j in range(len(ids)):
            if i and j and train_ids[i - 1] == ids[j - 1]:
                continue
            length = 0
            while (
                i + length < len(train_ids)
                and j + length < len(ids)
                and train_ids[i + length] == ids[j + length]
            ):
                length += 1
            if length > 1:
                bits = sum(-np.log2(counts[t] / len(train_ids)) for t in ids[j : j + length])
                found.append((float(bits), i, j, length))
    return sorted(found, key=lambda run: (-round(run[0], 9), run[1], run[2]))


@pytest.mark.parametrize("chunk", [7, 40, 1 << 20])
@pytest.mark.parametrize("seed", range(6))
def test_runs_are_those_of_all_pairs_of_places(seed, chunk, monkeypatch):
    monkeypatch.setattr(nearest, "CHUNK", chunk)
    random = np.random.default_rng(seed)
    train_ids = random.integers(0, 9, 90).astype(np.uint16)
    ids = np.concatenate([train_ids[40:52], random.integers(0, 12, 9), train_ids[3:8]])
    wanted = all_runs(ids, train_ids)
    found = nearest_runs(ids, train_ids, count=4)
    assert found[0].bits == pytest.approx(wanted[0][0])
    assert found[0].length >= 12
    known = {run[1:] for run in wanted}
    for run in found:
        assert (run.train_start, run.text_start, run.length) in known
        same = train_ids[run.train_start : run.train_start + run.length]
        np.testing.assert_array_equal(same, ids[run.text_start : run.text_start + run.length])
    assert [run.bits for run in found] == sorted((run.bits for run in found), reverse=True)
    spans = [set(range(run.text_start, run.text_start + run.length)) for run in found]
    for i, later in enumerate(spans):
        assert all(not later <= earlier for earlier in spans[:i])


def test_a_rare_word_counts_for_more_than_a_frequent_one():
    train_ids = np.array([1, 1, 1, 1, 1, 2, 1, 1, 3, 4, 1, 1])
    first, second = nearest_runs(np.array([1, 1, 9, 3, 4]), train_ids)
    assert (first.train_start, first.length) == (8, 2)
    assert first.bits == pytest.approx(2 * np.log2(12)) and second.text_start == 0


def test_what_shares_nothing_has_no_passage():
    assert nearest_runs(np.array([8, 9]), np.array([1, 2, 3])) == []
    assert nearest_runs(np.array([1, 3]), np.array([1, 2, 3])) == []
    assert nearest_runs(np.array([], dtype=int), np.array([1])) == []
    assert nearest_runs(np.array([1]), np.array([], dtype=int)) == []
