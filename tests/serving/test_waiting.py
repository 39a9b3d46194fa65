"""The event loop does no heavy work: it answers others while a text is rendered or encoded."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from minigpt_tf.serving.answers import frames
from minigpt_tf.text.chat_template import ChatTemplate
from minigpt_tf.text.tokenizers import BytePairTokenizer

from .conftest import serving, wait_for

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SAID = [{"role": "user", "content": "hi <|im_end|>"}]


class Held:
    """Holds up who calls a method, until it is let go."""

    def __init__(self, monkeypatch, cls, name):
        self.calls, self.go, original = 0, threading.Event(), getattr(cls, name)

        def held(*arguments, **settings):
            self.calls += 1
            assert self.go.wait(60)
            return original(*arguments, **settings)

        monkeypatch.setattr(cls, name, held)


@pytest.mark.parametrize(
    ("cls", "name", "path", "body"),
    [
        (ChatTemplate, "render", CHAT, {"messages": SAID}),
        (ChatTemplate, "render", "/v1/responses", {"input": "hi"}),
        (ChatTemplate, "render", "/tokenize", {"messages": SAID}),
        (BytePairTokenizer, "encode", CHAT, {"messages": SAID}),
        (BytePairTokenizer, "encode", TEXT, {"prompt": "hi"}),
        (BytePairTokenizer, "encode", "/tokenize", {"prompt": "hi"}),
        (BytePairTokenizer, "decode", "/tokenize", {"prompt": "hi", "return_token_strs": True}),
        (BytePairTokenizer, "decode", "/detokenize", {"tokens": [5, 6]}),
    ],
)
def test_others_are_answered_while_a_short_text_is_worked_on(
    server, monkeypatch, cls, name, path, body
):
    if path not in ("/tokenize", "/detokenize"):
        body = {**body, ("max_output_tokens" if "responses" in path else "max_tokens"): 1}
    with ThreadPoolExecutor(1) as pool:
        with monkeypatch.context() as patch:
            held = Held(patch, cls, name)
            asked = pool.submit(server.post, path, model="talk", **body)
            wait_for(lambda: held.calls)
            assert server.client.get("/health/live").status_code == 200
            assert server.client.get("/v1/models").status_code == 200
            assert not asked.done()
            held.go.set()
        assert asked.result(60).status_code == 200
    wait_for(server.idle)


def test_an_echo_is_written_elsewhere_as_well(server, monkeypatch):
    held = Held(monkeypatch, frames.Chunks, "__init__")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(
            server.complete, "who is Hardy", echo=True, logprobs=2, max_tokens=1, stream=False
        )
        wait_for(lambda: held.calls)
        assert server.client.get("/health/live").status_code == 200
        held.go.set()
        assert asked.result(60)["choices"][0]["text"].startswith("who is Hardy")
    wait_for(server.idle)


def test_what_waits_to_be_encoded_has_a_place_of_the_queue(models, monkeypatch):
    with serving(models / "talk", slots=1, queue=1) as server, ThreadPoolExecutor(2) as pool:
        held = Held(monkeypatch, ChatTemplate, "render")
        asked = [pool.submit(server.say, max_tokens=1) for _ in range(2)]
        wait_for(lambda: server.state.models["talk"].in_flight == 2)
        assert server.refused(503)["code"] == "server_overloaded"
        held.go.set()
        assert all(isinstance(one.result(60), str) for one in asked)
        wait_for(server.idle)
        assert server.state.models["talk"].in_flight == 0
        server.refused(400, messages=[{"role": "user", "content": "long " * 400}])
        assert server.state.models["talk"].in_flight == 0 and not server.state.of_key


@pytest.mark.parametrize("stop", [None, ["e"]])
def test_much_at_once_is_written_in_parts(server, monkeypatch, stop):
    """As for a client that has not read for a while."""
    monkeypatch.setattr(frames, "SCORED_CHARACTERS", 3)
    monkeypatch.setattr(frames, "MOST_BYTES", 10)
    settings = {"max_tokens": 40, "n": 3, "seed": 1, "stop": stop, "logprobs": True}
    whole = server.chat(top_logprobs=2, **settings)["choices"]
    messages = [{"role": "user", "content": "who is Hardy"}]
    events = server.stream(CHAT, model="talk", messages=messages, top_logprobs=2, **settings)
    for index, choice in enumerate(whole):
        given = [c for event in events for c in event["choices"] if c["index"] == index]
        text = "".join(c["delta"].get("content") or "" for c in given)
        assert text == choice["message"]["content"]
        tokens = [t for c in given if c["logprobs"] for t in c["logprobs"]["content"]]
        assert tokens == choice["logprobs"]["content"]
        assert [c["finish_reason"] for c in given if c["finish_reason"]] == [
            choice["finish_reason"]
        ]
