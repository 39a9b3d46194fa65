"""Prompt -> text: prompts of every kind, streaming, the sliding context."""

import dataclasses
import itertools

import numpy as np
import pytest

from minigpt_tf.config import SamplingConfig
from minigpt_tf.errors import ConfigError, ModelFolderError
from minigpt_tf.inference.answer import Detokenizer, StopFilter
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.inference.key_value_cache import Cache
from minigpt_tf.inference.scheduling import ROWS
from minigpt_tf.inference.step_arrays import Place
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


def test_presence_and_frequency_count_the_answer_s_tokens(words):
    model, generator = make_generator(words, "gpt2", context_length=30)
    sampling = SamplingConfig(
        greedy=True, max_new_tokens=20, presence_penalty=0.25, frequency_penalty=0.125
    )
    prompt = words.encode("he was the son of").tolist()
    ids = list(prompt)
    for _ in range(20):
        logits = logits_of(model, [ids])[0, -1].copy()
        logits[words.suppressed_ids(60)] = -np.inf
        for token in set(ids[len(prompt) :]):
            logits[token] -= 0.25 + 0.125 * ids[len(prompt) :].count(token)
        ids.append(int(logits.argmax()))
    generation = generator.generate("he was the son of", sampling)
    assert generation.ids == ids[len(prompt) :]
    assert generation.ids != generator.generate("he was the son of", greedy=True).ids[:20]
    alone = generator.answer(prompt, sampling)
    for _ in generator.run([alone], Cache(generator.engine.config, 1)):
        pass
    assert alone.new_ids == generation.ids


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
    stream = Detokenizer(tokenizer, [5, 6])
    pieces = [stream.push(token_id) for token_id in tokenizer.encode(text).tolist()]
    assert "".join(pieces) == text and not any("\ufffd" in piece for piece in pieces)
    cut = Detokenizer(tokenizer, [])
    pieces = [cut.push(token_id) for token_id in tokenizer.encode("a😀").tolist()[:-1]]
    assert "".join(pieces) == "a" and cut.rest() == "\ufffd"


def test_an_end_token_ends_the_text():
    tokenizer = train_tokenizer("bpe", ["abc"], 300)
    _, generator = make_generator(tokenizer)
    end_id = next(iter(tokenizer.end_ids))
    weights = generator.engine.weights
    weights.biases[weights.layout[-1, Place.ROW] + end_id] = 1e6
    generation = generator.generate("abc", GREEDY)
    assert generation.ids == [] and generation.finish_reason == "end" and generation.text == ""


def test_logprobs_are_keras_s(words):
    model, generator = make_generator(words, context_length=12)
    generation = generator.generate("he was", SamplingConfig(seed=1, max_new_tokens=5, top_k=5))
    ids = words.encode("he was").tolist() + generation.ids
    logits = logits_of(model, [ids])[0].astype(float)
    expected = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    found = [expected[1 + step, token] for step, token in enumerate(generation.ids)]
    np.testing.assert_allclose(generation.logprobs, found, atol=1e-4)
    assert generator.generate("", GREEDY).logprobs[0] is None


@pytest.mark.parametrize("preset", ["lecture", "modern"])
def test_samples_are_what_single_answers_with_their_seeds_are(preset, words):
    """Also where some of them end before others, and where the context slides."""
    _, generator = make_generator(words, preset, context_length=10)
    sampling = SamplingConfig(seed=5, temperature=1.5, max_new_tokens=20, stop=("in",))
    samples = generator.generate_batch(["he was", "", "the river"], sampling, num_samples=4)
    singles = [
        generator.generate(prompt, dataclasses.replace(sampling, seed=5 + k))
        for prompt in ("he was", "", "the river")
        for k in range(4)
    ]
    assert len({len(sample.ids) for sample in samples}) > 1
    for sample, single in zip(samples, singles, strict=True):
        same = ("prompt", "ids", "text", "logprobs", "finish_reason")
        assert all(getattr(sample, name) == getattr(single, name) for name in same)


def test_samples_of_a_prompt_share_its_prefill(words):
    _, generator = make_generator(words, context_length=20)
    calls = []
    prefill = generator.engine.prefill_some
    generator.engine.prefill_some = lambda ids, *rest: calls.append([*ids]) or prefill(ids, *rest)
    generator.generate_batch(["he was", "the river"], GREEDY, num_samples=5)
    assert calls == [words.encode("he was").tolist(), words.encode("the river").tolist()]


def test_more_answers_than_fit_into_a_batch(words):
    _, generator = make_generator(words)
    texts = {g.text for g in generator.generate_batch(["he was"] * (ROWS + 3), GREEDY)}
    assert texts == {generator.generate("he was", GREEDY).text}
    with pytest.raises(ConfigError, match="num_samples=0"):
        generator.generate_batch(["he was"], GREEDY, num_samples=0)


def test_a_full_context_may_end_the_answer(words):
    _, generator = make_generator(words, context_length=8)
    sampling = dataclasses.replace(GREEDY, max_new_tokens=50, context_full="stop")
    slid = generator.generate("he was the", dataclasses.replace(GREEDY, max_new_tokens=6))
    generation = generator.generate("he was the", sampling)
    # Five more tokens fill the context, and one more can still be read off it.
    assert generation.finish_reason == "context" and generation.ids == slid.ids
    pieces = list(generator.stream("he was the", sampling))
    assert "".join(pieces) == generation.text
    batch = generator.generate_batch(["he was the", "he"], sampling)
    assert [g.finish_reason for g in batch] == ["context", "context"]
    assert len(batch[1].ids) == 8


