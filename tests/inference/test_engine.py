"""The engine against the Keras model, for every preset and for random configurations."""

import gc
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minigpt_tf.config import ModelConfig
from minigpt_tf.config.presets import PRESETS, model_preset
from minigpt_tf.errors import ConfigError, ModelFolderError
from minigpt_tf.inference.engine import CHUNK, Engine
from minigpt_tf.inference.key_value_cache import Cache
from minigpt_tf.inference.thread_pool import ThreadPool
from minigpt_tf.inference.weight_layout import lay_out_weights
from minigpt_tf.inference.weights import read_weights, weights_of
from minigpt_tf.model import build_gpt_model
from tests.conftest import ROOT, tiny_config
from tests.model.test_gpt import logits_of, shaken
from tests.switches import SWITCHES


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


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3["original_context_length"] = 12


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
        rope_scaling=pick.choice([None, {"factor": 2.0}, LLAMA3]),
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


@pytest.mark.parametrize("name", SWITCHES)
def test_logits_are_those_of_keras_for_each_switch(name):
    sizes = {"embed_dim": 20, "num_heads": 6, "num_kv_heads": 2, "head_dim": 10}
    config = tiny_config("modern", vocab_size=40, context_length=70, **sizes, **SWITCHES[name])
    assert_engine_agrees(config, 70)


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
def test_a_long_prompt_in_chunks_is_keras_s(preset):
    config = tiny_config(preset, vocab_size=30, context_length=2 * CHUNK + 40)
    model = shaken(build_gpt_model(config, seed=1))
    ids = np.random.default_rng(0).integers(0, 30, 2 * CHUNK + 30)
    expected = logits_of(model, ids[None])[0]
    engine = Engine.from_model(model, config)
    np.testing.assert_allclose(engine.all_logits(ids), expected, atol=1e-4)
    np.testing.assert_allclose(engine.prefill(ids[:-1]), expected[-2], atol=1e-4)
    np.testing.assert_allclose(engine.decode_step(ids[-1]), expected[-1], atol=1e-4)


PROMPTS = [[3], [5, 1, 4, 1, 5], list(range(12)), [7, 7]]


def one_by_one(engine, prompts, steps):
    """Greedy ids and logits of each prompt alone."""
    for prompt in prompts:
        logits, found = engine.prefill(prompt), []
        for _ in range(steps):
            found.append((int(logits.argmax()), logits))
            logits = engine.decode_step(found[-1][0])
        yield found


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_a_batch_of_ragged_prompts_is_to_the_bit_one_by_one(preset, quantize):
    config = tiny_config(preset, vocab_size=40, context_length=24)
    weights = weights_of(shaken(build_gpt_model(config, seed=1)))
    engine = Engine(config, lay_out_weights(weights, config, "test", quantize), threads=2)
    cache = Cache(config, len(PROMPTS))
    logits = [engine.prefill(prompt, cache, row) for row, prompt in enumerate(PROMPTS)]
    alone = list(one_by_one(engine, PROMPTS, 6))
    for step in range(6):
        ids = [int(after.argmax()) for after in logits]
        for row, found in enumerate(alone):
            assert ids[row] == found[step][0]
            assert np.array_equal(logits[row], found[step][1])
        logits = engine.decode_batch(ids, cache)
    assert cache.positions.tolist() == [len(prompt) + 6 for prompt in PROMPTS]


def test_some_rows_of_a_cache_go_on_and_others_stay():
    config = tiny_config("modern", vocab_size=40, context_length=24)
    engine = Engine.from_model(shaken(build_gpt_model(config, seed=1)), config)
    cache = Cache(config, 3)
    for row in range(3):
        engine.prefill([row, 5], cache, row)
    engine.decode_batch([7, 8], cache, [2, 0])
    assert cache.positions.tolist() == [3, 2, 3]
    after = engine.decode_batch([9, 9, 9], cache)
    for row, ids in enumerate([[0, 5, 8, 9], [1, 5, 9], [2, 5, 7, 9]]):
        assert np.array_equal(after[row], engine.prefill(ids))


def test_a_copied_row_goes_on_like_its_source():
    config = tiny_config("gpt2", vocab_size=40, context_length=24)
    engine = Engine.from_model(shaken(build_gpt_model(config, seed=1)), config)
    cache = Cache(config, 2)
    engine.prefill(list(range(11)), cache, 0)
    cache.copy(0, 1)
    first, second = engine.decode_batch([6, 6], cache)
    assert np.array_equal(first, second)
    cache.copy(0, 1, 7)
    assert cache.positions.tolist() == [12, 7]
    assert np.array_equal(engine.decode_batch([7], cache, [1])[0], engine.prefill([*range(8)]))


@pytest.mark.parametrize("threads", [1, 3, 5])
def test_the_number_of_threads_changes_no_bit(threads):
    config = tiny_config("modern", vocab_size=41, context_length=24, num_layers=2)
    model = shaken(build_gpt_model(config, seed=1))
    one, many = (Engine(config, weights_of(model), threads=number) for number in (1, threads))
    for _ in range(3):
        assert np.array_equal(one.prefill([3, 1, 2]), many.prefill([3, 1, 2]))


def test_resume_computes_only_what_is_new():
    config = tiny_config("gpt2", vocab_size=40, context_length=24)
    engine = Engine.from_model(shaken(build_gpt_model(config, seed=1)), config)
    engine.prefill([1, 2, 3, 4, 5])
    steps = []
    decode, engine._decode = (
        engine._decode,
        lambda ids, *rest: steps.append(len(ids)) or decode(ids, *rest),
    )
    resumed = engine.resume([1, 2, 3, 9, 8, 7])
    assert steps == [3] and engine.position == 6
    assert np.array_equal(resumed, engine.prefill([1, 2, 3, 9, 8, 7]))
    assert np.array_equal(engine.resume([1, 2]), engine.prefill([1, 2]))
    assert np.array_equal(engine.resume([4]), engine.prefill([4]))


