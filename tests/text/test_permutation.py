"""The shuffled order: a permutation, for each seed and epoch another."""

import numpy as np
import pytest

from minigpt_tf.text.permutation import shuffled


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17, 100, 735, 4097])
def test_the_order_is_a_permutation(count):
    for epoch in range(3):
        order = shuffled(np.arange(count), count, seed=7, epoch=epoch)
        assert sorted(order.tolist()) == list(range(count))


def test_the_order_looks_random_and_depends_on_seed_and_epoch():
    orders = [shuffled(np.arange(1000), 1000, seed=s, epoch=e) for s, e in [(0, 0), (0, 1), (1, 0)]]
    for i, order in enumerate(orders):
        assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.15
        for other in orders[:i]:
            assert np.count_nonzero(order == other) < 20
