"""The compiled formulas against Python's math module, NumPy in float64 and Keras."""

import math

import keras
import numpy as np
import pytest

from minigpt_tf.inference.positions import rotary_tables
from tests.inference.compiled_formulas import (
    ACTIVATIONS,
    gelu,
    normalize,
    quantize,
    rotate,
    swiglu,
    weigh,
)

X = np.linspace(-9, 9, 2001, dtype=np.float32)


def test_gelu_is_close_to_the_exact_function():
    exact = np.array([0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in X.astype(float)])
    found = X.copy()
    gelu(found, found)
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
    ACTIVATIONS[ours](found, found)
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_swiglu_is_keras_s_silu_of_the_gate():
    found = np.full_like(X, 2.0)
    swiglu(found, X)
    expected = 2 * keras.ops.convert_to_numpy(keras.activations.silu(X))
    np.testing.assert_allclose(found, expected, atol=4e-6)


def test_no_activation_overflows():
    for activation in ACTIVATIONS.values():
        found, gate = np.float32([-1e4, 1e4]), np.float32([1.0, 1.0])
        activation(found, gate)
        assert np.isfinite(found).all()
    found = np.float32([1.0, 1.0])
    swiglu(found, np.float32([-1e4, 1e4]))
    assert abs(found[0]) < 1e-30 and found[1] == 1e4


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_weights_of_attention_are_the_softmax_of_float64_and_see_no_future(scale):
    scores = (np.random.default_rng(0).standard_normal((5, 48)) * scale).astype(np.float32)
    found = scores.copy()
    weigh(found, 24, 5, 32, np.float32(0.5))
    for t in range(5):
        row = scores[t, : 25 + t].astype(float) / 2
        seen = np.exp(row - row.max())
        np.testing.assert_allclose(found[t, : 25 + t], seen / seen.sum(), rtol=3e-6, atol=1e-30)
        assert not found[t, 25 + t : 32].any()
        assert np.array_equal(found[t, 32:], scores[t, 32:])


def test_weights_of_extreme_scores():
    scores = np.full((3, 32), 7, dtype=np.float32)
    scores[:, :3] = [[1000.0, -1000.0, 1000.0], [-3e38, 3e38, 0.0], [5.0, -np.inf, 5.0]]
    for row in scores:
        weigh(row[None], 2, 1, 32, np.float32(1))
    expected = [[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]]
    np.testing.assert_allclose(scores[:, :3], expected, atol=1e-37)
    assert not scores[:, 3:].any()


def test_inputs_are_rounded_to_127_steps_of_each_block():
    random = np.random.default_rng(0)
    x = (
        random.standard_normal((3, 96)).astype(np.float32)
        * np.float32(10.0) ** np.arange(3)[:, None]
    )
    x[1, 32:64] = 0
    x = x.astype(np.float32)
    values = np.zeros((3, 96), dtype=np.int8)
    scales, sums = np.zeros((3, 3), dtype=np.float32), np.zeros((3, 3), dtype=np.int32)
    quantize(x, values, scales, sums)
    blocks = x.reshape(3, 3, 32)
    np.testing.assert_allclose(scales, np.abs(blocks).max(axis=2) / 127, rtol=1e-6)
    restored = values.reshape(3, 3, 32) * scales[:, :, None]
    assert (np.abs(restored - blocks) <= 0.501 * scales[:, :, None]).all()
    assert np.array_equal(sums, values.reshape(3, 3, 32).sum(axis=2))


def test_norms_by_hand():
    x, out = np.float32([[1.0, 3.0]]), np.zeros((1, 2), dtype=np.float32)
    norm = np.float32([[2.0, 1.0], [0.5, 0.0]])
    normalize(x, norm, 2, np.float32(0), True, out)
    np.testing.assert_allclose(out, [[-1.5, 1.0]])
    norm[1] = 0
    normalize(x, norm, 2, np.float32(4), False, out)
    np.testing.assert_allclose(out, [[2 / 3, 1.0]])


def test_a_rotation_keeps_lengths_and_turns_by_the_angle():
    cosines, sines = (t[:, :2].copy() for t in rotary_tables(5, 4, 100.0))
    heads = np.zeros((5, 2, 4), dtype=np.float32)
    heads[:, :, 1] = 1  # the second pair, which turns by position / 10
    for position in range(5):
        rotate(heads[position, :1], 4, cosines[position], sines[position])
        angle = position / 10
        turned = [0, math.cos(angle), 0, math.sin(angle)]
        np.testing.assert_allclose(heads[position, 0], turned, atol=1e-6)
        assert heads[position, 1].tolist() == [0, 1, 0, 0]
