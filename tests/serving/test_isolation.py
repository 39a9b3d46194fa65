"""The same request gives the same text, whatever else is served; nothing of another's is reused."""

import random
import threading

import pytest

from tests.serving.conftest import serving, wait_for


def together(jobs):
    """Runs functions at once, and gives their results in order."""
    results = [None] * len(jobs)

    def run(place):
        results[place] = jobs[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return results


def wish(number):
    pick = random.Random(number)
    system = "You are " + pick.choice(["short", "long-winded " * 8, "kind"]) + ". "
    return {
        "messages": [
            {"role": "system", "content": system + f"The secret is {number * 7919}."},
            {"role": "user", "content": "who is " + "a " * pick.randrange(30)},
        ],
        "seed": number,
        "temperature": pick.choice([0, 1.0, 1.4]),
        "max_tokens": pick.randrange(1, 40),
        "stop": pick.choice([None, "e"]),
        "presence_penalty": pick.choice([0, 0.7]),
        "top_p": pick.choice([1, 0.9]),
    }


@pytest.mark.parametrize("prefix_cache", [True, False])
@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_the_same_request_gives_the_same_text(models, prefix_cache, quantize):
    """In any order and any company, with what was computed before or without it."""
    from minigpt_tf.config import EngineConfig

    engine = EngineConfig(quantize=quantize)
    wishes = [wish(number) for number in range(16)]
    with serving(models / "talk", slots=1, prefix_cache=False, engine=engine) as server:
        alone = [server.say(**settings) for settings in wishes]
    settings = {"prefix_cache": prefix_cache, "engine": engine}
    with serving(models / "talk", slots=5, prefill_ms=1, **settings) as server:
        for turn in range(4):
            order = list(range(16))
            random.Random(turn).shuffle(order)
            ask = [lambda n=n: server.say(**wishes[n]) for n in order]
            ask[::2] = [lambda n=n: stream(server, wishes[n]) for n in order[::2]]
            found = together(ask)
            assert [found[order.index(n)] for n in range(16)] == alone
        reused = server.metric("minigpt_cached_tokens_total")
        assert (reused > 0) == prefix_cache
        wait_for(server.idle)


def stream(server, settings):
    events = server.stream("/v1/chat/completions", model="talk", **settings)
    return "".join(e["choices"][0]["delta"].get("content", "") for e in events)


def test_keys_do_not_share_what_was_computed(models, tmp_path):
    (tmp_path / "keys").write_text("ann key-of-ann\nbob key-of-bob  # a comment\n")
    with serving(models / "talk", slots=3, keys_file=str(tmp_path / "keys")) as server:

        def cached(key, text, **settings):
            server.client.headers["Authorization"] = f"Bearer {key}"
            usage = server.chat(text, max_tokens=1, seed=1, **settings)["usage"]
            return usage["prompt_tokens_details"]["cached_tokens"]

        said = "a secret of ann, which is long"
        assert cached("key-of-ann", said) == 0
        assert cached("key-of-bob", said) == 0  # idle rows of hers are not looked at
        assert cached("key-of-ann", said) > 10 and cached("key-of-bob", said) > 10
        assert cached("key-of-bob", said + " and more") > 10


def test_two_keys_that_ask_the_same_at_once_do_not_share_a_prefill(models, tmp_path, slowed):
    (tmp_path / "keys").write_text("ann key-of-ann\nbob key-of-bob\n")
    with serving(models / "talk", slots=4, keys_file=str(tmp_path / "keys")) as server:

        def cached(key):
            import httpx

            headers = {"Authorization": f"Bearer {key}"}
            messages = [{"role": "user", "content": "the same for both of them"}]
            body = {"model": "talk", "messages": messages, "max_tokens": 2}
            found = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers)
            return found.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

        assert together([lambda: cached("key-of-ann"), lambda: cached("key-of-bob")]) == [0, 0]


def test_answers_to_one_request_share_its_prefill_without_a_prefix_cache(models):
    with serving(models / "talk", slots=4, prefix_cache=False) as server:
        first = server.chat("the same", n=3, seed=1, max_tokens=3)
        again = server.chat("the same", n=3, seed=1, max_tokens=3)
        assert first["choices"] == again["choices"]
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_several_models_answer_at_once(server):
    """Each has a scheduler of its own; the texts are those of each alone."""
    jobs = [
        lambda: server.say(seed=1, max_tokens=30),
        lambda: server.complete("who is", model="words", seed=1, max_tokens=30)["choices"],
    ]
    assert together(jobs * 3) == [job() for job in jobs] * 3


def test_a_long_prompt_does_not_hold_up_a_running_answer(models, slowed):
    """While it is read in chunks, each step gives the running answer a token."""
    with serving(models / "talk", slots=2) as server:
        scheduler = server.state.models["talk"].scheduler
        scheduler.pace.seconds, scheduler.pace._tokens = None, 16
        steps, prefill = [], scheduler.engine.prefill_some

        def spy(ids, cache, row, most):
            waits = any(scheduler._lacking(*pair) == 1 for pair in scheduler._running())
            steps.append((most, waits))
            return prefill(ids, cache, row, most)

        scheduler.engine.prefill_some = spy
        thread = threading.Thread(target=server.say, kwargs={"seed": 1, "max_tokens": 100})
        thread.start()
        wait_for(lambda: any(ticket.tokens > 2 for ticket in server.state.tickets))
        server.say("a " * 200, max_tokens=1)
        thread.join(60)
        alongside = [most for most, waits in steps if waits]
        assert len(alongside) > 5 and max(alongside) <= 16
        wait_for(server.idle)


def test_all_rows_at_full_length_end_as_they_should(models):
    """The memory of one answer is not another's: none is ended for want of it."""
    with serving(models / "talk", slots=3) as server:
        jobs = [lambda n=n: server.chat("a", seed=n, max_tokens=500) for n in range(6)]
        for answer in together(jobs):
            usage = answer["usage"]
            assert usage["total_tokens"] == 256 or answer["choices"][0]["finish_reason"] == "stop"
