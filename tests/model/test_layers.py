"""Position layers and rotary attention against loops that follow the papers."""

import cmath
import math

import keras
import numpy as np
import pytest

from minigpt_tf.model import PositionalEncoding, RotaryAttention


def test_positional_encoding_follows_the_papers_formula():
    x = np.random.default_rng(0).normal(size=(2, 7, 10)).astype(np.float32)
    y = keras.ops.convert_to_numpy(PositionalEncoding(context_length=20)(x))
    for position in range(7):
        for dimension in range(10):
            angle = position / 10000 ** (2 * (dimension // 2) / 10)
            wave = math.cos(angle) if dimension % 2 else math.sin(angle)
            np.testing.assert_allclose(
                y[:, position, dimension], x[:, position, dimension] + wave, atol=1e-5
            )


def rotary(**settings):
    arguments = {"head_dim": 6, "num_query_heads": 4, "num_key_value_heads": 2}
    arguments |= {"context_length": 16, "rope_theta": 100.0, "qkv_bias": True, "use_bias": False}
    return RotaryAttention(**{**arguments, **settings})


def brute_force(layer, x):
    """Causal grouped attention with complex rotations, one number at a time."""
    weights = {w.path.split("/", 1)[1]: keras.ops.convert_to_numpy(w) for w in layer.weights}
    H, group = layer.head_dim, layer.num_query_heads // layer.num_key_value_heads
    T = len(x)

    def project(name, t, head):
        vector = x[t] @ weights[f"{name}/kernel"][:, head]
        return vector + weights[f"{name}/bias"][head] if layer.qkv_bias else vector

    def rotated(vector, t):
        turned = np.empty(H)
        for i in range(H // 2):
            angle = t * layer.rope_theta ** (-2 * i / H)
            z = complex(vector[i], vector[i + H // 2]) * cmath.exp(1j * angle)
            turned[i], turned[i + H // 2] = z.real, z.imag
        return turned

    output = np.zeros_like(x)
    for t in range(T):
        for head in range(layer.num_query_heads):
            q = rotated(project("query", t, head), t)
            keys = [rotated(project("key", s, head // group), s) for s in range(t + 1)]
            scores = np.array([q @ k for k in keys]) / math.sqrt(H)
            shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            mixed = sum(p * project("value", s, head // group) for s, p in enumerate(shares))
            output[t] += mixed @ weights["attention_output/kernel"][head]
        if layer.use_bias:
            output[t] += weights["attention_output/bias"]
    return output


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dropout": 0.1},
        {"use_bias": True, "qkv_bias": False},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1},
    ],
)
def test_rotary_attention_equals_a_brute_force_loop(settings):
    random = np.random.default_rng(0)
    x = random.normal(size=(1, 9, 8)).astype(np.float32)
    layer = rotary(**settings)
    layer.build(x.shape)
    for weight in layer.trainable_weights:
        weight.assign(random.normal(0, 0.5, weight.shape))
    y = keras.ops.convert_to_numpy(layer(x, training=False))[0]
    np.testing.assert_allclose(y, brute_force(layer, x[0].astype(np.float64)), atol=2e-5)


def test_rotary_scores_depend_on_the_distance_alone():
    """All tokens alike: attention is the same at every position, so outputs are equal."""
    layer = rotary()
    x = np.tile(np.random.default_rng(0).normal(size=(1, 1, 8)), (1, 5, 1)).astype(np.float32)
    y = keras.ops.convert_to_numpy(layer(x))[0]
    np.testing.assert_allclose(y, np.tile(y[:1], (5, 1)), atol=1e-5)
    query = np.random.default_rng(1).normal(size=(1, 12, 1, 6)).astype(np.float32)
    query[:] = query[:, :1]
    turned = keras.ops.convert_to_numpy(layer._rotate(query))[0, :, 0]
    scores = turned @ turned.T
    for distance in range(12):
        diagonal = np.diagonal(scores, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-4)
