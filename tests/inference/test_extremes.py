"""The engine at the edges: odd sizes, many threads, very large numbers, and what is none."""

import numpy as np
import pytest

from minigpt_tf.config import ModelConfig, SamplingConfig
from minigpt_tf.errors import ModelFolderError
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.key_value_cache import Cache
from minigpt_tf.inference.scheduling import Scheduler
from minigpt_tf.inference.weight_layout import lay_out_weights
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.conftest import tiny_config
from tests.inference.exact_weights import compact_from, random_weights, same_bits, token_by_token

SWITCHES = {"norm": "rms", "activation": "swiglu", "positions": "learned", "use_bias": False}
SWITCHES |= {"qkv_bias": False, "norm_first": True, "tie_embeddings": True, "num_layers": 1}
SIZES = {"vocab_size": 20, "context_length": 8, "embed_dim": 16, "ff_dim": 16}
SIZES |= {"num_heads": 2, "num_kv_heads": 2, "head_dim": 4}


def edge_config(**sizes):
    return ModelConfig(**{**SWITCHES, **SIZES, **sizes})


@pytest.mark.parametrize(
    "sizes",
    [
        {"vocab_size": 2},
        {"vocab_size": 3},
        {"vocab_size": 33, "tie_embeddings": False},
        {"head_dim": 1},
        {"head_dim": 33},
        {"ff_dim": 1},
        {"embed_dim": 1, "num_heads": 1, "num_kv_heads": 1, "head_dim": 1},
        {"context_length": 1},
        {"context_length": 33},
    ],
    ids=str,
)
def test_odd_sizes_and_more_threads_than_work(sizes):
    config, random = edge_config(**sizes), np.random.default_rng(0)
    weights = random_weights(config, random)
    ids = random.integers(0, config.vocab_size, config.context_length)
    expected = token_by_token(Engine(config, weights, threads=1), ids)
    assert np.isfinite(expected).all() and expected.any()
    for threads in (2, 7, 40):
        assert same_bits(Engine(config, weights, threads=threads).all_logits(ids), expected)
    rounded = lay_out_weights(weights, config, "test", "int8")
    one, many = (Engine(config, rounded, threads=number) for number in (1, 40))
    assert same_bits(many.all_logits(ids), token_by_token(one, ids))
    assert np.abs(many.all_logits(ids) - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("left", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_what_a_row_of_a_cache_held_before_is_never_read(left, quantize):
    config = edge_config(context_length=80)
    weights = random_weights(config, np.random.default_rng(0))
    laid_out = lay_out_weights(weights, config, "test", quantize)
    engine, ids = Engine(config, laid_out, threads=3), np.arange(70) % 20
    expected = token_by_token(engine, ids)
    for length in (1, 31, 32, 33, 70):
        cache = Cache(config, 2)
        cache.keys[...] = cache.values[...] = left
        assert same_bits(engine.prefill(ids[:length], cache, 1), expected[length - 1])
        cache.values[1, :, :, :, length:] = left  # as behind drafts that were not taken
        for position in range(length, min(length + 3, 70)):
            found = engine.decode_batch([ids[position]], cache, [1])[0]
            assert same_bits(found, expected[position])


def test_an_answer_that_is_not_a_number_leaves_its_row_sound():
    """Token 5 makes infinite values in a model that is sound for all others."""
    tokenizer = train_tokenizer("char", ["abcdefghijklmnopqrstuvw"], vocab_size=20)
    config = edge_config(norm_first=False, tie_embeddings=False, context_length=64)
    weights = random_weights(config, np.random.default_rng(0))
    weights["token_embedding/embeddings"][5] = 3e38
    scheduler = Scheduler(Engine(config, weights, threads=2), tokenizer, rows=1)
    sampling = SamplingConfig(greedy=True, max_new_tokens=4, logit_bias={5: -1000.0})

    def answer(ids):
        request = scheduler.submit(ids, sampling)
        while not request.done:
            scheduler.step()
        return request.result()

    before = answer([7, 8, 9]).ids
    with pytest.raises(ModelFolderError, match="not"):
        answer([7, 8, 5, *range(6, 20)])
    assert answer([7, 8, 9]).ids == before
    assert answer([7]).ids == answer([7]).ids


@pytest.mark.parametrize("size", [0.0, 1e-38, 1e-30, 1e-6, 1e6, 1e20, 1e30])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_very_small_and_very_large_weights(size):
    config = edge_config()
    weights = random_weights(config, np.random.default_rng(0))
    weights["block_0/feed_forward_up/kernel"] *= np.float32(size)
    weights["block_0/attention/query/kernel"] *= np.float32(min(size, 1))
    expected = Engine(config, weights, threads=1).all_logits([1, 2, 3])
    assert np.isfinite(expected).all()
    with compact_from(0):
        assert same_bits(Engine(config, weights, threads=1).all_logits([1, 2, 3]), expected)
    if size > 1e7:
        with pytest.raises(
            ModelFolderError, match=r"feed_forward_up.* has weights beyond 8,319,008"
        ):
            lay_out_weights(weights, config, "test", "int8")
    else:
        rounded = Engine(config, lay_out_weights(weights, config, "test", "int8"), threads=1)
        found = rounded.all_logits([1, 2, 3])
        assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_a_model_of_zeros():
    config = tiny_config("gpt2", vocab_size=20, context_length=8)
    weights = {name: 0 * values for name, values in random_weights(config).items()}
    with compact_from(0):
        for quantize in ("none", "int8"):
            engine = Engine(config, lay_out_weights(weights, config, "test", quantize))
            assert not engine.all_logits([1, 2, 3]).any()
