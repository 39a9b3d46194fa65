"""`minigpt serve` as a process: how it starts, what stops it, what it says when it cannot start."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from minigpt_tf import machine
from minigpt_tf.__main__ import main
from minigpt_tf.config import EngineConfig, ServingConfig
from minigpt_tf.errors import ConfigError
from minigpt_tf.serving.engine.loading import plan_models
from tests.conftest import ROOT
from tests.serving.conftest import serving, wait_for

CHAT = "/v1/chat/completions"
BODY = {"model": "talk", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


class Process:
    """A server of its own."""

    def __init__(self, *words, **environment) -> None:
        command = [sys.executable, "-m", "minigpt_tf", "serve", "--port", "0", *map(str, words)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = {**os.environ, **environment}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
        self.log: list[str] = []
        threading.Thread(target=self._read_log, daemon=True).start()
        self.said = []
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("ready on "):
                self.url = line.split()[2]
                return
        raise AssertionError("".join(self.log))

    def _read_log(self) -> None:
        self.log.extend(self.process.stderr)

    def end(self) -> int:
        """Waits for its end; the exit status."""
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_answers_end_before_the_server_does(models, number):
    process = Process("--models", models / "talk", "--slots", "2")
    ended = []

    def follow():
        body = {**BODY, "stream": True, "max_tokens": 240, "n": 2}
        with httpx.stream("POST", process.url + CHAT, json=body, timeout=60) as response:
            for line in response.iter_lines():
                ended.append(line)

    thread = threading.Thread(target=follow)
    thread.start()
    wait_for(lambda: len(ended) > 8)
    process.process.send_signal(number)
    thread.join(60)
    assert [line for line in ended if line][-1] == "data: [DONE]"
    assert process.end() == 0
    assert process.log[-1].strip() == "stopped" and "Traceback" not in "".join(process.log)
    assert any(line.startswith("talk: chat, 2 answers at a time") for line in process.said)


def test_while_it_stops_new_requests_are_refused_and_late_ones_end(models, slowed):
    with serving(models / "talk", slots=1, drain_seconds=0.6) as server:
        received = []

        def follow():
            body = {**BODY, "stream": True, "max_tokens": 200}
            with httpx.stream("POST", server.url + CHAT, json=body, timeout=60) as response:
                received.extend(line for line in response.iter_lines() if line)

        thread = threading.Thread(target=follow)
        thread.start()
        wait_for(lambda: server.state.tickets)
        assert server.client.get("/health/ready").status_code == 200
        server.server.stop()
        wait_for(lambda: server.state.draining)
        found = server.client.post(CHAT, json=BODY)
        assert found.status_code == 503 and found.headers["retry-after"] == "5"
        assert server.error_of(found)["code"] == "shutting_down"
        assert server.client.get("/health/ready").status_code == 503
        assert server.client.get("/health/live").status_code == 200
        thread.join(60)
        last = json.loads(received[-1].removeprefix("data: "))
        assert last["error"]["code"] == "shutting_down"


def test_health_while_models_are_loaded(models, monkeypatch):
    from minigpt_tf.serving import running

    load, go = running.load_model, threading.Event()

    def slow(*arguments):
        go.wait(30)
        return load(*arguments)

    monkeypatch.setattr(running, "load_model", slow)
    config = ServingConfig(port=0, slots=1)
    engine = EngineConfig()
    server = running.Server(config, engine, plan_models([str(models / "talk")], config, engine))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    with httpx.Client(base_url=server.url, timeout=30) as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").json() == {"status": "loading"}
        found = client.post(CHAT, json=BODY)
        assert found.status_code == 503 and found.json()["error"]["code"] == "loading"
        assert "retry-after" in found.headers
        go.set()
        wait_for(lambda: client.get("/health/ready").status_code == 200, 30)
        assert client.post(CHAT, json=BODY).status_code == 200
    server.stop()
    thread.join(30)
    assert not thread.is_alive()


def test_health_when_the_engine_does_not_get_on(models, monkeypatch):
    from minigpt_tf.serving.routes import health

    with serving(models / "talk", slots=1) as server:
        monkeypatch.setattr(health, "STUCK", 0.3)
        scheduler = server.state.models["talk"].scheduler
        step, go = scheduler.step, threading.Event()

        def stuck():
            go.wait(20)
            return step()

        monkeypatch.setattr(scheduler, "step", stuck)
        thread = threading.Thread(target=server.say, kwargs={"max_tokens": 2})
        thread.start()
        wait_for(lambda: server.client.get("/health/live").status_code == 503)
        assert server.client.get("/health/ready").json() == {"status": "stuck"}
        go.set()
        thread.join(30)
        wait_for(lambda: server.client.get("/health/live").status_code == 200)


def test_tensorflow_is_never_imported(models):
    """Not even where an answer is generated, a page asked for and the figures read."""
    code = f"""
