"""Clients that go, wait or do not read: their answers end, and nobody else notices."""

import random
import socket
import struct
import threading
import time

import httpx
import pytest

from tests.serving.conftest import request_bytes, serving, wait_for

LONG = "a " * 100
CHAT = "/v1/chat/completions"


def body_of(text="who is Hardy", **settings):
    messages = [{"role": "user", "content": text}]
    return {"model": "talk", "messages": messages, "max_tokens": 200, "temperature": 1.3} | settings


def vanish(connection: socket.socket) -> None:
    """Closes a connection as a machine that is switched off: without a farewell."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.fixture
def narrow(models, slowed):
    """A server of two slots, whose steps take a while."""
    with serving(models / "talk", slots=2, prefill_ms=1) as server:
        yield server


def ask(server, **settings) -> socket.socket:
    connection = server.raw()
    connection.sendall(request_bytes(CHAT, body_of(**settings)))
    return connection


def running(server) -> int:
    return server.state.models["talk"].scheduler.running


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_ends_its_answer(narrow, stream):
    connection = ask(narrow, stream=stream)
    wait_for(lambda: narrow.state.tickets and next(iter(narrow.state.tickets)).tokens > 3)
    vanish(connection)
    wait_for(narrow.idle, 2)
    assert running(narrow) == 0
    assert narrow.metric("minigpt_canceled_total", when="decode") == 1
    spent = narrow.metric("minigpt_completion_tokens_total")
    assert 3 < spent < 200
    time.sleep(0.1)
    assert narrow.metric("minigpt_completion_tokens_total") == spent


def test_a_client_that_goes_while_it_waits_never_starts(narrow):
    others = [ask(narrow, stream=True) for _ in range(2)]
    wait_for(lambda: running(narrow) == 2)
    waiting = [ask(narrow, stream=stream) for stream in (True, False)]
    wait_for(lambda: len(narrow.state.tickets) == 4)
    queued = [t for t in narrow.state.tickets if t.request.began is None]
    assert len(queued) == 2
    for connection in waiting:
        vanish(connection)
    wait_for(lambda: len(narrow.state.tickets) == 2, 2)
    assert all(ticket.request.began is None for ticket in queued)
    assert narrow.metric("minigpt_canceled_total", when="queued") == 2
    for connection in others:
        vanish(connection)
    wait_for(narrow.idle, 2)


def test_a_client_that_goes_while_its_prompt_is_read(narrow, monkeypatch):
    scheduler = narrow.state.models["talk"].scheduler
    monkeypatch.setattr(scheduler.pace, "seconds", None)
    monkeypatch.setattr(scheduler.pace, "_tokens", 1)
    connection = ask(narrow, text=LONG)
    wait_for(lambda: running(narrow) == 1)
    vanish(connection)
    wait_for(narrow.idle, 2)
    assert narrow.metric("minigpt_canceled_total", when="prefill") == 1
    assert narrow.metric("minigpt_completion_tokens_total") == 0


def test_a_cancellation_hits_nobody_else(models):
    with serving(models / "talk", slots=4) as server:
        settings = {"temperature": 1.3, "max_tokens": 40}
        alone = {seed: server.say(seed=seed, **settings) for seed in range(6)}
        pick = random.Random(5)
        for _ in range(6):
            texts: dict[int, str] = {}

            def follow(seed, texts=texts):
                texts[seed] = server.stream_text(seed=seed, **settings)

            threads = [threading.Thread(target=follow, args=(seed,)) for seed in range(6)]
            cut = [ask(server, stream=bool(n % 2), seed=n) for n in range(4)]
            for thread in threads:
                thread.start()
            for connection in cut:
                time.sleep(pick.random() * 0.02)
                vanish(connection)
            for thread in threads:
                thread.join(60)
            assert texts == alone
        wait_for(server.idle)


def test_a_client_that_reads_nothing_is_dropped_and_a_slow_one_gets_everything(models):
    """The one that does not read has a small window, and asks for more than fits into buffers."""
    with serving(models / "talk", slots=4, send_seconds=1.0, ping_seconds=0.3) as server:
        dead = socket.socket()
        dead.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        dead.connect(("127.0.0.1", server.state.port))
        body = body_of(stream=True, n=8, logprobs=True, top_logprobs=20, max_tokens=200)
        for _ in range(6):  # pipelined: more than the system's buffers take
            dead.sendall(request_bytes(CHAT, body))
        slow = ask(server, stream=True, seed=3, max_tokens=60)
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += slow.recv(400)
            time.sleep(0.002)
        assert b"[DONE]" in received
        slow.close()
        wait_for(server.idle, 30)
        dead.close()
        assert server.say(max_tokens=2, seed=1)


def test_a_stream_with_nothing_to_send_has_comments(models, slowed):
    with serving(models / "talk", slots=1, ping_seconds=0.2) as server:
        first, second = ask(server, stream=True), ask(server, stream=True)
        received = b""
        while b": \n\n" not in received:
            received += second.recv(4096)
        assert b"text/event-stream" in received and b'"content":""' in received
        vanish(first)
        vanish(second)
        wait_for(server.idle, 2)


def test_the_queue_has_an_end(models, slowed):
    with serving(models / "talk", slots=1, queue=2) as server:
        waiting = [ask(server, stream=True) for _ in range(3)]
        wait_for(lambda: len(server.state.tickets) == 3)
        began = time.perf_counter()
        found = server.post(CHAT, **body_of())
        assert found.status_code == 503 and time.perf_counter() - began < 2
        error = server.error_of(found)
        assert error["code"] == "server_overloaded" and error["type"] == "server_error"
        assert 1 <= int(found.headers["retry-after"]) <= 120
        for connection in waiting:
            vanish(connection)
        wait_for(server.idle, 2)
        assert server.say(max_tokens=1)
        assert server.post(CHAT, **body_of(n=4)).status_code == 400


def test_many_clients_get_an_answer_or_a_time_to_come_back(models):
    with serving(models / "talk", slots=4, queue=8) as server:
        found = []

        def one(seed):
            with httpx.Client(base_url=server.url, timeout=60) as client:
                found.append(client.post(CHAT, json=body_of(seed=seed, max_tokens=20)))

        threads = [threading.Thread(target=one, args=(seed,)) for seed in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        kinds = [response.status_code for response in found]
        assert len(kinds) == 50 and set(kinds) <= {200, 503} and kinds.count(200) >= 12
        assert all("retry-after" in r.headers for r in found if r.status_code == 503)
        wait_for(server.idle)


def test_openai_s_client_gets_through_a_full_queue(models):
    openai = pytest.importorskip("openai")
    with serving(models / "talk", slots=2, queue=2) as server:
        texts = []

        def one(seed):
            with openai.OpenAI(
                base_url=f"{server.url}/v1", api_key="none", max_retries=8
            ) as client:
                answer = client.chat.completions.create(**body_of(seed=seed, max_tokens=10))
                texts.append(answer.choices[0].message.content)

        threads = [threading.Thread(target=one, args=(seed,)) for seed in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(texts) == 10


def test_a_request_that_takes_too_long(models, slowed, monkeypatch):
    with serving(models / "talk", slots=1, request_seconds=0.5) as server:
        answer = server.chat(max_tokens=240, seed=1)
        assert 0 < answer["usage"]["completion_tokens"] < 240
        assert answer["choices"][0]["finish_reason"] == "length"
        scheduler = server.state.models["talk"].scheduler
        step = scheduler.step
        monkeypatch.setattr(scheduler, "step", lambda: (time.sleep(0.7), step())[1])
        error = server.refused(504, max_tokens=240)
        assert error["code"] == "timeout" and "0.5 seconds" in error["message"]
        wait_for(server.idle, 5)


def test_one_s_failure_is_not_another_s(models, monkeypatch):
    """The sampler of the request with seed 666 fails at its sixth token."""
    from minigpt_tf.inference import scheduling

    make = scheduling.make_sampler

    def failing(config, *rest):
        sampler = make(config, *rest)
        if config.seed != 666:
            return sampler

        def fail(logits, ids):
            if len(ids) > rest[-1] + 5:
                raise RuntimeError("a bug that says secret things")
            return sampler(logits, ids)

        return fail

    openai = pytest.importorskip("openai")
    with serving(models / "talk", slots=4) as server:
        settings = {"temperature": 1.3, "max_tokens": 30}
        alone = server.say(seed=1, **settings)
        monkeypatch.setattr(scheduling, "make_sampler", failing)
        error = server.refused(500, seed=666)
        assert error["code"] == "internal_error" and "secret" not in error["message"]
        texts = []
        thread = threading.Thread(
            target=lambda: texts.append(server.stream_text(seed=1, **settings))
        )
        thread.start()
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
        with pytest.raises(openai.APIError, match="the server failed"):
            for _ in client.chat.completions.create(**body_of(seed=666, stream=True)):
                pass
        connection = ask(server, seed=666, stream=True)
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(4096)
        assert b'"error"' in received and b"[DONE]" not in received
        thread.join(60)
        assert texts == [alone]
        wait_for(server.idle)


def test_a_step_that_fails_ends_its_answers_and_the_next_ones_come(models, monkeypatch):
    with serving(models / "talk", slots=2) as server:
        scheduler = server.state.models["talk"].scheduler
        decode, failures = scheduler._decode, [1]

        def fail_once():
            if failures:
                failures.pop()
                raise RuntimeError("the engine")
            decode()

        monkeypatch.setattr(scheduler, "_decode", fail_once)
        error = server.refused(500, max_tokens=20)
        assert "the server's log" in error["message"]
        assert server.say(max_tokens=5, seed=1)
        wait_for(server.idle)
