"""The six steps from logits to the loss, by hand and against Keras."""

import keras
import numpy as np
import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.inspection.loss_steps import loss_steps


def test_a_table_worked_by_hand():
    steps = loss_steps(np.log([[1.0, 2.0, 1.0], [8.0, 1.0, 1.0]]), np.array([1, 2]))
    np.testing.assert_allclose(steps.probabilities, [[0.25, 0.5, 0.25], [0.8, 0.1, 0.1]])
    np.testing.assert_allclose(steps.target_probabilities, [0.5, 0.1])
    np.testing.assert_allclose(steps.log_probabilities, [-0.693147, -2.302585], atol=1e-6)
    assert steps.mean == pytest.approx(-1.497866) and steps.loss == -steps.mean


def test_the_loss_is_keras_s():
    random = np.random.default_rng(0)
    logits, targets = random.normal(0, 5, (7, 11)), random.integers(0, 11, 7)
    wanted = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(targets, logits)
    assert loss_steps(logits, targets).loss == pytest.approx(float(wanted), rel=1e-6)


def test_one_token_has_no_loss():
    with pytest.raises(DataError, match="two tokens"):
        loss_steps(np.zeros((0, 3)), np.array([], dtype=int))
