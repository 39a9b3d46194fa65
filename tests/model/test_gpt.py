"""The Keras model: sizes, causality, and each switch against something independent."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from minigpt_tf.config import ModelConfig
from minigpt_tf.config.presets import PRESETS, model_preset
from minigpt_tf.inference.weights import assign_weights, named_variables, weight_shapes, weights_of
from minigpt_tf.model import build_gpt_model
from minigpt_tf.model.causal_attention import causal_softmax
from tests.conftest import tiny_config

PARAMETERS = [
    ("lecture", {}, 13_085_576),
    ("lecture", {"num_layers": 5}, 13_085_576 + 2_630_144),
    ("lecture", {"num_layers": 96}, 255_058_824),
    ("gpt2", {}, 124_439_808),
    ("gpt2", {"tie_embeddings": False, "qkv_bias": False}, 163_009_536),
    ("gpt2", {"qkv_bias": False}, 124_412_160),
]


def logits_of(model, ids):
    return keras.ops.convert_to_numpy(model(np.asarray(ids), training=False))


def shaken(model, seed=0):
    """The model with every weight moved at random, so that nothing hides behind a 0 or a 1."""
    random = np.random.default_rng(seed)
    weights = weights_of(model)
    for name, weight in weights.items():
        spread = 0.3 if weight.ndim == 1 or "embeddings" in name else weight[..., 0].size ** -0.5
        weights[name] = weight + random.normal(0, spread, weight.shape).astype(np.float32)
    assign_weights(model, weights)
    return model


@pytest.mark.parametrize(("preset", "overrides", "count"), PARAMETERS)
def test_parameter_counts_from_the_sizes(preset, overrides, count):
    assert model_preset(preset, **overrides).parameter_count == count


@pytest.mark.parametrize(("preset", "overrides", "count"), PARAMETERS[:2] + PARAMETERS[3:])
def test_parameter_counts_of_the_built_model(preset, overrides, count):
    model = build_gpt_model(model_preset(preset, **overrides))
    assert model.count_params() == count
    if preset == "lecture":
        assert model.get_layer("block_0").count_params() == 2_630_144


@pytest.mark.parametrize("preset", ["shakespeare", "modern"])
@pytest.mark.parametrize("overrides", [{}, {"tie_embeddings": False, "logits_bias": True}])
def test_the_formula_counts_as_keras_does(preset, overrides):
    config = model_preset(preset, num_layers=2, **overrides)
    assert build_gpt_model(config).count_params() == config.parameter_count


@pytest.mark.parametrize("preset", PRESETS)
def test_weights_have_the_names_and_shapes_of_the_table(preset):
    config = model_preset(preset, vocab_size=50, num_layers=2)
    variables = named_variables(build_gpt_model(config))
    shapes = weight_shapes(config)
    assert {name: tuple(v.shape) for name, v in variables.items()} == shapes
    assert list(variables) == list(shapes)


def test_a_block_is_one_row_of_the_summary():
    model = build_gpt_model(tiny_config("lecture", vocab_size=30))
    names = [layer.name for layer in model.layers]
    expected = ["token_ids", "token_embedding", "position_encoding"]
    assert names == [*expected, "block_0", "block_1", "logits"]
    assert (
        type(model.get_layer("block_0").get_layer("block_0_attention"))
        is keras.layers.MultiHeadAttention
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_no_token_changes_the_logits_before_it(preset):
    config = tiny_config(preset, vocab_size=40, context_length=12)
    model = shaken(build_gpt_model(config, seed=1))
    ids = np.random.default_rng(0).integers(0, 40, (1, 12))
    before = logits_of(model, ids)
    for t in range(12):
        changed = ids.copy()
        changed[0, t] = (changed[0, t] + 1) % 40
        after = logits_of(model, changed)
        assert np.array_equal(before[0, :t], after[0, :t])
        assert np.abs(before[0, t:] - after[0, t:]).max(axis=-1).min() > 1e-6


@pytest.mark.parametrize("preset", PRESETS)
def test_a_prefix_has_the_logits_of_the_whole(preset):
    config = tiny_config(preset, vocab_size=40, context_length=12)
    model = shaken(build_gpt_model(config, seed=1))
    ids = np.random.default_rng(0).integers(0, 40, (3, 12))
    np.testing.assert_allclose(
        logits_of(model, ids[:, :5]), logits_of(model, ids)[:, :5], atol=1e-5
    )


def test_grouped_heads_equal_repeated_heads():
    """2 key/value heads for 4 query heads are 4 with the same weights twice each."""
    sizes = {"vocab_size": 30, "embed_dim": 16, "num_layers": 1, "num_heads": 4, "ff_dim": 32}
    switches = {"context_length": 10, "positions": "learned", "dropout": 0.0}
    grouped_config = ModelConfig(**sizes, **switches, num_kv_heads=2)
    grouped = shaken(build_gpt_model(grouped_config, seed=2))
    full = build_gpt_model(ModelConfig(**sizes, **switches))
    weights = weights_of(grouped)
    for name in list(weights):
        if "/key/" in name or "/value/" in name:
            weights[name] = np.repeat(weights[name], 2, axis=-2)
    assign_weights(full, weights)
    assert (
        type(full.get_layer("block_0").get_layer("block_0_attention"))
        is keras.layers.MultiHeadAttention
    )
    ids = np.random.default_rng(0).integers(0, 30, (2, 10))
    np.testing.assert_allclose(logits_of(grouped, ids), logits_of(full, ids), atol=1e-5)


def test_logits_are_float32_in_mixed_precision_and_close_to_float32s():
    for preset in ("lecture", "modern"):
        config = tiny_config(preset, vocab_size=40, context_length=12)
        exact = build_gpt_model(config, seed=1)
        mixed = build_gpt_model(config, dtype="mixed_bfloat16")
        assign_weights(mixed, weights_of(exact))
        ids = np.random.default_rng(0).integers(0, 40, (2, 12))
        logits = mixed(ids, training=True)
        assert logits.dtype == "float32"
        np.testing.assert_allclose(logits_of(mixed, ids), logits_of(exact, ids), atol=0.05)


def test_attention_softmax_is_float32_in_mixed_precision():
    """Of bfloat16 scores, the exact probabilities, rounded once: sums of 200 would show more."""
    scores = tf.cast(np.random.default_rng(0).normal(0, 3, (1, 2, 200, 200)), tf.bfloat16)
    found = causal_softmax(scores, 0.25)
    exact = np.tril(np.exp(0.25 * np.asarray(scores, np.float64)))
    exact /= exact.sum(-1, keepdims=True)
    assert found.dtype == tf.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float64), exact, rtol=2**-8, atol=1e-12)


def test_a_seed_fixes_the_initial_weights():
    config = tiny_config("lecture", vocab_size=30)
    first, same, other = (weights_of(build_gpt_model(config, seed=s)) for s in (1, 1, 2))
    name = "block_1/feed_forward_up/kernel"
    assert np.array_equal(first[name], same[name]) and not np.array_equal(first[name], other[name])
    assert not np.array_equal(first[name], first["block_0/feed_forward_up/kernel"])


@pytest.mark.parametrize("preset", PRESETS)
def test_an_untrained_model_knows_nothing(preset):
    """With small initial weights the loss is that of guessing, ln V."""
    config = model_preset(preset, vocab_size=200, context_length=32)
    logits = logits_of(build_gpt_model(config, seed=0), np.arange(32)[None])[0]
    shifted = logits - logits.max(-1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(32), np.arange(32) + 1]
    assert abs(losses.mean() - math.log(200)) < 0.35


@pytest.mark.parametrize("preset", PRESETS)
def test_an_h5_file_reloads_with_plain_keras(preset, tmp_path):
    config = tiny_config(preset, vocab_size=40, context_length=12)
    model = shaken(build_gpt_model(config, seed=1))
    model.save(tmp_path / "model.h5")
    reloaded = keras.models.load_model(tmp_path / "model.h5")
    ids = np.random.default_rng(0).integers(0, 40, (2, 12))
    assert np.array_equal(logits_of(model, ids), logits_of(reloaded, ids))
    assert list(weights_of(reloaded)) == list(weight_shapes(config))
