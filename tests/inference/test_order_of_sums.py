"""The engine's contract: a logit has the same bits whatever the batch, the threads, the storage,
the length of a prompt's chunks, and whether its tokens came as a prompt or one by one."""

import numpy as np
import pytest

from minigpt_tf.config.presets import PRESETS
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.key_value_cache import Cache
from minigpt_tf.inference.panels import Storage
from minigpt_tf.inference.weight_layout import lay_out_weights
from tests.conftest import tiny_config
from tests.inference.exact_weights import (
    QUANTIZED,
    engines,
    exact_weights,
    random_weights,
    same_bits,
    token_by_token,
)
from tests.inference.test_engine import random_config
from tests.switches import SWITCHES

STORAGES = {
    "bfloat16": Storage.BFLOAT16,
    "q8_0": Storage.BLOCKS8,
    "q4_0": Storage.BLOCKS4,
    "q4_1": Storage.BLOCKS4,
}


def assert_bits_hold(engine, expected, sequences, random):
    """Rows of a batch that begin at different times, with prompts in chunks, and go back."""
    rows = len(sequences)
    cache, order = Cache(engine.config, rows), random.permutation(rows)
    waiting, running = list(order), []
    while waiting or running:
        if waiting and (not running or random.random() < 0.5):
            row = waiting.pop()
            ids, most = sequences[row], int(random.integers(1, 14))
            length = int(random.integers(1, len(ids)))
            while (logits := engine.prefill_some(ids[:length], cache, row, most)) is None:
                pass
            assert same_bits(logits, expected[row][length - 1])
            running.append(row)
        chosen = [row for row in running if random.random() < 0.8]
        if chosen:
            random.shuffle(chosen)
            new = [sequences[row][cache.positions[row]] for row in chosen]
            found = engine.decode_batch(new, cache, chosen)
            for row, logits in zip(chosen, found, strict=True):
                assert same_bits(logits, expected[row][cache.positions[row] - 1])
        running = [row for row in running if cache.positions[row] < len(sequences[row])]
    for row in order[:3]:
        cut = int(random.integers(0, len(sequences[row])))
        cache.positions[row] = cut
        assert same_bits(engine.resume(sequences[row], cache, row), expected[row][-1])


def assert_contract_holds(config, kind, seed, rows):
    random = np.random.default_rng(seed)
    weights = exact_weights(random_weights(config, random), kind)
    full, compact = engines(config, weights)
    kept = {compact.weights.storage(index) for index in range(len(compact.weights.layout))}
    assert STORAGES[kind] in kept
    longest = config.context_length
    sequences = [
        random.integers(0, config.vocab_size, int(random.integers(2, longest + 1)))
        for _ in range(rows)
    ]
    expected = [token_by_token(full, ids) for ids in sequences]
    assert max(np.abs(logits).max() for logits in expected) > 0.1
    for threads in (1, 2, 3):
        for engine in engines(config, weights, threads):
            for ids, logits in zip(sequences, expected, strict=True):
                assert same_bits(engine.all_logits(ids), logits)
            assert_bits_hold(engine, expected, sequences, random)


@pytest.mark.parametrize("kind", QUANTIZED)
def test_bits_depend_on_nothing_but_the_text_and_the_weights(kind):
    config = tiny_config("modern", vocab_size=40, context_length=40)
    assert_contract_holds(config, kind, seed=1, rows=4)


@pytest.mark.parametrize("name", SWITCHES)
def test_bits_of_each_switch_hold(name):
    sizes = {"embed_dim": 40, "num_heads": 6, "num_kv_heads": 2, "head_dim": 10, "ff_dim": 72}
    config = tiny_config("modern", vocab_size=50, context_length=150, **sizes, **SWITCHES[name])
    assert_contract_holds(config, "bfloat16", seed=3, rows=8)


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
def test_bits_with_int8_weights_depend_on_no_more(preset):
    config, random = tiny_config(preset, vocab_size=40, context_length=40), np.random.default_rng(5)
    laid_out = lay_out_weights(random_weights(config, random), config, "test", "int8")
    sequences = [random.integers(0, 40, int(length)) for length in random.integers(2, 41, 16)]
    expected = [token_by_token(Engine(config, laid_out, threads=1), ids) for ids in sequences]
    for threads in (1, 2, 3):
        assert_bits_hold(Engine(config, laid_out, threads=threads), expected, sequences, random)


@pytest.mark.parametrize("seed", range(4))
def test_bits_of_random_models_hold(seed):
    kind = list(QUANTIZED)[seed % len(QUANTIZED)]
    assert_contract_holds(random_config(seed), kind, seed, rows=(1, 5, 16, 9)[seed % 4])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kind", QUANTIZED)
def test_bits_of_each_preset_hold(preset, kind):
    wide = {"embed_dim": 48, "ff_dim": 72, "num_heads": 4, "head_dim": 12}
    wide["num_kv_heads"] = 2 if preset == "modern" else 4
    config = tiny_config(preset, vocab_size=50, context_length=210, **wide)
    assert_contract_holds(config, kind, seed=7, rows=16)
