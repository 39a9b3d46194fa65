"""Recall, on engines whose answers are known."""

import numpy as np
import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.evaluation.recall import recall


class Reciter:
    """Stands in for an engine: knows a text of distinct ids by heart, except after one of them."""

    def __init__(self, size, forgets=None):
        self.size, self.forgets = size, forgets

    def prefill(self, ids):
        return self.decode_step(ids[-1])

    def decode_step(self, token_id):
        follows = 0 if token_id == self.forgets else token_id + 1
        return np.eye(self.size + 1)[follows]


def test_a_perfect_memory_recalls_everything():
    assert recall(Reciter(200), np.arange(200)) == 1


def test_a_slip_spoils_what_comes_after_it():
    ids = np.arange(28)  # one passage only: 8 given, 20 to go
    assert recall(Reciter(28, forgets=17), ids) == 10 / 20
    assert recall(Reciter(28, forgets=7), ids) == 0


def test_a_text_too_short_is_refused():
    with pytest.raises(DataError, match="27 tokens are too few for a passage of 28"):
        recall(Reciter(30), np.arange(27))