@pytest.mark.parametrize("most", [1, 3, 21, 1000])
@pytest.mark.parametrize("preset", ["lecture", "modern"])
def test_a_prompt_in_parts_is_that_prompt(preset, most):
    config = tiny_config(preset, vocab_size=40, context_length=80)
    engine = Engine.from_model(shaken(build_gpt_model(config, seed=1)), config)
    cache, ids = Cache(config, 2), np.random.default_rng(0).integers(0, 40, 70)
    engine.prefill(ids[:30], cache, 1)  # it keeps these
    cache.ids[1, 20:] = 39 - ids[20]  # but not those, which are others
    expected, done = engine.prefill(ids), 20
    while (logits := engine.prefill_some(ids, cache, 1, most)) is None:
        done += most
        assert cache.positions.tolist() == [0, done]
    assert done + most >= 70 and cache.positions.tolist() == [0, 70]
    assert np.array_equal(logits, expected)
    assert np.array_equal(engine.prefill_some(ids, cache, 1, 1), expected)
    with pytest.raises(ConfigError, match="at least one id"):
        engine.prefill_some(ids[:0], cache, 1, most)


@pytest.mark.parametrize("ids", [[], [1.0, 2.0], [True], ["a"], [[1]]])
def test_ids_of_another_kind_are_refused(ids, engine):
    for run in (engine.prefill, engine.resume, engine.all_logits):
        with pytest.raises(ConfigError, match="expected"):
            run(ids)


def test_caches_and_rows_that_do_not_fit_are_refused(engine):
    other = Cache(tiny_config("lecture", vocab_size=30, context_length=3), 1)
    cache = Cache(engine.config, 2)
    for run in (
        lambda: engine.prefill([1], other),
        lambda: engine.resume([1], other),
        lambda: engine.decode_batch([1], other),
    ):
        with pytest.raises(ConfigError, match="does not fit this model"):
            run()
    for rows in ([0, 0], [0, 2], [-1, 0]):
        with pytest.raises(ConfigError, match="expected different ones of 0 to 1"):
            engine.decode_batch([1, 2], cache, rows)
    with pytest.raises(ConfigError, match="expected different ones"):
        engine.prefill([1], cache, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own():
    code = """
import os, sys, numpy as np
from minigpt_tf.config.presets import model_preset
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.weights import weight_shapes
config = model_preset("lecture", vocab_size=30, context_length=8, embed_dim=16, num_layers=1)
weights = {n: np.full(s, 0.1, np.float32) for n, s in weight_shapes(config).items()}
engine = Engine(config, weights, threads=3)
expected = [engine.prefill([1]), engine.decode_step(2)]
child = os.fork()
found = [engine.prefill([1]), engine.decode_step(2)]
assert np.array_equal(found, expected)
if child == 0:
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120)
    assert done.returncode == 0


def test_an_interrupted_call_leaves_the_pool_sound():
    """KeyboardInterrupt at every line of `run`, again and again."""
    config = tiny_config("lecture", vocab_size=30, context_length=4)
    engine = Engine(config, weights_of(build_gpt_model(config, seed=1)), threads=3)
    expected = engine.prefill([1, 2])
    lines = range(1, 40)
    first = ThreadPool.run.__code__.co_firstlineno
    interrupted = 0
    for line in lines:

        def trace(frame, event, argument, line=line):
            if frame.f_code is not ThreadPool.run.__code__:
                return None

            def inside(frame, event, argument):
                if event == "line" and frame.f_lineno == first + line:
                    sys.settrace(None)
                    raise KeyboardInterrupt
                return inside

            return inside

        sys.settrace(trace)
        try:
            engine.prefill([1, 2])
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(None)
        assert np.array_equal(engine.prefill([1, 2]), expected)
    assert interrupted >= 6


def test_threads_end_with_their_engine():
    def members():
        return sum(thread.name.startswith("minigpt-") for thread in threading.enumerate())

    config = tiny_config("lecture", vocab_size=30, context_length=4)
    gc.collect()
    before = members()
    engine = Engine(config, weights_of(build_gpt_model(config)), threads=4)
    engine.prefill([1])
    engine.prefill([1])
    assert members() == before + 3
    del engine
    gc.collect()
    deadline = time.monotonic() + 10
    while members() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert members() <= before


def test_many_threads_may_share_an_engine():
    """Each has a cache of its own; the steps wait for each other."""
    config = tiny_config("modern", vocab_size=40, context_length=24)
    engine = Engine(config, weights_of(shaken(build_gpt_model(config, seed=1))), threads=2)

    def run(prompt):
        cache = Cache(config, 1)
        logits = [engine.prefill(prompt, cache)]
        for _ in range(10):
            logits.append(engine.decode_batch([int(logits[-1].argmax())], cache)[0])
        return logits

    alone = [run(prompt) for prompt in PROMPTS]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, PROMPTS))
    assert np.array_equal(alone, together)


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
    with pytest.raises(ConfigError, match="2 ids for 1 sequences"):
        engine.decode_batch([1, 2], Cache(engine.config, 1))


def test_a_cache_larger_than_memory_is_refused():
    config = tiny_config("lecture", vocab_size=30, context_length=2**31 - 1)
    with pytest.raises(ConfigError, match="keys and values of 1000 sequences of 2147483647 tokens"):
        Cache(config, 1000)


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
