"""A server in a thread, tiny models, and what a test needs to look into both."""

import contextlib
import json
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from minigpt_tf.config import EngineConfig, RetrievalConfig, ServingConfig
from minigpt_tf.inference.folder import describe_model, write_tokenizer
from minigpt_tf.inference.weights import weights_of
from minigpt_tf.serving.engine.loading import plan_models, with_records
from minigpt_tf.serving.running import Server
from minigpt_tf.storage.json_files import write_json
from tests.conftest import SAMPLE, tiny_config
from tests.text.test_chat_template import CHATML

CONTEXT = 256


def write_folder(folder: Path, tokenizer, template="", context_length=CONTEXT, **sections) -> Path:
    """A model folder with weights at random: what it says is wild, but always the same."""
    from minigpt_tf.model import build_gpt_model
    from minigpt_tf.training.saving import save_model
    from tests.model.test_gpt import shaken

    folder.mkdir(parents=True)
    config = tiny_config("modern", vocab_size=tokenizer.vocab_size, context_length=context_length)
    save_model(folder / "model.h5", config, weights_of(shaken(build_gpt_model(config, seed=1))))
    write_json(folder / "config.json", describe_model(config, tokenizer, [1], **sections))
    write_tokenizer(folder, tokenizer)
    if template:
        (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """models/talk has a chat template and byte-level tokens, models/words neither."""
    from minigpt_tf.text.tokenizers import WordTokenizer
    from tests.inference.test_chat import chat_tokenizer

    folder = tmp_path_factory.mktemp("models")
    tokenizer = chat_tokenizer()
    tokenizer.prefix_ids = ()
    write_folder(folder / "talk", tokenizer, CHATML)
    words = WordTokenizer.train([SAMPLE.read_text(encoding="utf-8")], 60)
    write_folder(folder / "words", words)
    return folder


class Running:
    """A server in a thread of this process."""

    def __init__(self, folders, engine=None, records=(), **settings) -> None:
        engine = engine or EngineConfig(speculate="off")
        config = ServingConfig(**{"port": 0, **settings})
        plans = plan_models(folders, config, engine)
        if records:
            plans = with_records(plans, records, RetrievalConfig())
        self.server = Server(config, engine, plans)
        self.state, self.url = self.server.state, self.server.url
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.client = httpx.Client(base_url=self.url, timeout=60)
        wait_for(lambda: self.state.worker is not None or self._failure, 60)
        if self._failure:
            raise self._failure[0]

    def _run(self) -> None:
        try:
            self.server.run()
        except BaseException as error:
            self._failure.append(error)

    def stop(self) -> None:
        self.server.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self.client.close()

    # What the tests ask.

    def post(self, path, **body):
        return self.client.post(path, json=body)

    def chat(self, text="who is Hardy", model="talk", **settings):
        """The answer to one message, as an object."""
        messages = settings.pop("messages", [{"role": "user", "content": text}])
        found = self.post("/v1/chat/completions", model=model, messages=messages, **settings)
        assert found.status_code == 200, found.text
        return found.json()

    def say(self, text="who is Hardy", **settings) -> str:
        return self.chat(text, **settings)["choices"][0]["message"]["content"]

    def complete(self, prompt, model="talk", **settings):
        found = self.post("/v1/completions", model=model, prompt=prompt, **settings)
        assert found.status_code == 200, found.text
        return found.json()

    def stream(self, path, headers=None, **body) -> "list[dict]":
        """All events of a stream that ends as it should."""
        body["stream"] = True
        with self.client.stream("POST", path, json=body, headers=headers) as response:
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = b"".join(response.iter_raw()).decode().split("\n\n")
        events = [line[6:] for line in lines if line.startswith("data: ")]
        assert events[-1] == "[DONE]"
        return [json.loads(event) for event in events[:-1]]

    def stream_text(self, text="who is Hardy", model="talk", **settings) -> str:
        messages = [{"role": "user", "content": text}]
        events = self.stream("/v1/chat/completions", model=model, messages=messages, **settings)
        choices = [choice for event in events for choice in event["choices"]]
        return "".join(choice["delta"].get("content", "") for choice in choices)

    def refused(self, status, path="/v1/chat/completions", **body):
        """The error object of a request that is refused."""
        if path == "/v1/chat/completions":
            body = {"model": "talk", "messages": [{"role": "user", "content": "a"}], **body}
        found = self.post(path, **body)
        assert found.status_code == status, found.text
        return self.error_of(found)

    @staticmethod
    def error_of(found):
        error = found.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert "\n" not in error["message"] and error["message"]
        return error

    def idle(self) -> bool:
        """Whether nothing is generated or waited for."""
        models = set(map(id, self.state.models.values()))
        found = [m for m in self.state.models.values() if id(m) in models]
        return not self.state.tickets and all(not m.unfinished and not m.in_flight for m in found)

    def metric(self, metric_name, **labels) -> float:
        """A figure of /metrics, summed over the labels that are not given."""
        total = 0.0
        for metric in self.state.metrics.registry.collect():
            for sample in metric.samples:
                if sample.name == metric_name and labels.items() <= sample.labels.items():
                    total += sample.value
        return total

    def raw(self) -> socket.socket:
        """A connection of one's own."""
        connection = socket.create_connection(("127.0.0.1", self.state.port))
        connection.settimeout(30)
        return connection


def request_bytes(path, body, headers=()) -> bytes:
    """A request as it goes over the wire."""
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def wait_for(condition, seconds=10.0):
    """Waits until something is true; fails if it does not become so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)


@contextlib.contextmanager
def serving(*folders, **settings):
    """A server as long as the block runs."""
    running = Running([str(folder) for folder in folders], **settings)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def server(models):
    """Serves both models. Tests must leave it idle."""
    with serving(models / "talk", models / "words", slots=4, alias={"gpt-4o": "talk"}) as running:
        yield running


@pytest.fixture
def slowed(monkeypatch):
    """Makes every step take a while, so that answers can be looked at while they are made."""
    from minigpt_tf.inference.scheduling import Scheduler

    step = Scheduler.step

    def slow(self):
        time.sleep(0.01)
        return step(self)

    monkeypatch.setattr(Scheduler, "step", slow)
