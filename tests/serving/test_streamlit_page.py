"""The Streamlit page: its logic by Streamlit's own tester, and in real Chromium."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time

import httpx
import pytest

pytest.importorskip("streamlit", reason="streamlit is not installed")

from selenium.webdriver.common.keys import Keys
from streamlit.testing.v1 import AppTest

from minigpt_tf.cli.page import SCRIPT
from tests.chromium import chromium
from tests.conftest import ROOT
from tests.serving.fake_api import FakeApi, serving, wait_for


@pytest.fixture
def api(monkeypatch):
    fake = FakeApi(models={"tiny": {"kind": "chat", "defaults": {"temperature": 0.3}}})
    with serving(fake.application()) as fake.url:
        monkeypatch.setenv("MINIGPT_API_URL", f"{fake.url}/v1")
        yield fake


def session() -> AppTest:
    return AppTest.from_file(str(SCRIPT), default_timeout=30)


def said(page: AppTest) -> list[str]:
    return [element.value for message in page.chat_message for element in message.markdown]


def test_a_question_is_one_request_whatever_is_clicked(api):
    first, second = session().run(), session().run()
    first.chat_input[0].set_value("What costs $5?").run()
    assert said(first) == ["What costs \\$5?", "Hello there."]
    for _ in range(5):
        first.run()
    first.sidebar.text_area[0].set_value("Be brief.").run()
    assert len(api.requests) == 1 and said(second) == []
    second.chat_input[0].set_value("Another").run()
    first.chat_input[0].set_value("And now?").run()
    assert len(api.requests) == 3 and not first.exception
    contents = [(m["role"], m["content"]) for m in api.requests[-1]["messages"]]
    assert contents == [
        ("system", "Be brief."),
        ("user", "What costs $5?"),
        ("assistant", "Hello there."),
        ("user", "And now?"),
    ]
    assert {key: api.requests[-1][key] for key in ("model", "temperature", "max_tokens")} == {
        "model": "tiny",
        "temperature": 0.3,
        "max_tokens": 256,
    }
    first.sidebar.button[0].click().run()
    assert said(first) == []


def test_a_model_without_a_template_continues_a_text(api):
    api.models = {"plain": {"kind": "text"}}
    page = session().run()
    page.text_area(key="text").set_value("Once").run()
    next(button for button in page.button if button.label == "Continue").click().run()
    assert page.text_area(key="text").value == "OnceHello there."
    assert api.requests[0]["prompt"] == "Once" and not page.exception


def test_errors_are_sentences(api, monkeypatch):
    page = session().run()
    api.breaks_after = 1
    page.chat_input[0].set_value("Hi").run()
    assert [error.value for error in page.error] == ["the engine failed"]
    assert said(page) == ["Hi", "Hello"]
    monkeypatch.setenv("MINIGPT_API_URL", "http://127.0.0.1:9/v1")
    page = session().run()
    assert [e.value for e in page.error] == [
        "http://127.0.0.1:9/v1: no answer. Is the server running?"
    ]


@contextlib.contextmanager
def command(*words):
    """`minigpt page` as a process, from when it says where the page is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "minigpt_tf", "page", "--port", "0", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if found := re.search(r"the page is at (\S+)", line):
                wait_for(lambda: is_up(found[1]), 60)
                yield process, found[1]
                break
        else:
            raise AssertionError(process.stderr.read())
    finally:
        process.terminate()  # it ends Streamlit, which a kill would leave behind
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_up(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/_stcore/health").status_code == 200
    return False


def children(process) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True)
    return [int(word) for word in listed.stdout.split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_processes_end_together(number, trained_folder):
    with command("--models", str(trained_folder), "--api-port", "0") as (process, _):
        started = children(process)
        assert len(started) == 2
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and out.endswith("stopped\n") and "Traceback" not in err
    for pid in started:
        assert subprocess.run(["ps", "-p", str(pid)], capture_output=True).returncode == 1


def test_what_cannot_work_is_one_line(tmp_path):
    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "minigpt_tf", "page", *words],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    assert "no such model folder" in run("--models", "none", "--port", "0", "--api-port", "0")
    assert "leave out --models" in run("--api", "http://127.0.0.1:1/v1", "--models", "none")
    assert "expected an address" in run("--api", "127.0.0.1:8000")
    with serving(FakeApi().application()) as url:
        port = url.rpartition(":")[2]
        assert run("--port", port).startswith(f"error: port {port} cannot be used")


def test_in_the_browser(api, tmp_path):
    """Text grows, Stop ends it on the server, and nothing is loaded from elsewhere."""
    api.words = ["![x](http://evil.test/a.png) ", "<img src=x onerror=alert(1)> ", "$a$ "]
    api.words, api.pause = api.words + [f"word{n} " for n in range(300)], 0.1
    with (
        command("--api", f"{api.url}/v1") as (_, url),
        chromium(tmp_path / "profile", 1200, 900) as window,
    ):
        window.get("about:blank")
        time.sleep(0.5)
        window.get_log("performance")
        window.get(url)
        field = wait_for(
            lambda: window.find_elements("css selector", "[data-testid=stChatInputTextArea]"), 60
        )
        field[0].send_keys("Hello" + Keys.ENTER)

        def text() -> str:
            return window.execute_script(
                "return [...document.querySelectorAll('[data-testid=stChatMessage]')]"
                ".map(box => box.innerText).join('\\n')"
            )

        wait_for(lambda: "word3" in text(), 60)
        shorter = len(text())
        wait_for(lambda: len(text()) > shorter + 10, 60)
        assert api.running == 1
        window.execute_script(
            "[...document.querySelectorAll('button')]"
            ".find(button => button.innerText.includes('Stop')).click()"
        )
        wait_for(lambda: api.canceled == 1 and not api.running, 60)
        wait_for(lambda: "Stop" not in text(), 60)
        assert "word3" in text() and len(api.requests) == 1
        assert not window.find_elements("css selector", "[data-testid=stChatMessage] img")
        events = [
            json.loads(entry["message"])["message"] for entry in window.get_log("performance")
        ]
        sent = [
            e["params"]["request"]["url"]
            for e in events
            if e["method"] == "Network.requestWillBeSent"
        ]
        foreign = [u for u in sent if not u.startswith((url, "data:", "blob:", "chrome"))]
        assert sent and not foreign
        window.save_screenshot(str(tmp_path / "streamlit.png"))
