"""The scheduler: answers that come and go are what each would be alone."""

import dataclasses
import gc
import math
import random
import threading
import time
import weakref

import numpy as np
import pytest

from minigpt_tf import machine
from minigpt_tf.config import SamplingConfig
from minigpt_tf.errors import ConfigError
from minigpt_tf.events import NoticeLog
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.inference.key_value_cache import Cache
from minigpt_tf.inference.pacing import Pace
from minigpt_tf.inference.prompt import Prompt
from minigpt_tf.inference.rows import Row, choose_row, common_prefix
from minigpt_tf.inference.scheduling import ROWS, Scheduler, rows_within
from minigpt_tf.inference.weight_layout import lay_out_weights
from minigpt_tf.inference.weights import weights_of
from minigpt_tf.model import build_gpt_model
from minigpt_tf.text.tokenizers import WordTokenizer
from tests.conftest import SAMPLE, tiny_config
from tests.model.test_gpt import shaken

CONTEXT = 48


def make_generator(quantize="none"):
    words = WordTokenizer.train([SAMPLE.read_text(encoding="utf-8")], 60)
    config = tiny_config("modern", vocab_size=60, context_length=CONTEXT)
    weights = weights_of(shaken(build_gpt_model(config, seed=1)))
    engine = Engine(config, lay_out_weights(weights, config, "test", quantize))
    return TextGenerator(engine, words, [2, 3])


@pytest.fixture(scope="module")
def generator():
    return make_generator()


@pytest.fixture(scope="module")
def rounded_generator():
    return make_generator("int8")


def finish(scheduler):
    """All steps; the text of each request, put together from its events."""
    texts = {}
    while scheduler.unfinished:
        for event in scheduler.step():
            texts[event.request.number] = texts.get(event.request.number, "") + event.text
    return texts


def alone(generator, ids, sampling):
    """The answer of a request that is the only one there ever was."""
    scheduler = generator.scheduler(1)
    request = scheduler.submit(ids, sampling)
    finish(scheduler)
    return request.result()


def wishes(seed, number):
    """Prompts of all lengths, some with a common beginning, and settings of all kinds."""
    pick = random.Random(seed)
    system = [pick.randrange(2, 50) for _ in range(30)]
    for index in range(number):
        own = [pick.randrange(2, 50) for _ in range(pick.randrange(CONTEXT - 30))]
        ids = pick.choice([system, system[:7], []]) + own
        yield (
            ids,
            SamplingConfig(
                max_new_tokens=pick.choice([0, 1, 5, 12, 60]),
                greedy=pick.random() < 0.4,
                temperature=1.3,
                seed=index,
                repetition_penalty=pick.choice([1.0, 1.5]),
                stop=pick.choice([(), ("he",)]),
                context_full=pick.choice(["slide", "stop"]),
            ),
        )


@pytest.mark.parametrize("seed", range(50))
def test_an_answer_is_the_same_alone_and_among_others(seed, generator):
    assert_answers_are_those_alone(seed, generator)


@pytest.mark.parametrize("seed", range(0, 50, 5))
def test_so_it_is_with_int8_weights(seed, rounded_generator):
    assert_answers_are_those_alone(seed, rounded_generator)


