"""The compiled formulas against Python's math module, NumPy in float64 and Keras."""

import math

import keras
import numpy as np
import pytest

from minigpt_tf.inference import kernels
from minigpt_tf.inference.positions import rotary_tables

X = np.linspace(-9, 9, 2001, dtype=np.float32)


def test_gelu_is_close_to_the_exact_function():
    exact = np.array([0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in X.astype(float)])
    found = X.copy()
    kernels.gelu(found, found)
    assert np.abs(found - exact).max() < 3e-6


@pytest.mark.parametrize(
    ("ours", "keras_name", "arguments"),
    [
        ("relu", "relu", {}),
        ("gelu", "gelu", {}),
        ("gelu_tanh", "gelu", {"approximate": True}),
    ],
)
def test_activations_are_keras_s(ours, keras_name, arguments):
    expected = keras.ops.convert_to_numpy(getattr(keras.activations, keras_name)(X, **arguments))
    found = X.copy()
    kernels.ACTIVATIONS[ours](found, found)
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_swiglu_is_keras_s_silu_of_the_gate():
    found = np.full_like(X, 2.0)
    kernels.swiglu(found, X)
    expected = 2 * keras.ops.convert_to_numpy(keras.activations.silu(X))
    np.testing.assert_allclose(found, expected, atol=4e-6)


def test_no_activation_overflows():
    for activation in kernels.ACTIVATIONS.values():
        found, gate = np.float32([-1e4, 1e4]), np.float32([1.0, 1.0])
        activation(found, gate)
        assert np.isfinite(found).all()
    found = np.float32([1.0, 1.0])
    kernels.swiglu(found, np.float32([-1e4, 1e4]))
    assert abs(found[0]) < 1e-30 and found[1] == 1e4


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_softmax_is_that_of_float64_and_sees_no_future(scale):
    scores = (np.random.default_rng(0).standard_normal((5, 9)) * scale).astype(np.float32)
    found = scores.copy()
    kernels.causal_softmax(found, 4)
    for t in range(5):
        seen = np.exp(scores[t, : 5 + t].astype(float) - scores[t, : 5 + t].max())
        np.testing.assert_allclose(found[t, : 5 + t], seen / seen.sum(), rtol=3e-6, atol=1e-30)
        assert not found[t, 5 + t :].any()


def test_softmax_of_extremes():
    scores = np.float32([[1000.0, -1000.0, 1000.0], [-3e38, 3e38, 0.0], [5.0, -np.inf, 5.0]])
    kernels.causal_softmax(scores, 2)
    np.testing.assert_allclose(scores, [[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]], atol=1e-37)


def test_norms_by_hand():
    x, out = np.float32([[1.0, 3.0]]), np.zeros((1, 2), dtype=np.float32)
    norm = np.float32([[2.0, 1.0], [0.5, 0.0]])
    kernels.normalize(x, norm, np.float32(0), True, out)
    np.testing.assert_allclose(out, [[-1.5, 1.0]])
    norm[1] = 0
    kernels.normalize(x, norm, np.float32(4), False, out)
    np.testing.assert_allclose(out, [[2 / 3, 1.0]])


def test_a_rotation_keeps_lengths_and_turns_by_the_angle():
    cosines, sines = (t[:, :2].copy() for t in rotary_tables(5, 4, 100.0))
    heads = np.zeros((5, 2, 4), dtype=np.float32)
    heads[:, :, 1] = 1  # the second pair, which turns by position / 10
    kernels.rotate_tokens(heads, 1, cosines, sines)
    for position in range(5):
        angle = position / 10
        turned = [0, math.cos(angle), 0, math.sin(angle)]
        np.testing.assert_allclose(heads[position, 0], turned, atol=1e-6)
        assert heads[position, 1].tolist() == [0, 1, 0, 0]
