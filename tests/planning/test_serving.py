"""Answers: how fast, and by how many machines."""

import pytest

from minigpt_tf.config.planning import UseConfig
from minigpt_tf.config.presets import model_preset
from minigpt_tf.errors import ConfigError
from minigpt_tf.inference.key_value_cache import Cache
from minigpt_tf.planning.bases import BASES
from minigpt_tf.planning.decoding import cache_bytes, decoding_of, read_parameters
from minigpt_tf.planning.machines import SHEETS
from minigpt_tf.planning.probe import Speed
from minigpt_tf.planning.serving import answer_seconds, gpu_server, sizing

SPEED = Speed(200e9, 400e9, 50e9, 30e9, 2350)


def test_keys_and_values_are_those_of_the_engine():
    model = BASES["SmolLM2-135M"]  # whose heads need no padding
    assert cache_bytes(model, model.context_length, 4) == Cache.nbytes(model)


def test_only_weights_in_products_are_read():
    lecture = model_preset("lecture")
    assert read_parameters(lecture) == lecture.parameter_count - 5000 * 256
    assert read_parameters(BASES["SmolLM2-135M"]) == 134_515_008


def test_decoding_reads_the_weights_once_a_token():
    model = BASES["SmolLM2-135M"]
    slow = decoding_of(model, SPEED, storage="float32", prompt=1, answer=2)
    assert 1 / slow.tokens_per_second == pytest.approx(4 * 134_515_008 / (0.9 * 30e9), rel=0.02)
    fast = decoding_of(model, SPEED, storage="int8", prompt=1, answer=2)
    assert 3 < fast.tokens_per_second / slow.tokens_per_second < 4
    long = decoding_of(model, SPEED, storage="int8", prompt=4000, answer=2)
    assert long.tokens_per_second < fast.tokens_per_second and long.memory > fast.memory


def test_more_answers_take_more_machines_and_a_batch_once_a_day_too():
    model, server = BASES["Llama-3.1-8B"], gpu_server(SHEETS["l4"])
    few = sizing(model, server, UseConfig(answers_per_day=1000))
    many = sizing(model, server, UseConfig(answers_per_day=10_000_000))
    once = sizing(model, server, UseConfig(answers_per_day=10_000, hours_per_day=0.1))
    assert few.copies == 1 and many.copies > 10 and once.copies > 1
    for found, use in ((few, UseConfig()), (many, UseConfig())):
        assert found.answer_seconds <= use.latency
        assert found.answers_per_second == pytest.approx(found.together / found.answer_seconds)
    weights = 2 * model.parameter_count  # 16 GB: one of 24 GB holds them
    assert few.per_copy * server.memory > weights


def test_a_latency_that_nothing_reaches_and_weights_that_nothing_holds():
    server = gpu_server(SHEETS["t4"])
    assert sizing(BASES["Llama-3.1-70B"], server, UseConfig(latency=1.0)) is None
    assert sizing(BASES["SmolLM2-135M"], server, UseConfig(latency=0.001)) is None


def test_an_answer_alone_is_bound_by_the_memorys_speed():
    model, sheet = BASES["Llama-2-7B"], SHEETS["a100"]
    use = UseConfig(prompt_tokens=1, answer_tokens=100)
    seconds = answer_seconds(model, gpu_server(sheet), use, 1, 1)
    assert seconds == pytest.approx(100 * 2 * 6.607e9 / (0.7 * 2039e9), rel=0.02)


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"answers_per_day": 0}, "answers_per_day=0: must be at least 1"),
        ({"hours_per_day": 25.0}, "a day has 24"),
        ({"latency": 0.0}, "latency=0.0: must be a positive number"),
    ],
)
def test_impossible_uses_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        UseConfig(**settings)
