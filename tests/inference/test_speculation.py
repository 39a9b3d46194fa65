"""Guessed tokens change no answer: ids, texts and log probabilities are those without guesses."""

import numpy as np
import pytest

from minigpt_tf.config import EngineConfig, SamplingConfig
from minigpt_tf.errors import ConfigError
from minigpt_tf.inference import speculation
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.inference.speculation import PAUSE, Speculation, look_up
from minigpt_tf.inference.weight_layout import lay_out_weights
from minigpt_tf.inference.weights import weights_of
from minigpt_tf.model import build_gpt_model
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.conftest import tiny_config
from tests.model.test_gpt import shaken


@pytest.fixture(scope="module")
def generators():
    """The same model without guesses, with guesses of 8 bits, and with those of another model."""
    tokenizer = train_tokenizer("char", ["abcdefghijklmnopqrstuvwxyz ,."], 40)
    config = tiny_config("modern", vocab_size=tokenizer.vocab_size, context_length=48)
    weights = weights_of(shaken(build_gpt_model(config, seed=1)))
    other = weights_of(shaken(build_gpt_model(config, seed=2)))

    def make(draft=None, speculate="off"):
        generator = TextGenerator(Engine(config, weights), tokenizer, start_ids=[1])
        if draft is not None:
            generator.draft = Engine(config, lay_out_weights(draft, config, "test", "int8"))
        generator.speculate = speculate
        return generator

    return make(), make(weights, "5"), make(other, "3"), make(None, "11")


SETTINGS = {
    "greedy": {"greedy": True},
    "seeded": {"seed": 3},
    "penalties": {"seed": 4, "repetition_penalty": 1.3, "presence_penalty": 0.5},
    "ngram": {"greedy": True, "no_repeat_ngram": 2},
    "hot": {"seed": 5, "temperature": 1.5, "top_p": 1.0},
    "stop": {"seed": 6, "stop": ("e",)},
    "end of the context": {"seed": 7, "max_new_tokens": 100, "context_full": "stop"},
    "sliding": {"seed": 8, "max_new_tokens": 100},
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_answers_are_those_without_guesses(settings, generators):
    plain, *guessing = generators
    random = np.random.default_rng(0)
    for _ in range(6):
        prompt = "".join(random.choice(list("abcdefghijk "), int(random.integers(1, 40))))
        sampling = SamplingConfig(**{"max_new_tokens": 30, **SETTINGS[settings]})
        expected = plain.generate(prompt, sampling)
        for generator in guessing:
            found = generator.generate(prompt, sampling)
            assert (found.ids, found.text) == (expected.ids, expected.text)
            assert found.logprobs == expected.logprobs
            assert found.finish_reason == expected.finish_reason


def test_good_guesses_are_used_and_unseeded_answers_draw_with_the_same_numbers(generators):
    generator = generators[1]
    guesses = Speculation(generator.engine, generator.draft, "5")
    scheduler = generator.scheduler(1)
    scheduler._speculation = guesses
    for settings in ({"greedy": True}, {}):
        request = scheduler.submit([3, 4, 5], SamplingConfig(max_new_tokens=40, **settings))
        for _ in scheduler.follow(request):
            pass
        assert len(request.result().ids) == 40
    assert guesses.accepted > 0.5 * guesses.drafted > 10


def test_guesses_are_made_where_they_pay(generators):
    plain = generators[0]
    answer = plain.answer([1, 2, 3], SamplingConfig(greedy=True))

    def with_seconds_of_a_guess(seconds):
        guesses = Speculation(plain.engine, generators[1].draft, "auto")
        costs = guesses.costs
        for estimate in (costs.one, *costs.passes.values()):
            estimate.value = 1.0
        costs.guess.value, costs.guess.add = seconds, lambda value: None
        return guesses

    slow = with_seconds_of_a_guess(2.0)
    made = [len(slow.propose(answer, [1, 2, 3], 20)) for _ in range(100)]
    tried = [number for number, count in enumerate(made) if count]
    assert tried == [PAUSE, 3 * PAUSE + 1], "tried again after a pause, and then after a longer one"
    assert made[PAUSE] <= 3
    fast = with_seconds_of_a_guess(0.01)
    fast.costs.rates["draft"].value = 0.99
    assert 1 <= len(fast.propose(answer, [1, 2, 3], 20)) <= 11
    assert fast._best_count(20) == 11 and fast._best_count(5) == 5
    fast.costs.rates["draft"].value = 0.1
    fast.costs.guess.value = 0.1
    assert fast._best_count(20) == 0


def test_what_stood_there_before_is_looked_up():
    assert look_up([1, 2, 3, 4, 5, 1, 2, 3], 2) == [4, 5]
    assert look_up([1, 2, 3, 4, 1, 2, 3, 9, 8, 1, 2, 3], 5) == [9, 8, 1, 2, 3]
    assert look_up([7, 7, 7, 7, 7], 3) == [7]
    assert look_up([1, 2, 3, 4], 3) == [] == look_up([1, 2], 3)


def test_settings(trained_folder, monkeypatch):
    for wrong in ("0", "12", "fast", "-1"):
        with pytest.raises(ConfigError, match="choose auto, off, or a number from 1 to 11"):
            EngineConfig(speculate=wrong)
    small = TextGenerator.load(trained_folder)
    assert small.draft is None and small.scheduler(1)._speculation is None
    monkeypatch.setattr(speculation, "LARGE_BYTES", 1)
    loaded = {
        s: TextGenerator.load(trained_folder, EngineConfig(speculate=s)) for s in ("auto", "4")
    }
    assert all(g.draft is not None and g.draft.weights.integers for g in loaded.values())
    assert TextGenerator.load(trained_folder, EngineConfig(speculate="off")).draft is None
    int8 = TextGenerator.load(trained_folder, EngineConfig(quantize="int8"))
    assert int8.draft is None and int8.scheduler(1)._speculation is not None
