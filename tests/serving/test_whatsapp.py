"""The WhatsApp bot in front of a fake Graph API, called as Meta calls a webhook."""

import concurrent.futures
import socket
import subprocess
import sys
import time

import httpx
import pytest

from minigpt_tf.config.bots import BotConfig, ClientConfig, WhatsAppConfig
from minigpt_tf.errors import ConfigError
from minigpt_tf.serving.bots.conversations import HELP, READS_TEXT, TROUBLE
from minigpt_tf.serving.bots.running import run_whatsapp
from tests.conftest import ROOT
from tests.serving.fake_api import FakeApi, serving, wait_for
from tests.serving.fake_graph import PHONE, SECRET, TOKEN, VERIFY, FakeGraph
from tests.serving.running_bots import running


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def api():
    fake = FakeApi(models={"tiny": {"kind": "chat"}})
    with serving(fake.application()) as fake.url:
        yield fake


@pytest.fixture
def graph():
    fake = FakeGraph()
    with serving(fake.application()) as fake.url:
        yield fake


@pytest.fixture
def secrets(tmp_path):
    """The files of the three secrets."""
    files = {"token": TOKEN, "secret": SECRET, "verify": VERIFY}
    for name, value in files.items():
        (tmp_path / name).write_text(f"{value}\n")
    return {f"{name}_file": str(tmp_path / name) for name in files}


@pytest.fixture
def start(api, graph, tmp_path, secrets):
    def begin(api_url=None, port=None, phone_id=PHONE, **bot):
        port = port or free_port()
        own = {**secrets}
        token = own.pop("token_file")
        graph.webhook = f"http://127.0.0.1:{port}/webhook"
        config = WhatsAppConfig(phone_id=phone_id, port=port, graph_api=graph.url, **own)
        kept = BotConfig(token_file=token, state=str(tmp_path / "bot.sqlite"), **bot)
        client = ClientConfig(api=api_url or f"{api.url}/v1")
        made = running(run_whatsapp, client, kept, config)
        return made

    return begin


def listening(recorder):
    wait_for(lambda: any("listening on" in notice for notice in recorder.notices))


def test_the_address_is_verified(graph, start):
    with start() as recorder:
        listening(recorder)
        asked = {"hub.mode": "subscribe", "hub.verify_token": VERIFY, "hub.challenge": "42"}
        answer = httpx.get(graph.webhook, params=asked)
        assert (answer.status_code, answer.text) == (200, "42")
        assert httpx.get(graph.webhook, params=asked | {"hub.verify_token": "x"}).status_code == 403
        assert httpx.get(graph.webhook).status_code == 403


def test_a_message_is_answered_once_however_often_it_comes(api, graph, start):
    api.words, api.pause = ["Hello ", "there"], 1.0
    with start() as recorder:
        listening(recorder)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            began = time.monotonic()
            both = [pool.submit(graph.write, "Hi", "wamid.1") for _ in range(2)]
            assert [done.result().status_code for done in both] == [200, 200]
            assert time.monotonic() - began < 1.0  # long before there is an answer
        wait_for(lambda: graph.texts() == ["Hello there"])
        assert graph.write("Hi", "wamid.1").status_code == 200
        time.sleep(0.2)
        assert graph.texts() == ["Hello there"] and len(api.requests) == 1
        read = [body for _, body in graph.sent if body.get("status") == "read"]
        assert [body["message_id"] for body in read] == ["wamid.1"]
    with start() as recorder:
        listening(recorder)
        assert graph.write("Hi", "wamid.1").status_code == 200
        assert graph.write("More", "wamid.2").status_code == 200
        wait_for(lambda: len(graph.texts()) == 2)
    assert len(api.requests) == 2