def assert_answers_are_those_alone(seed, generator):
    """Whoever comes and goes meanwhile, in whatever order, prompts in pieces, rows reused."""
    pick = random.Random(seed)
    todo = list(wishes(seed // 5, 24))  # the same 24 in 5 different ways
    order = pick.sample(todo, len(todo))
    scheduler = Scheduler(
        generator.engine,
        generator.tokenizer,
        pick.choice([1, 3, 16]),
        start_ids=generator.start_ids,
        prefill_tokens=pick.choice([1, 5, 17, 100]),
    )
    requests, texts = [], {}
    while order or scheduler.unfinished:
        for ids, sampling in [order.pop() for _ in range(min(len(order), pick.choice([0, 1, 16])))]:
            requests.append((scheduler.submit(ids, sampling), ids, sampling))
        if pick.random() < 0.1 and requests:
            pick.choice(requests)[0].cancel()
        for event in scheduler.step():
            assert event.text or event.generation
            assert not event.request.canceled or event.generation
            texts[event.request.number] = texts.get(event.request.number, "") + event.text
    assert len(requests) == 24 and all(request.done for request, *_ in requests)
    for request, ids, sampling in requests:
        expected, found = alone(generator, ids, sampling), request.result()
        assert texts.get(request.number, "") == found.text
        if found.finish_reason == "canceled":
            assert request.canceled and found.ids == expected.ids[: len(found.ids)]
            continue
        same = ("ids", "text", "finish_reason", "logprobs")  # to the bit
        assert all(getattr(found, name) == getattr(expected, name) for name in same)


def recorded(engine, name, calls):
    """The engine's method, which first notes its arguments."""
    method = getattr(engine, name)

    def noting(*arguments, **named):
        calls.append((name, *arguments))
        return method(*arguments, **named)

    return noting


def test_a_long_prompt_holds_nobody_up(generator, monkeypatch):
    calls = []
    for name in ("prefill_some", "decode_batch"):
        monkeypatch.setattr(generator.engine, name, recorded(generator.engine, name, calls))
    scheduler = Scheduler(generator.engine, generator.tokenizer, 3, prefill_tokens=4)
    free = SamplingConfig(max_new_tokens=30, greedy=True)
    first = scheduler.submit([5, 6], free)
    scheduler.step()
    late = scheduler.submit(list(range(2, 44)), free)
    for step in range(11):  # 42 tokens, 4 in each step
        assert late.answer.new_ids == [] and len(first.answer.new_ids) == step + 2
        calls.clear()
        events = scheduler.step()
        assert [event.request for event in events if event.request is first] == [first]
        assert [name for name, *_ in calls] == ["prefill_some", "decode_batch"]
        assert (
            calls[0][-1] == min(4, 42 - 4 * step)
            and scheduler.cache.positions[1] <= 4 * (step + 1) + 1
        )
    assert len(late.answer.new_ids) == 2
    first.cancel()
    finish(scheduler)
    calls.clear()
    scheduler.submit(list(range(43, 1, -1)), free)
    scheduler.step()  # nobody is held up: longer chunks, which are faster
    assert [name for name, *_ in calls] == ["prefill_some"] and calls[0][-1] == 16
    assert late.result().ids == alone(generator, list(range(2, 44)), free).ids


def test_short_prompts_enter_together(generator):
    scheduler = Scheduler(generator.engine, generator.tokenizer, 4, prefill_tokens=12)
    free = SamplingConfig(max_new_tokens=30, greedy=True)
    requests = [scheduler.submit([number, 6, 7], free) for number in range(2, 6)]
    scheduler.step()  # a piece counts as a pass over the weights, of 16 tokens, at least
    assert [len(request.answer.new_ids) for request in requests] == [2, 2, 2, 0]


def test_first_come_first_served(generator):
    scheduler = generator.scheduler(2)
    sampling = [SamplingConfig(max_new_tokens=n, greedy=True) for n in (9, 2, 3, 1, 1)]
    requests = [scheduler.submit([5, 6], each) for each in sampling]
    began = []
    while scheduler.unfinished:
        scheduler.step()
        for request in requests:
            if request.began is not None and request not in began:
                began.append(request)
        assert scheduler.running <= 2
    assert began == requests


def test_a_row_is_free_as_soon_as_its_answer_ends(generator):
    """Batches of 2 would take 12 + 5 x 2 steps; no place stays empty in 16."""
    lengths = [12, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    scheduler = generator.scheduler(2)
    for length in lengths:
        scheduler.submit([5], SamplingConfig(max_new_tokens=length, greedy=True))
    steps = 0
    while scheduler.unfinished:
        scheduler.step()
        steps += 1
    assert steps == sum(lengths) / 2


@pytest.mark.parametrize("moment", ["waiting", "prefill", "decode"])
def test_a_canceled_request_is_gone_after_one_step(moment, generator):
    scheduler = Scheduler(generator.engine, generator.tokenizer, 1, prefill_tokens=4)
    free = SamplingConfig(max_new_tokens=30, greedy=True)
    request = scheduler.submit(list(range(2, 42)), free)
    if moment == "waiting":
        request, running = scheduler.submit([5, 6], free), request
    follower = scheduler.submit([7, 8], free)
    for _ in range({"waiting": 2, "prefill": 2, "decode": 5}[moment]):
        scheduler.step()
    so_far = list(request.answer.new_ids)
    assert bool(so_far) == (moment == "decode")
    with pytest.raises(ConfigError, match="not finished"):
        request.result()
    request.cancel()
    events = scheduler.step()
    assert [e.generation.finish_reason for e in events if e.request is request] == ["canceled"]
    assert request.done and request.result().ids == so_far
    if moment == "waiting":
        assert request.began is None and request.result().seconds == 0
        running.cancel()
        scheduler.step()
    # The follower has the row, and is already being generated.
    assert follower.answer.new_ids and scheduler.running == 1 and not scheduler.waiting
    finish(scheduler)
    assert follower.result().ids == alone(generator, [7, 8], free).ids


def test_an_error_ends_its_own_answer_alone(generator):
    scheduler = generator.scheduler(4)
    free = SamplingConfig(max_new_tokens=12, temperature=1.3, seed=3)
    requests = [scheduler.submit([5, number], free) for number in range(6)]
    choose = requests[2].answer.sampler
    left = iter(range(5))
    requests[2].answer.sampler = lambda *given: (next(left), choose(*given))[1]
    last = {}
    while scheduler.unfinished:
        for event in scheduler.step():
            last[event.request.number] = event
    for number, request in enumerate(requests):
        if number == 2:
            assert isinstance(last[2].error, StopIteration) and last[2].generation is None
            assert len(request.answer.new_ids) == 5
            with pytest.raises(StopIteration):
                request.result()
        else:
            assert last[number].generation == request.result() and request.error is None
            assert request.result().ids == alone(generator, [5, number], free).ids


def test_a_prompt_that_fails_ends_alone(generator, monkeypatch):
    prefill = generator.engine.prefill_some

    def failing(ids, *rest):
        if ids[0] == 9:
            raise MemoryError("no memory")
        return prefill(ids, *rest)

    monkeypatch.setattr(generator.engine, "prefill_some", failing)
    scheduler = generator.scheduler(4)
    free = SamplingConfig(max_new_tokens=3, greedy=True)
    requests = [scheduler.submit([number, 5], free) for number in (8, 9, 10)]
    finish(scheduler)
    assert [type(request.error) for request in requests] == [type(None), MemoryError, type(None)]
    with pytest.raises(MemoryError, match="no memory"):
        list(generator.generate_each([Prompt("", [n, 5], [], 0) for n in (8, 9)], free))


def test_what_a_row_has_is_not_computed_again(generator, monkeypatch):
    scheduler = generator.scheduler(2)
    sampling = SamplingConfig(max_new_tokens=6, greedy=True)
    first = scheduler.submit(list(range(2, 22)), sampling)
    finish(scheduler)
    assert first.cached_tokens == 0
    ids = [*first.answer.ids, 7, 8, 9]
    calls = []
    monkeypatch.setattr(
        generator.engine, "_run", recorded(generator.engine, "_run", calls)
    )  # what is really appended
    second = scheduler.submit(ids, sampling)
    scheduler.step()
    assert [list(given) for _, given, *_ in calls] == [ids[second.cached_tokens :]]
    assert second.cached_tokens == len(first.answer.ids) - 1  # nobody asked what follows the last
    finish(scheduler)
    assert scheduler.cache.positions.tolist() == [len(second.answer.ids) - 1, 0]
    assert second.result().ids == alone(generator, ids, sampling).ids


def test_a_common_beginning_is_computed_once(generator, monkeypatch):
    """Also where all come at once: its first prompt is complete before the others are looked at."""
    calls = []
    monkeypatch.setattr(generator.engine, "_run", recorded(generator.engine, "_run", calls))
    scheduler = generator.scheduler(8)
    sampling = SamplingConfig(max_new_tokens=4, greedy=True)
    system = list(range(2, 32))
    requests = [scheduler.submit([*system, 5, n, 7], sampling) for n in range(10, 18)]
    finish(scheduler)
    assert sum(len(ids) for _, ids, *_ in calls) == 33 + 7 * 2
    assert [request.cached_tokens for request in requests] == [0] + [31] * 7
    for n, request in zip(range(10, 18), requests, strict=True):
        assert request.result().ids == alone(generator, [*system, 5, n, 7], sampling).ids


def test_equal_prompts_share_one_prefill(generator, monkeypatch):
    """Those that come together, and with more of them than rows."""
    calls = []
    monkeypatch.setattr(generator.engine, "_run", recorded(generator.engine, "_run", calls))
    sampling = SamplingConfig(max_new_tokens=4, temperature=1.3, seed=1)
    prompt = Prompt("", list(range(2, 32)), [], 0)
    samples = generator.generate_batch([prompt], sampling, num_samples=ROWS + 4)
    assert [len(ids) for _, ids, *_ in calls] == [30]
    for number, sample in enumerate(samples):
        seeded = dataclasses.replace(sampling, seed=1 + number)
        assert sample.ids == alone(generator, prompt.ids, seeded).ids
    full = Prompt("", list(range(2, CONTEXT + 2)), [], 0)
    stopping = dataclasses.replace(sampling, context_full="stop")
    for sample in generator.generate_batch([full], stopping, num_samples=3):
        assert sample.finish_reason == "context" and len(sample.ids) == 1


def row_of(cache, row, ids):
    cache.ids[row, : len(ids)], cache.positions[row] = ids, len(ids)


def test_which_row_a_prompt_gets(generator):
    cache = Cache(generator.engine.config, 4)
    rows = [Row(number, used=used) for number, used in enumerate([5, 7, 6, 8])]
    row_of(cache, 0, [1, 2, 3, 4, 5])
    row_of(cache, 1, [1, 2, 3, 9])
    row_of(cache, 2, [1, 2])
    row_of(cache, 3, [7])
    assert [common_prefix(cache, row, np.array([1, 2, 3, 9, 8])) for row in range(4)] == [
        3,
        4,
        2,
        0,
    ]
    assert (
        common_prefix(cache, 1, np.array([1, 2, 3, 9])) == 3
    )  # the last one is computed, for its logits
    prompts = [[1, 2, 3, 9, 8], [1, 2, 3, 4, 6], [1, 2, 8], [6, 6], [7, 7]]
    chosen = [choose_row(cache, rows, ids).number for ids in prompts]
    assert chosen == [1, 0, 2, 0, 3]  # of equally long beginnings, the row that loses least
    # [1, 8] would drop most of what the rows have: the one that was unused the longest.
    assert choose_row(cache, rows[:2], [1, 8]).number == 0
    assert choose_row(cache, rows[1:2], [1, 8]).number == 1
    assert choose_row(cache, rows[1:], [6, 6]).number == 2


def test_impossible_requests_are_refused_at_once(generator):
    scheduler = generator.scheduler(1)
    free = SamplingConfig()
    for ids, sampling, words in (
        ([60], free, "prompt: token id 60 is outside the vocabulary of 60"),
        ([-1], free, "prompt: token id -1 is outside"),
        ([1.5], free, "prompt: expected token ids"),
        ([5] * 49, free, "the prompt has 49 tokens, the context 48: give a shorter prompt"),
        ([5], SamplingConfig(logit_bias={60: 1.0}), "logit_bias: token id 60 is outside"),
    ):
        with pytest.raises(ConfigError, match=words):
            scheduler.submit(ids, sampling)
    with pytest.raises(ConfigError, match="the prompt is empty"):
        Scheduler(generator.engine, generator.tokenizer, 1).submit([], free)
    assert not scheduler.unfinished and scheduler.step() == []
    exact = scheduler.submit([5] * 48, SamplingConfig(context_full="stop"))
    finish(scheduler)
    assert exact.result().finish_reason == "context" and len(exact.result().ids) == 1


def test_the_memory_is_bounded_and_said(generator, monkeypatch):
    config, log = generator.engine.config, NoticeLog()
    row = Cache.nbytes(config)
    filled = 32, 64  # of a head's 8 numbers, and of 48 positions
    assert (config.head_dim, CONTEXT) == (8, 48)
    assert row == 2 * 4 * config.num_layers * config.num_kv_heads * math.prod(filled)
    assert [rows_within(config, n * row + 1) for n in (0, 1, 5, 99)] == [1, 1, 5, ROWS]
    assert generator.scheduler(3, listener=log).rows == 3
    assert log.notices == [
        f"at most 3 answers at a time, of 48 tokens with the prompt: {3 * row / 2**30:.2f} GiB for "
        "their keys and values"
    ]
    assert generator.scheduler().rows == ROWS
    monkeypatch.setattr(machine, "memory_size", lambda: 4 * row)
    with pytest.raises(ConfigError, match=r"^the keys and values of 5 sequences of 48 tokens need"):
        generator.scheduler(5)
    with pytest.raises(ConfigError, match="rows=0: must be at least 1"):
        generator.scheduler(0)


def test_all_rows_may_be_full_at_once(generator):
    """The memory of one is not taken by another."""
    scheduler = generator.scheduler(4)
    long = SamplingConfig(greedy=True, max_new_tokens=100, context_full="stop")
    requests = [scheduler.submit([number] * 40, long) for number in range(2, 8)]
    finish(scheduler)
    for number, request in zip(range(2, 8), requests, strict=True):
        assert request.result().finish_reason == "context"
        assert request.result().ids == alone(generator, [number] * 40, long).ids


def test_nothing_is_kept_of_a_request_that_ended(generator):
    scheduler, known = generator.scheduler(2), []
    for number in range(30):
        request = scheduler.submit([5, 6], SamplingConfig(greedy=True, max_new_tokens=3))
        if number % 3 == 0:
            request.cancel()
        known.append(weakref.ref(request))
    del request
    finish(scheduler)
    gc.collect()
    assert not any(request() for request in known)


def test_prompts_may_come_from_anywhere(generator):
    sampling = SamplingConfig(greedy=True, max_new_tokens=3)
    texts = [g.text for g in generator.generate_each(iter(["he was", "the"]), sampling)]
    assert texts == [generator.generate(prompt, sampling).text for prompt in ("he was", "the")]
    assert list(generator.generate_each([], sampling)) == []


def test_threads_may_ask_while_one_steps(generator):
    scheduler, found, ended = generator.scheduler(4), {}, threading.Event()

    def work():
        while not ended.is_set():
            if scheduler.wait(0.01):
                for event in scheduler.step():
                    if event.generation:
                        found[event.request.number] = event.generation

    def ask(seed):
        for ids, sampling in wishes(seed, 8):
            request = scheduler.submit(ids, sampling)
            if sampling.greedy:
                request.cancel()
            asked.append((request, ids, sampling))

    asked = []
    worker = threading.Thread(target=work)
    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in [worker, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    while scheduler.unfinished:
        time.sleep(0.01)
    ended.set()
    worker.join()
    assert sorted(found) == list(range(32)) and not scheduler.wait(0)
    for request, ids, sampling in asked:
        if not sampling.greedy:
            assert found[request.number].ids == alone(generator, ids, sampling).ids


def test_answers_in_a_cache_of_the_caller_s(generator):
    """As version 0.1 had them; with `resume` the rows keep what they have."""
    sampling, cache = (
        SamplingConfig(greedy=True, max_new_tokens=6),
        Cache(generator.engine.config, 2),
    )
    for ids in ([5, 6, 7], [5, 6, 7, 8, 9]):
        answers = [generator.answer([*ids, number], sampling) for number in (10, 11)]
        chunks = list(generator.run(answers, cache, resume=len(ids) > 3))
        assert all(chunks) and len("".join(chunks)) == sum(len(answer.text) for answer in answers)
        for number, answer in zip((10, 11), answers, strict=True):
            assert answer.new_ids == alone(generator, [*ids, number], sampling).ids
    answers[0].sampler = lambda *_: 1 // 0
    answers[0].finish_reason = ""
    with pytest.raises(ZeroDivisionError):
        list(generator.run(answers[:1], cache))


def test_a_stream_that_is_left_frees_its_row(generator):
    scheduler = generator.scheduler(1)
    request = scheduler.submit([5, 6], SamplingConfig(greedy=True))
    chunks = scheduler.follow(request)
    next(chunks)
    chunks.close()
    other = scheduler.submit([7, 8], SamplingConfig(greedy=True, max_new_tokens=3))
    text = "".join(scheduler.follow(other))
    assert request.result().finish_reason == "canceled" and text == other.result().text


def test_a_pace_finds_how_many_tokens_take_a_given_time():
    pace = Pace(128, seconds=0.06)
    assert pace.tokens(alone=False) == 128 and pace.tokens(alone=True) > 128
    pace.measured(1, 0.01)  # a pass over the weights
    assert pace.tokens(alone=False) == 128
    pace.measured(100, 0.11)
    assert pace.tokens(alone=False) == 50  # with the pass, 0.06 seconds
    pace.measured(100, 30.0)  # once something else ran
    pace.measured(100, 0.11)
    assert pace.tokens(alone=False) == 50
    pace.others = 1  # another model's answers wait as well
    assert pace.tokens(alone=False) == pace.tokens(alone=True) == 20
    for _ in range(5):
        pace.measured(100, 100.0)
    assert pace.tokens(alone=False) == 16
    assert Pace(5).tokens(alone=False) == 5


def test_on_a_busy_machine_a_chunk_takes_as_long_as_a_pass_once_more():
    pace = Pace(128, seconds=0.06)
    for _ in range(5):
        pace.measured(1, 0.2)
        pace.measured(40, 0.4)
    assert pace.tokens(alone=False) == 40


def test_the_pace_is_known_before_the_first_request(generator):
    scheduler = generator.scheduler(2)
    scheduler.pace = Pace(10**6, seconds=1e-9)
    wanted = alone(generator, [5, 6, 7], SamplingConfig(greedy=True, max_new_tokens=3))
    scheduler.warm_up()
    assert scheduler.pace.tokens(alone=False) < 10**6
    request = scheduler.submit([5, 6, 7], SamplingConfig(greedy=True, max_new_tokens=3))
    finish(scheduler)
    assert request.result().ids == wanted.ids and request.cached_tokens == 0


def test_groups_share_nothing(generator):
    """Neither idle rows, nor running ones, nor a prefill; within a group all of it."""
    ids, sampling = list(range(2, 40)), SamplingConfig(greedy=True, max_new_tokens=4)
    wanted = alone(generator, ids, sampling)
    scheduler = generator.scheduler(4)
    found = [scheduler.submit(ids, sampling, group=group) for group in "aabb"]
    finish(scheduler)
    assert [request.cached_tokens for request in found] == [0, len(ids), 0, len(ids)]
    later = [scheduler.submit(ids, sampling, group=group) for group in "cab"]
    finish(scheduler)
    assert later[0].cached_tokens == 0
    assert [request.cached_tokens for request in later[1:]] == [len(ids) - 1] * 2
    for request in found + later:
        assert request.result().ids == wanted.ids
        assert request.result().logprobs == wanted.logprobs


def test_the_most_likely_tokens_of_each_place(generator):
    from minigpt_tf.metrics import log_softmax

    ids, sampling = [5, 6, 7], SamplingConfig(seed=1, temperature=1.5, max_new_tokens=5)
    scheduler = generator.scheduler(2)
    request = scheduler.submit(ids, sampling, num_alternatives=4)
    without = scheduler.submit(ids, sampling)
    finish(scheduler)
    assert request.result().ids == without.result().ids and not without.alternatives
    for place, token_id in enumerate(request.result().ids):
        logits = generator.engine.all_logits(ids + request.result().ids[:place])[-1]
        logprobs = log_softmax(logits.astype(np.float64))
        best = np.argsort(-logprobs, kind="stable")[:4]
        assert [i for i, _ in request.alternatives[place]] == best.tolist()
        found = [value for _, value in request.alternatives[place]]
        assert found == pytest.approx(logprobs[best].tolist(), abs=1e-5)
        assert request.result().logprobs[place] == pytest.approx(logprobs[token_id], abs=1e-5)


def test_touching_a_cache_changes_nothing(generator):
    cache = Cache(generator.engine.config, 2)
    logits = generator.engine.prefill([5, 6, 7], cache, 1)
    assert sum(1 for _ in cache.touch()) >= 2
    again = generator.engine.decode_batch([8], cache, [1])
    other = Cache(generator.engine.config, 1)
    generator.engine.prefill([5, 6, 7], other)
    assert (again == generator.engine.decode_batch([8], other)).all() and logits.any()