import sys, threading, httpx, time
from minigpt_tf.config import EngineConfig, ServingConfig
from minigpt_tf.serving.engine.loading import plan_models
from minigpt_tf.serving.running import Server
from minigpt_tf.cli import serve
config, engine = ServingConfig(port=0, slots=1), EngineConfig()
server = Server(config, engine, plan_models([{str(models / "talk")!r}], config, engine))
thread = threading.Thread(target=server.run)
thread.start()
while not server.state.ready:
    time.sleep(0.01)
assert httpx.post(server.url + {CHAT!r}, json={BODY!r}).status_code == 200
assert httpx.get(server.url + "/metrics").status_code == 200
assert httpx.get(server.url + "/openapi.json").status_code == 200
server.stop()
thread.join()
heavy = {{"tensorflow", "keras", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def refusal(capsys, *words) -> str:
    """The one line that `minigpt serve` ends with."""
    assert main(["serve", *map(str, words)]) == 2
    said = capsys.readouterr()
    assert not said.out and said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err


def test_what_cannot_be_served_is_said_in_one_line(models, tmp_path, capsys):
    talk = models / "talk"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refusal(capsys, "--models", talk, "--port", port)
        assert f"port={port}: something listens there already" in said
    assert "no such model folder" in refusal(capsys, "--models", tmp_path / "none")
    said = refusal(capsys, "--models", talk, "--host", "0.0.0.0", "--port", "0")
    assert "no API keys" in said and "--no-keys" in said
    assert "two models are called talk" in refusal(capsys, "--models", talk, talk)
    assert "alias" in refusal(capsys, "--models", talk, "--alias", "a=none")
    assert "context_length=999" in refusal(capsys, "--models", talk, "--context-length", "999")
    said = refusal(capsys, "--models", talk, "--host", "192.0.2.1", "--no-keys", "--port", "0")
    assert "host=192.0.2.1" in said
    keys = tmp_path / "keys"
    assert "cannot be read" in refusal(capsys, "--models", talk, "--keys-file", keys)


def test_a_damaged_model_is_said_in_one_line(models, tmp_path, capsys):
    import shutil

    folder = shutil.copytree(models / "talk", tmp_path / "damaged")
    for name in ("model.exact.h5", "model.int8.h5"):
        (folder / name).unlink(missing_ok=True)
    (folder / "model.h5").write_bytes(b"not a model")
    said = refusal(capsys, "--models", folder, "--port", "0")
    assert "model.h5" in said
    (folder / "config.json").write_text("{")
    assert "config.json" in refusal(capsys, "--models", folder, "--port", "0")


def test_models_that_do_not_fit_are_refused_before_loading(models, monkeypatch, capsys):
    from minigpt_tf.serving.engine import loading

    monkeypatch.setattr(loading, "load_model", None)  # is never reached
    monkeypatch.setattr(machine, "memory_size", lambda: 2**20)
    said = refusal(capsys, "--models", models / "talk", models / "words", "--port", "0")
    assert "the weights of 2 models" in said and "--slots" in said
    engine = EngineConfig()
    few = ServingConfig(slots=1, context_length=32)
    plans = plan_models([str(models / "talk")], few, engine)
    assert plans[0].config.context_length == 32 and plans[0].cache_bytes < 2**20
    with pytest.raises(ConfigError, match="need"):
        plan_models([str(models / "talk")], ServingConfig(slots=500), engine)


def test_a_library_that_is_missing_is_named_with_the_line_that_installs_it(models):
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "fastapi":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from minigpt_tf.__main__ import main
sys.exit(main(["serve", "--models", FOLDER]))
""".replace("FOLDER", repr(str(models / "talk")))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "needs fastapi" in done.stderr and "pip install 'minigpt_tf[serve]'" in done.stderr


def test_a_shorter_context_and_names_of_ones_own(models):
    with serving(f"mine={models / 'talk'}", slots=2, context_length=64) as server:
        answer = server.chat(model="mine", temperature=1.4, seed=1)
        assert answer["usage"]["total_tokens"] == 64
        assert server.client.get("/v1/models").json()["data"][0]["id"] == "mine"


def test_an_idle_server_sleeps(models):
    with serving(models / "talk", slots=2) as server:
        server.say(max_tokens=2)
        wait_for(lambda: server.idle() and server.state.worker.stuck_for() == 0)
        steps = server.metric("minigpt_step_seconds_count")
        time.sleep(0.3)
        assert server.metric("minigpt_step_seconds_count") == steps


def test_info_describes_the_models(server):
    found = server.client.get("/info").json()
    kinds = {model["id"]: model["kind"] for model in found["models"]}
    assert kinds == {"talk": "chat", "words": "text"}
    assert found["aliases"] == {"gpt-4o": "talk"} and found["ready"]
    talk = found["models"][0]
    assert talk["context_length"] == 256 and talk["slots"] == 4
    assert talk["defaults"]["temperature"] == 0.8
