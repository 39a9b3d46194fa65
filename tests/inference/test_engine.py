"""The engine against the Keras model, for every preset and for random configurations."""

import random

import numpy as np
import pytest

from minigpt_tf.config import PRESETS, ModelConfig, model_preset
from minigpt_tf.errors import ConfigError, ModelFolderError
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.weights import read_weights, weights_of
from minigpt_tf.model import build_gpt_model
from tests.conftest import tiny_config
from tests.model.test_gpt import logits_of, shaken


def assert_engine_agrees(config, length):
    model = shaken(build_gpt_model(config, seed=1))
    ids = np.random.default_rng(0).integers(0, config.vocab_size, length)
    expected = logits_of(model, ids[None])[0]
    engine = Engine.from_model(model, config)
    np.testing.assert_allclose(engine.all_logits(ids), expected, atol=1e-4)
    cached = [engine.prefill(ids[: length // 3])]
    cached += [engine.decode_step(token_id) for token_id in ids[length // 3 :]]
    np.testing.assert_allclose(cached, expected[length // 3 - 1 :], atol=1e-4)


@pytest.mark.parametrize("preset", PRESETS)
def test_logits_are_those_of_keras_for_each_preset(preset):
    assert_engine_agrees(model_preset(preset, vocab_size=60, context_length=24, num_layers=2), 24)


def random_config(seed):
    pick = random.Random(seed)
    num_kv_heads = pick.choice([1, 2])
    return ModelConfig(
        vocab_size=pick.randint(20, 60),
        context_length=24,
        embed_dim=pick.choice([12, 16, 20]),
        num_layers=pick.randint(1, 3),
        num_heads=num_kv_heads * pick.choice([1, 2, 3]),
        num_kv_heads=num_kv_heads,
        head_dim=pick.choice([4, 6, 10]),
        ff_dim=pick.choice([24, 40]),
        positions=pick.choice(["sinusoidal", "learned", "rotary"]),
        rope_theta=pick.choice([100.0, 10000.0, 500000.0]),
        norm=pick.choice(["layer", "rms"]),
        norm_first=pick.random() < 0.5,
        norm_epsilon=pick.choice([1e-6, 1e-5, 1e-3]),
        activation=pick.choice(["relu", "gelu", "gelu_tanh", "swiglu"]),
        use_bias=pick.random() < 0.5,
        qkv_bias=pick.random() < 0.5,
        logits_bias=pick.random() < 0.5,
        tie_embeddings=pick.random() < 0.5,
        dropout=pick.choice([0.0, 0.1]),
    )


@pytest.mark.parametrize("seed", range(16))
def test_logits_are_those_of_keras_for_random_switches(seed):
    assert_engine_agrees(random_config(seed), 21)


def test_a_sequence_leaves_nothing_behind_for_the_next():
    config = tiny_config("modern", vocab_size=30, context_length=12)
    model = shaken(build_gpt_model(config, seed=1))
    used, fresh = Engine.from_model(model, config), Engine.from_model(model, config)
    used.prefill(list(range(12)))
    used.prefill([5])
    fresh.prefill([5])
    assert np.array_equal(used.decode_step(3), fresh.decode_step(3))


def test_weights_from_the_file_are_those_of_the_model(tmp_path):
    config = tiny_config("gpt2", vocab_size=30, context_length=12)
    model = shaken(build_gpt_model(config, seed=1))
    model.save(tmp_path / "model.h5")
    read, live = read_weights(tmp_path / "model.h5", config), weights_of(model)
    assert read.keys() == live.keys()
    assert all(np.array_equal(read[name], live[name]) for name in live)


@pytest.fixture
def engine():
    config = tiny_config("lecture", vocab_size=30, context_length=4)
    return Engine.from_model(build_gpt_model(config, seed=1), config)


def test_impossible_calls_are_refused(engine):
    with pytest.raises(ConfigError, match="5 tokens do not fit into the context of 4"):
        engine.prefill([1, 2, 3, 4, 5])
    engine.prefill([1, 2, 3, 4])
    with pytest.raises(ConfigError, match="5 tokens do not fit"):
        engine.decode_step(1)
    with pytest.raises(ConfigError, match="token id 30 is outside the vocabulary of 30"):
        engine.prefill([1, 30])
    with pytest.raises(ConfigError, match="token id -1"):
        engine.prefill([-1])
    with pytest.raises(ConfigError, match="at least one id"):
        engine.prefill([])


def test_weights_that_do_not_fit_are_named():
    config = tiny_config("lecture", vocab_size=30)
    weights = weights_of(build_gpt_model(config))
    name = "block_1/attention/key/bias"
    for damaged, message in (
        ({n: w for n, w in weights.items() if n != name}, f"lacks the weight {name}"),
        (
            {**weights, "extra/kernel": np.zeros(3)},
            "beyond its configuration, the weight extra/kernel",
        ),
        ({**weights, name: np.zeros((3, 3))}, rf"{name} has shape \(3, 3\)"),
        ({**weights, name: np.full((2, 8), np.nan)}, f"{name} holds values that are not finite"),
    ):
        with pytest.raises(ModelFolderError, match=message):
            Engine(config, damaged)