STORY = "one day the king went out, and the kingdom was his. the end of it"


def through(stops, cuts):
    """What comes out for STORY in pieces that end at `cuts`."""
    stop_filter, edges = StopFilter(stops), [0, *cuts, len(STORY)]
    out = [stop_filter.push(STORY[a:b]) for a, b in itertools.pairwise(edges)]
    if not stop_filter.stopped:
        out.append(stop_filter.rest())
    assert "".join(out) == stop_filter.text
    return stop_filter, out


@pytest.mark.parametrize(
    "stops", [("kingdom",), ("kinglet",), ("the k", "out"), ("it",), ("x",), ()]
)
@pytest.mark.parametrize("seed", range(8))
def test_no_part_of_a_stop_string_gets_out(stops, seed):
    random = np.random.default_rng(seed)
    cuts = sorted(random.integers(0, len(STORY), random.integers(0, 30)).tolist())
    places = [STORY.find(stop) for stop in stops if stop in STORY]
    stop_filter, out = through(stops, cuts)
    assert stop_filter.text == STORY[: min(places, default=len(STORY))]
    assert stop_filter.stopped == bool(places)
    if not places:
        held = max((len(stop) - 1 for stop in stops), default=0)
        assert len("".join(out[:-1])) >= cuts[-1] - held if cuts else True


@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
def test_an_answer_ends_before_its_stop_string(kind):
    text = SAMPLE.read_text(encoding="utf-8")
    tokenizer = train_tokenizer(kind, [text], 300)
    _, generator = make_generator(tokenizer)
    sampling = SamplingConfig(max_new_tokens=40, seed=5)
    free = generator.generate("he", sampling)
    stop = free.text[11:14]
    stopping = dataclasses.replace(sampling, stop=(stop, "\x00never"))
    stopped = generator.generate("he", stopping)
    assert stopped.text == free.text[: free.text.find(stop)]
    assert stopped.finish_reason == "stop" and free.finish_reason == "length"
    assert stopped.ids == free.ids[: len(stopped.ids)]
    assert "".join(generator.stream("he", stopping)) == stopped.text


def test_a_stop_string_in_the_held_back_end_counts():
    tokenizer = CharTokenizer("ab")
    _, generator = make_generator(tokenizer)
    free = generator.generate("a", dataclasses.replace(GREEDY, max_new_tokens=4))
    stopped = generator.generate(
        "a", dataclasses.replace(GREEDY, max_new_tokens=4, stop=(free.text[-2:],))
    )
    assert stopped.finish_reason == "stop"
    assert stopped.text == free.text[: free.text.find(free.text[-2:])]


def test_a_conversation_sees_what_was_said(words):
    _, generator = make_generator(words, "gpt2", context_length=40)
    conversation = generator.conversation(GREEDY)
    first = "".join(conversation.reply("he was"))
    second = "".join(conversation.reply("the river"))
    assert first == generator.generate("he was", GREEDY).text
    whole = generator.generate(f"he was{first} the river", GREEDY)
    assert second == whole.text and conversation.ids == whole.prompt.ids + whole.ids
    conversation.reset()
    assert "".join(conversation.reply("he was")) == first


def test_a_long_conversation_forgets_its_beginning(words):
    _, generator = make_generator(words, "gpt2", context_length=12)
    conversation = generator.conversation(GREEDY)
    for _ in range(5):
        assert "".join(conversation.reply("he was the son of a clerk"))
    long = "he was the son of a clerk in the town of the river " * 3
    assert "".join(conversation.reply(long)) == generator.generate(long, GREEDY).text


def test_an_answer_that_was_stopped_stays_said(words):
    _, generator = make_generator(words, "gpt2", context_length=40)
    conversation = generator.conversation(GREEDY)
    pieces = conversation.reply("he was")
    said = [next(pieces), next(pieces)]
    pieces.close()
    assert words.decode(conversation.ids) == "he was" + "".join(said)
    assert "".join(conversation.reply("the"))


def test_logits_that_are_no_numbers_are_an_error(words):
    _, generator = make_generator(words)
    generator.engine.weights.biases[:] = 3e38
    with pytest.raises(ModelFolderError, match="logits are not numbers"):
        generator.generate("he was", GREEDY)


def test_streams_side_by_side_do_not_meet(words):
    _, generator = make_generator(words, "gpt2", context_length=12)
    alone = [generator.generate(prompt, GREEDY).text for prompt in ("he was", "the river")]
    streams = [generator.stream(prompt, GREEDY) for prompt in ("he was", "the river")]
    assert ["".join(pieces) for pieces in zip(*zip(*streams, strict=True), strict=True)] == alone


def test_a_prompt_of_nothing_in_the_smallest_context():
    _, generator = make_generator(CharTokenizer("abc"), context_length=1)
    conversation = generator.conversation(GREEDY)
    for prompt in ("a", "?", "abc", ""):
        assert "".join(conversation.reply(prompt))
