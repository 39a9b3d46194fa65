"""The NumPy formulas against Python's math module and Keras."""

import math

import keras
import numpy as np
import pytest

from minigpt_tf.inference import kernels
from minigpt_tf.inference.positions import rotary_tables

X = np.linspace(-9, 9, 2001, dtype=np.float32)


def test_erf_is_close_to_the_exact_function():
    exact = np.array([math.erf(x) for x in X])
    assert np.abs(kernels.erf(X) - exact).max() < 5e-7


@pytest.mark.parametrize(
    ("ours", "keras_name", "arguments"),
    [
        (kernels.relu, "relu", {}),
        (kernels.gelu, "gelu", {}),
        (kernels.gelu_tanh, "gelu", {"approximate": True}),
        (kernels.silu, "silu", {}),
    ],
)
def test_activations_are_keras_s(ours, keras_name, arguments):
    expected = keras.ops.convert_to_numpy(getattr(keras.activations, keras_name)(X, **arguments))
    np.testing.assert_allclose(ours(X), expected, atol=2e-6)


def test_silu_does_not_overflow():
    assert kernels.silu(np.float32([-1e4, 1e4])).tolist() == [0.0, 1e4]


def test_softmax_by_hand():
    table = kernels.softmax(np.array([[0.0, math.log(3)], [1000.0, -np.inf]]))
    np.testing.assert_allclose(table, [[0.25, 0.75], [1, 0]])


def test_norms_by_hand():
    x = np.array([[1.0, 3.0]])
    gamma, beta = np.array([2.0, 1.0]), np.array([0.5, 0.0])
    np.testing.assert_allclose(kernels.layer_norm(x, gamma, beta, 0.0), [[-1.5, 1.0]])
    np.testing.assert_allclose(kernels.rms_norm(x, gamma, 4.0), [[2 / 3, 1.0]])


def test_a_rotation_keeps_lengths_and_turns_by_the_angle():
    cosines, sines = rotary_tables(5, 4, 100.0)
    x = np.zeros((5, 1, 4), dtype=np.float32)
    x[:, 0, 1] = 1  # the second pair, which turns by position / 10
    turned = kernels.rotate(x, cosines, sines)[:, 0]
    for position in range(5):
        angle = position / 10
        np.testing.assert_allclose(
            turned[position], [0, math.cos(angle), 0, math.sin(angle)], atol=1e-6
        )
