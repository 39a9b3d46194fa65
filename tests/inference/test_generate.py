"""Prompt -> text: prompts of every kind, streaming, the sliding context."""

import dataclasses

import numpy as np
import pytest

from minigpt_tf.config import SamplingConfig
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.generate import TextGenerator, _TextOfIds
from minigpt_tf.model import build_gpt_model
from minigpt_tf.text.tokenizers import CharTokenizer, WordTokenizer, train_tokenizer
from tests.conftest import SAMPLE, tiny_config
from tests.model.test_gpt import logits_of, shaken


def make_generator(tokenizer, preset="lecture", context_length=8, vocab_size=None):
    config = tiny_config(
        preset, vocab_size=vocab_size or tokenizer.vocab_size, context_length=context_length
    )
    model = shaken(build_gpt_model(config, seed=1))
    return model, TextGenerator(Engine.from_model(model, config), tokenizer, [2])


@pytest.fixture
def words():
    return WordTokenizer.train([SAMPLE.read_text(encoding="utf-8")], 60)


GREEDY = SamplingConfig(greedy=True, max_new_tokens=6)


@pytest.mark.parametrize("preset", ["lecture", "gpt2", "shakespeare", "modern"])
def test_greedy_text_is_keras_s_most_likely_token_each_time(preset, words):
    model, generator = make_generator(words, preset, context_length=12)
    ids = words.encode("ramanujan was a").tolist()
    generation = generator.generate("Ramanujan was a", GREEDY)
    for _ in range(6):
        logits = logits_of(model, [ids])[0, -1].copy()
        logits[words.suppressed_ids(60)] = -np.inf
        ids.append(int(logits.argmax()))
    assert generation.ids == ids[3:]
    assert generation.text == " " + words.decode(ids[3:])
    assert generation.finish_reason == "length" and generation.prompt.ids == ids[:3]


def test_unknown_words_are_named_and_oov_is_never_generated(words):
    _, generator = make_generator(words, vocab_size=90)
    prompt = generator.prepare("who is Zaphod Beeblebrox")
    assert "not in the model's vocabulary: " in next(prompt.notices())
    assert "'zaphod', 'beeblebrox'" in next(prompt.notices())
    assert prompt.ids[-2:] == [1, 1]
    wild = SamplingConfig(temperature=100.0, max_new_tokens=400, seed=3)
    generation = generator.generate(prompt, wild)
    assert len(generation.ids) == 400 and "<OOV>" not in generation.text
    assert min(generation.ids) >= 2 and max(generation.ids) <= words.known_size


def test_a_long_prompt_keeps_its_end_and_says_so(words):
    _, generator = make_generator(words)
    long = "he was the son of a clerk in the town of the river " * 3
    prompt = generator.prepare(long)
    assert prompt.ids == words.encode(long).tolist()[-8:]
    assert (
        f"its first {len(words.encode(long)) - 8} tokens were dropped" in list(prompt.notices())[-1]
    )
    assert len(generator.generate(prompt, GREEDY).ids) == 6


@pytest.mark.parametrize("prompt", ["", "   ", "?!"])
def test_an_empty_prompt_starts_as_the_text_did(prompt, words):
    _, generator = make_generator(words)
    generation = generator.generate(prompt, GREEDY)
    assert generation.ids[0] == 2 and len(generation.ids) == 6
    assert generation.text == words.decode(generation.ids)


def test_nothing_asked_nothing_given(words):
    _, generator = make_generator(words)
    none = dataclasses.replace(GREEDY, max_new_tokens=0)
    assert generator.generate("he was", none).ids == []
    assert generator.generate("", none).text == ""


def test_a_full_context_slides_to_its_newer_half(words):
    model, generator = make_generator(words, context_length=8)
    ids = words.encode("he was the").tolist()
    generation = generator.generate("he was the", dataclasses.replace(GREEDY, max_new_tokens=12))
    window = list(ids)
    for token_id in generation.ids:
        logits = logits_of(model, [window])[0, -1].copy()
        logits[words.suppressed_ids(60)] = -np.inf
        assert token_id == int(logits.argmax())
        window.append(token_id)
        if len(window) > 8:
            window = window[-4:]


def test_a_context_of_one_token_works():
    tokenizer = CharTokenizer("abc")
    _, generator = make_generator(tokenizer, context_length=1)
    assert len(generator.generate("abc", GREEDY).ids) == 6


@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
def test_a_stream_s_pieces_are_the_whole_text(kind, words):
    text = SAMPLE.read_text(encoding="utf-8")
    tokenizer = train_tokenizer(kind, [text], 300)
    _, generator = make_generator(tokenizer)
    sampling = SamplingConfig(max_new_tokens=30, seed=5)
    pieces = list(generator.stream("he", sampling))
    assert len(pieces) > 10
    assert "".join(pieces) == generator.generate("he", sampling).text


@pytest.mark.parametrize("text", ["naïve 😀😀 日本語 x", "é", "plain words, and more of them"])
def test_a_stream_holds_back_half_characters(text):
    tokenizer = train_tokenizer("bpe", ["abc"], 300)  # every byte is a token of its own
    stream = _TextOfIds(tokenizer, [5, 6])
    pieces = [stream.push(token_id) for token_id in tokenizer.encode(text).tolist()]
    assert "".join(pieces) == text and not any("\ufffd" in piece for piece in pieces)
    cut = _TextOfIds(tokenizer, [])
    for token_id in tokenizer.encode("a😀").tolist()[:-1]:
        cut.push(token_id)
    assert cut.written == "a" and cut.rest() == "\ufffd"


def test_an_end_token_ends_the_text():
    tokenizer = train_tokenizer("bpe", ["abc"], 300)
    _, generator = make_generator(tokenizer)
    end_id = next(iter(tokenizer.end_ids))
    bias = generator.engine._head[1]
    bias[end_id] = 1e6
    generation = generator.generate("abc", GREEDY)
    assert generation.ids == [] and generation.finish_reason == "end" and generation.text == ""
