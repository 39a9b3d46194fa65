"""Hosts, sites, keys, bodies: what is refused before anything is generated."""

import json
import logging
import random
import time

import httpx
import pytest

from minigpt_tf.config import ServingConfig
from minigpt_tf.errors import ConfigError
from minigpt_tf.serving.keys import KEYS_VARIABLE, Keys
from tests.serving.conftest import request_bytes, serving, wait_for

CHAT = "/v1/chat/completions"
BODY = {"model": "talk", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def guarded(models, tmp_path_factory):
    """A server with keys, one site that may call it, and small bodies."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("# who may ask\nann sk-ann\nbob sk-bob\n\n")
    settings = {"origins": ("https://chat.example.com",), "body_bytes": 20_000}
    with serving(models / "talk", slots=2, keys_file=str(file), per_key=1, **settings) as server:
        server.file = file
        yield server


def test_every_path_but_health_and_the_page_needs_a_key(guarded):
    for path in ("/health/live", "/health/ready", "/health"):
        assert guarded.client.get(path).status_code == 200
    for path in ("/v1/models", "/v1/models/talk", "/info", "/metrics", "/openapi.json", "/nothing"):
        found = guarded.client.get(path)
        assert found.status_code == 401, path
        assert guarded.error_of(found)["code"] == "invalid_api_key"
        assert found.headers["www-authenticate"] == "Bearer"
        right = guarded.client.get(path, headers={"Authorization": "Bearer sk-ann"})
        assert right.status_code == (404 if path == "/nothing" else 200)


@pytest.mark.parametrize(
    "given",
    [
        *(b"", b"Bearer", b"Bearer sk-an", b"Bearer sk-annn", b"Basic sk-ann", b"sk-ann"),
        *(b"Bearer \xe9\xff", b"Bearer " + b"x" * 30_000),
        *(b"Bearer sk-ann sk-ann", b"Bearer SK-ANN"),
    ],
)
def test_wrong_keys(guarded, given, caplog):
    caplog.set_level(logging.INFO)
    found = guarded.client.post(CHAT, json=BODY, headers={b"Authorization": given})
    assert found.status_code == 401
    assert "sk-" not in caplog.text and "sk-" not in found.text


def test_a_key_in_the_address_is_not_taken(guarded):
    assert guarded.client.get("/v1/models?api_key=sk-ann&key=sk-ann").status_code == 401


def test_keys_are_read_again_and_a_wrong_file_changes_nothing(guarded):
    keys = guarded.state.keys
    assert keys.name_of(b"sk-ann") == "ann" and keys.name_of(b"sk-new") is None
    before = guarded.file.read_text()
    guarded.file.write_text(before + "new sk-new\n")
    guarded.server._on_hang_up(1, None)
    assert keys.name_of(b"sk-new") == "new"
    guarded.file.write_text("three words here\n")
    guarded.server._on_hang_up(1, None)
    assert keys.name_of(b"sk-new") == "new"
    guarded.file.write_text(before)
    guarded.server._on_hang_up(1, None)
    assert keys.name_of(b"sk-new") is None


def test_what_a_file_of_keys_must_be(tmp_path, monkeypatch):
    file = tmp_path / "keys"
    for text, message in (
        ("", "contains no key"),
        ("ann\n", "line 1"),
        ("ann a\nann b\n", "line 2"),
        ("ann a b\n", "line 1"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            Keys(str(file))
    with pytest.raises(ConfigError, match="cannot be read"):
        Keys(str(tmp_path / "none"))
    monkeypatch.setenv(KEYS_VARIABLE, "ann sk-1, bob sk-2")
    assert Keys().name_of(b"sk-2") == "bob" and Keys()
    monkeypatch.delenv(KEYS_VARIABLE)
    assert not Keys()


def test_a_key_may_ask_for_so_many_answers_at_a_time(guarded, slowed):
    headers = ["Authorization: Bearer sk-ann"]
    connection = guarded.raw()
    connection.sendall(request_bytes(CHAT, {**BODY, "max_tokens": 100, "stream": True}, headers))
    wait_for(lambda: guarded.state.tickets)
    for key, status in (("sk-ann", 429), ("sk-bob", 200)):
        found = guarded.client.post(CHAT, json=BODY, headers={"Authorization": f"Bearer {key}"})
        assert found.status_code == status
        if status == 429:
            assert guarded.error_of(found)["code"] == "rate_limit_exceeded"
            assert int(found.headers["retry-after"]) >= 1
    connection.close()
    wait_for(guarded.idle)


def test_a_site_may_call_only_if_it_is_listed(guarded):
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    site = {"Origin": "https://chat.example.com"}
    found = guarded.client.options(CHAT, headers={**asks, **site})
    assert found.status_code == 204 and not found.content  # without a key
    assert found.headers["access-control-allow-origin"] == site["Origin"]
    assert "authorization" in found.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in found.headers
    found = guarded.client.get("/v1/models", headers=site)
    assert found.status_code == 401
    assert found.headers["access-control-allow-origin"] == site["Origin"]
    for origin in ("http://localhost.evil.com", "https://evil.example.com", "null", "https://chat"):
        for headers in (asks, {"Authorization": "Bearer sk-ann"}):
            method = "OPTIONS" if headers is asks else "GET"
            found = guarded.client.request(
                method, "/v1/models", headers={**headers, "Origin": origin}
            )
            assert found.status_code == 403, origin
            assert "access-control-allow-origin" not in found.headers
    same = {"Origin": guarded.url, "Authorization": "Bearer sk-ann"}
    assert guarded.client.get("/v1/models", headers=same).status_code == 200


@pytest.mark.parametrize("host", ["evil.test", "evil.test:8000", "127.0.0.1.evil.test", "a b", ""])
def test_another_host_s_name_is_refused_on_this_machine(server, host):
    found = server.client.get("/v1/models", headers={"Host": host})
    assert found.status_code == 403 and server.error_of(found)["code"] == "wrong_host"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8000", "LOCALHOST:80"])
def test_this_machine_s_names_are_accepted(server, host):
    assert server.client.get("/v1/models", headers={"Host": host}).status_code == 200


def test_a_form_cannot_ask(server):
    before = server.metric("minigpt_completion_tokens_total")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        found = server.client.post(CHAT, content=json.dumps(BODY), headers={"Content-Type": kind})
        assert found.status_code == 415, kind
        assert server.error_of(found)["code"] == "unsupported_media_type"
    assert server.metric("minigpt_completion_tokens_total") == before
    right = {"Content-Type": "application/json; charset=utf-8"}
    assert server.client.post(CHAT, content=json.dumps(BODY), headers=right).status_code == 200


def test_a_body_may_be_only_so_large(guarded):
    headers = {"Authorization": "Bearer sk-ann"}
    large = {**BODY, "user": "x" * 30_000}
    found = guarded.client.post(CHAT, json=large, headers=headers)
    assert found.status_code == 413 and "20,000 bytes" in guarded.error_of(found)["message"]

    def chunks():
        yield b'{"user": "'
        for _ in range(30):
            yield b"x" * 1000

    found = guarded.client.post(
        CHAT, content=chunks(), headers={**headers, "Content-Type": "application/json"}
    )
    assert found.status_code == 413


def test_a_client_that_is_refused_sees_why_although_it_still_sends(guarded):
    """Its body is read first: a connection with something unread would be reset."""
    for headers, status in (((), b"401"), (["Authorization: Bearer sk-ann"], b"413")):
        connection = guarded.raw()
        sent = request_bytes(CHAT, {**BODY, "user": "x" * 60_000}, headers)
        connection.sendall(sent[:500])
        time.sleep(0.05)
        connection.sendall(sent[500:])
        assert status in connection.recv(4096).split(b"\r\n")[0]
        connection.sendall(request_bytes("/v1/nothing", {}, headers))  # it is still open
        assert connection.recv(4096)
        connection.close()


def test_a_body_and_a_head_must_arrive_in_time(models):
    with serving(models / "talk", slots=1, upload_seconds=0.4) as server:
        head = server.raw()
        head.sendall(b"GET /health HTTP/1.1\r\nHost: loc")
        body = server.raw()
        body.sendall(request_bytes(CHAT, BODY)[:-10])
        silent = server.raw()
        assert b"408" in body.recv(4096).split(b"\r\n")[0]
        assert head.recv(100) == b"" and silent.recv(100) == b""
        assert server.client.get("/health").status_code == 200
        time.sleep(0.5)  # a connection that is kept alive has its own time
        assert server.client.get("/health").status_code == 200


def hostile_bodies():
    pick = random.Random(0)
    whole = json.dumps(BODY).encode()
    yield from (
        b"",
        b"{",
        b"null",
        b"[]",
        b'"a"',
        b"1",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"\xff\xfe",
    )
    yield from (b'{"model": NaN}', b'{"model": "talk", "messages": Infinity}', b"NaN", b"\x00")
    yield whole[:-1] + b', "temperature": NaN}'
    yield whole[:-1] + b', "seed": 1' + b"0" * 400 + b"}"
    yield whole[:-1] + b', "temperature": 1e999}'
    yield whole[:-1] + b', "messages": [{"role": "user", "content": "\\ud800"}]}'
    yield whole[:-1] + b', "\\ud800": "\\udfff"}'
    yield whole[:-1] + b', "stop": "\\ud83d"}'
    yield json.dumps({**BODY, "model": "\ud800"}).encode()
    yield json.dumps({**BODY, "n": 10**30}).encode()
    yield json.dumps({**BODY, "messages": [{"role": "user", "content": {"a": []}}]}).encode()
    yield whole.decode().encode("utf-16")
    for _ in range(200):
        place, length = pick.randrange(len(whole)), pick.randrange(1, 9)
        yield whole[:place] + pick.randbytes(length) + whole[place + length :]
        yield whole[: pick.randrange(len(whole))]


def test_bodies_that_are_not_requests(server):
    """Each gets 400 or an answer, never a 500, and the server goes on."""
    kinds = {"Content-Type": "application/json"}
    statuses = set()
    for body in hostile_bodies():
        found = server.client.post(CHAT, content=body, headers=kinds)
        statuses.add(found.status_code)
        assert found.status_code in (200, 400, 404), (body[:100], found.text)
        if found.status_code != 200:
            server.error_of(found)
    assert {200, 400} <= statuses
    wait_for(server.idle)


def test_bytes_that_are_not_http(server):
    pick = random.Random(0)
    for sent in (
        b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nA: b\nInjected: yes\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"\x16\x03\x01" + pick.randbytes(200),
        b"GET /%ff%fe%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
    ):
        connection = server.raw()
        try:
            connection.sendall(sent)
            connection.shutdown(1)
            received = connection.recv(65536)
        except OSError:
            received = b""
        status = received.split(b" ")[1] if received else b"400"
        assert status[:1] in b"24", (sent[:60], received[:100])
        connection.close()
    assert server.client.get("/health").status_code == 200


def test_two_requests_on_one_connection(server):
    connection = server.raw()
    request = request_bytes(CHAT, BODY)
    connection.sendall(request + request)
    received = b""
    while received.count(b"chat.completion") < 2:
        received += connection.recv(65536)
    connection.close()


def test_paths_and_methods_that_do_not_exist(server):
    found = server.client.get("/v1/nothing")
    assert found.status_code == 404 and server.error_of(found)["code"] == "not_found"
    found = server.client.get(CHAT)
    assert found.status_code == 405 and found.headers["allow"] == "POST"
    assert server.error_of(found)["code"] == "method_not_allowed"
    found = server.client.delete("/v1/models")
    assert found.status_code == 405 and found.headers["allow"] == "GET"
    assert server.client.get("/docs").status_code == 404


def test_the_log_has_no_contents_unless_asked(models, caplog):
    caplog.set_level(logging.INFO)
    said = {**BODY, "messages": [{"role": "user", "content": "a secret"}]}
    for log_contents in (False, True):
        with serving(models / "talk", slots=1, log_contents=log_contents) as server:
            caplog.clear()
            identity = server.client.post(CHAT, json=said).headers["x-request-id"]
            wait_for(lambda i=identity: i in caplog.text)
            (line,) = [json.loads(r.getMessage()) for r in caplog.records if identity in r.message]
            assert line["route"] == CHAT and line["status"] == 200 and line["model"] == "talk"
            assert line["prompt_tokens"] > 0 and line["completion_tokens"] == 1
            assert line["finish"] in ("length", "end") and line["seconds"] > 0
            assert ("a secret" in caplog.text) == log_contents


def test_metrics_count_what_was_done(server):
    before = server.metric("minigpt_completion_tokens_total", model="talk")
    server.chat(max_tokens=7, temperature=1.3, seed=2)
    wait_for(lambda: server.metric("minigpt_completion_tokens_total", model="talk") == before + 7)
    text = server.client.get("/metrics").text
    for name in (
        "requests_total",
        "time_to_first_token_seconds_bucket",
        "kv_bytes",
        "queue_seconds",
    ):
        assert f"minigpt_{name}" in text
    server.client.post("/v1/nothing/<script>", json={})
    assert "<script>" not in server.client.get("/metrics").text


def test_settings_of_a_server():
    for settings, message in (
        ({"port": 70_000}, "port=70000"),
        ({"slots": 0}, "slots=0"),
        ({"queue": -1}, "queue=-1"),
        ({"origins": ("*",)}, "origins"),
        ({"send_seconds": 0.0}, "send_seconds"),
    ):
        with pytest.raises(ConfigError, match=message):
            ServingConfig(**settings)


def test_hosts_that_are_given(models):
    with serving(models / "talk", slots=1, hosts=("chat.example.com",)) as server:
        for host, status in (("chat.example.com", 200), ("other.example.com", 403)):
            assert httpx.get(f"{server.url}/health", headers={"Host": host}).status_code == status
