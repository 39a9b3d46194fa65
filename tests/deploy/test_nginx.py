"""nginx in front: answers pass as they are generated, and a rolling restart loses no request."""

import concurrent.futures
import contextlib
import shutil
import subprocess
import threading
import time

import httpx
import pytest

from tests.conftest import ROOT
from tests.deploy.servers import Server, free_port, is_ready, server
from tests.serving.fake_api import wait_for

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
BODY = {"prompt": "he was", "temperature": 0, "ignore_eos": True}

PLAIN = """
worker_processes 1; daemon off; pid FOLDER/pid; error_log FOLDER/error.log;
events { }
http {
    client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy; access_log off;
    fastcgi_temp_path FOLDER/f; uwsgi_temp_path FOLDER/u; scgi_temp_path FOLDER/s;
    gzip on; gzip_types *; gzip_proxied any;
    server { listen 127.0.0.1:PORT; location / { proxy_pass http://127.0.0.1:SERVER; } }
}
"""
"""As few lines as somebody writes who only wants a proxy: buffering and gzip are on."""


@contextlib.contextmanager
def nginx(text: str, folder, port: int):
    if NGINX is None:
        pytest.skip("nginx is not installed")
    file = folder / "nginx.conf"
    file.write_text(text)
    with (folder / "errors").open("w") as errors:  # a pipe that nobody reads would fill
        process = subprocess.Popen([NGINX, "-c", file, "-p", folder], stderr=errors)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: process.poll() is not None or is_ready(url), 20)
            assert process.poll() is None, (folder / "errors").read_text()
            yield url
        finally:
            process.terminate()
            process.wait()


def model_of(url: str) -> str:
    return httpx.get(f"{url}/v1/models").json()["data"][0]["id"]


def test_the_first_words_come_before_the_last_are_generated(trained_folder, tmp_path):
    """With nginx's defaults: the server's header switches buffering off."""
    port = free_port()
    with server(trained_folder) as running:
        text = PLAIN.replace("FOLDER", str(tmp_path)).replace("PORT", str(port))
        with nginx(text.replace("SERVER", str(running.port)), tmp_path, port) as url:
            body = {**BODY, "model": model_of(url), "stream": True, "max_tokens": 10}
            events = []
            with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as response:
                assert response.headers["content-type"].startswith("text/event-stream")
                events += [line for line in response.iter_lines() if line.startswith("data:")]
            assert events[-1] == "data: [DONE]" and len(events) >= 2


def test_a_slow_answer_is_not_buffered(tmp_path):
    """A model that takes its time, behind nginx's defaults and the server's header."""
    from tests.serving.fake_api import FakeApi, serving

    api = FakeApi(words=["one ", "two ", "three"], pause=0.5, headers={"X-Accel-Buffering": "no"})
    port = free_port()
    with serving(api.application()) as upstream:
        text = PLAIN.replace("FOLDER", str(tmp_path)).replace("PORT", str(port))
        text = text.replace("SERVER", upstream.rpartition(":")[2])
        with nginx(text, tmp_path, port) as url:
            body = {"model": "tiny", "messages": [], "stream": True}
            with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
                for line in response.iter_lines():
                    if "one" in line:
                        assert api.running == 1  # the others are still to come
                        break
                else:
                    raise AssertionError("no first word")


def deployed(tmp_path, port: int, first: Server, second: Server) -> str:
    """deploy/nginx.conf with this test's addresses, and nothing else changed."""
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    text = text.replace("minigpt-a:8000", f"127.0.0.1:{first.port}")
    text = text.replace("minigpt-b:8000", f"127.0.0.1:{second.port}")
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}").replace("/tmp/", f"{tmp_path}/")
    return f"daemon off;\n{text}"


def test_a_rolling_restart_loses_no_request(trained_folder, tmp_path):
    port, stopping = free_port(), threading.Event()
    words = ("--drain-seconds", "20", "--drain-delay", "1")

    def ask(number: int) -> list[tuple[int, bool]]:
        """One client, again and again; it tries nothing twice."""
        results = []
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            while not stopping.is_set():
                body = {**BODY, "model": name, "max_tokens": 8, "stream": number % 2 == 0}
                answer = client.post("/v1/completions", json=body)
                whole = "[DONE]" in answer.text or '"usage"' in answer.text
                results.append((answer.status_code, whole))
                time.sleep(0.05)
        return results

    with (
        server(trained_folder, *words) as first,
        server(trained_folder, *words) as second,
        nginx(deployed(tmp_path, port, first, second), tmp_path, port) as url,
        concurrent.futures.ThreadPoolExecutor(20) as clients,
    ):
        name = model_of(url)
        asking = [clients.submit(ask, number) for number in range(20)]
        try:
            for replica in (first, second):
                time.sleep(1)
                assert replica.stop() == 0
                replica.start()
            time.sleep(1)
        finally:
            stopping.set()
        results = [result for client in asking for result in client.result()]
    assert len(results) > 50 and set(results) == {(200, True)}