def test_only_what_meta_has_signed_is_answered(api, graph, start):
    with start() as recorder:
        listening(recorder)
        for signature in ("", "sha256=" + "0" * 64, "sha1=abc", "sha256=é"[:7]):
            assert graph.write("Hi", "wamid.1", signature=signature).status_code == 403
        for body, status in ((b"no json", 400), (b"[]", 200), (b'{"entry": 5}', 200)):
            assert graph.call(body).status_code == status
        assert graph.call(b" " * (5 * 2**20)).status_code == 413
        assert graph.write("Hi", "wamid.2", phone="77").status_code == 200
        assert graph.write("Hi", "wamid.3").status_code == 200
        wait_for(lambda: len(graph.texts()) == 1)
    assert len(api.requests) == 1


def test_messages_of_one_user_are_answered_in_order(api, graph, start):
    api.pause = 0.2
    with start() as recorder:
        listening(recorder)
        graph.write("one", "wamid.1")
        graph.write("two", "wamid.2")
        graph.write("other", "wamid.3", sender="33")
        wait_for(lambda: len(graph.texts()) == 2 and graph.texts("33"))
    asked = [request["messages"][-1]["content"] for request in api.requests]
    assert sorted(asked) == ["one", "other", "two"] and asked.index("one") < asked.index("two")
    last = next(r for r in api.requests if r["messages"][-1]["content"] == "two")
    assert [m["content"] for m in last["messages"]] == ["one", "Hello there.", "two"]


def test_limits_and_faults_of_meta(api, graph, start):
    graph.faults = [429, 400, 500, "drop"]
    with start() as recorder:
        listening(recorder)
        graph.write("Hi", "wamid.1")
        wait_for(lambda: graph.texts() == ["Hello there."])
        graph.faults = [403]
        graph.write("Hi", "wamid.2")
        wait_for(lambda: "a chat cannot be answered: limit hit" in recorder.notices)
        graph.write("Hi", "wamid.3")
        wait_for(lambda: len(graph.texts()) == 2)


def test_commands_pictures_and_long_answers(api, graph, start):
    with start(allow=("+4917",)) as recorder:
        listening(recorder)
        graph.write("/start", "wamid.1")
        wait_for(lambda: graph.texts() == [HELP])
        graph.write(None, "wamid.2")
        wait_for(lambda: graph.texts()[1:] == [READS_TEXT])
        graph.write("Hi", "wamid.3", sender="44")
        wait_for(lambda: graph.texts("44") == ["This bot is private."])
        api.words = ["word "] * 1800
        graph.write("Long", "wamid.4")
        wait_for(lambda: len(graph.texts()) == 5)
        assert " ".join(graph.texts()[2:]) == ("word " * 1800).strip()
        api.words, api.pause = ["x "] * 500, 0.05
        graph.write("Longer", "wamid.5")
        wait_for(lambda: api.running)
        graph.write("/stop", "wamid.6")
        wait_for(lambda: graph.texts()[-1] == "Stopped." and api.canceled == 1)
    with start(api_url="http://127.0.0.1:9/v1") as recorder:
        listening(recorder)
        graph.write("Hi", "wamid.7")
        wait_for(lambda: graph.texts()[-1] == TROUBLE)


def test_what_cannot_work_is_one_error(graph, start, secrets, tmp_path):
    with pytest.raises(ConfigError, match="expected the number's id"), start(phone_id=None):
        time.sleep(0.5)
    (tmp_path / "token").write_text("wrong")
    with pytest.raises(ConfigError, match="Meta refuses the token") as caught, start():
        time.sleep(0.5)
    assert "Invalid OAuth" in str(caught.value)
    (tmp_path / "token").write_text(TOKEN)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: cannot listen"), start(port=port):
            time.sleep(0.5)


def test_ctrl_c_and_sigterm_end_it_in_order(api, graph, secrets, tmp_path):
    words = ["--api", f"{api.url}/v1", "--graph-api", graph.url, "--phone-id", PHONE]
    words += ["--state", str(tmp_path / "s"), "--port", str(free_port())]
    for name, file in secrets.items():
        words += [f"--{name.replace('_', '-')}", file]
    command = [sys.executable, "-m", "minigpt_tf", "bot", "whatsapp", *words]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert "listening on" in process.stderr.readline()
    process.terminate()
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "stopped\n") and "Traceback" not in err
