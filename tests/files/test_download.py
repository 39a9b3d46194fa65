"""Texts by URL, from a server on this machine: what is read, kept and refused."""

import contextlib
import http.server
import io
import json
import os
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.config.presets import data_preset, training_preset
from minigpt_tf.errors import DataError
from minigpt_tf.files import download as download_module
from minigpt_tf.files.documents import read_documents
from minigpt_tf.files.sources import as_source, full_name, is_url
from minigpt_tf.storage.cache import cache_folder
from minigpt_tf.training.plan import make_plan
from tests.cli.test_train import QUICK, error_of
from tests.conftest import ROOT, SAMPLE, Recorder, tiny_config

TEXT = "Grüße aus Köln. " * 20
BODY = TEXT.encode()


class Server(http.server.ThreadingHTTPServer):
    """Answers from `pages`, path -> (status, headers, body), and keeps the paths asked for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages, self.asked = {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def add(self, path, body=BODY, kind=None, status=200, length=True, **headers):
        """Returns the page's URL. `length`: what the server says of it; True: the truth."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if kind:
            headers["Content-Type"] = kind
        if length is not None:
            headers["Content-Length"] = str(len(body) if length is True else length)
        self.pages[path] = (status, headers, body)
        return self.url + path

    def handle_error(self, request, client_address):
        """A client that has seen enough goes away."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.headers = dict(self.headers)
        status, headers, body = self.server.pages.get(self.path, (404, {}, b"no such page"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            for block in [body] if isinstance(body, bytes) else body:
                self.wfile.write(block)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def refusal(url):
    """The error for a URL, one line that begins with it; nothing stays in the cache."""
    with pytest.raises(DataError) as caught:
        read_documents(url)
    message = str(caught.value)
    assert message.startswith(f"{url}: ") and "\n" not in message
    root = cache_folder()
    assert not root.exists() or not list(root.iterdir())
    return message.removeprefix(f"{url}: ")


def test_a_text_is_downloaded_once_and_its_place_reported(server, tmp_path):
    url = server.add("/books/a.txt")
    recorder = Recorder()
    for _ in range(2):
        found = read_documents([url, SAMPLE], listener=recorder)
        assert found.texts == [TEXT, SAMPLE.read_text()]
        assert found.documents[0].path == url and found.skipped == []
    assert server.asked == ["/books/a.txt"]
    assert server.headers["Accept-Encoding"] == "identity"
    (kept,) = (tmp_path / "cache" / "minigpt_tf").glob("*/text.txt")
    assert kept.read_text() == TEXT
    assert recorder.notices == [
        f"{url}: downloaded to {kept}",
        f"{url}: read from the cache, {kept}: delete it to download again",
    ]
    size = len(TEXT.encode())
    assert ("downloading", size, size) in recorder.work
    server.add("/books/a.txt", b"another text")
    kept.unlink()
    assert read_documents(url).texts == ["another text"]


def endless():
    while True:
        yield b"more and more " * 1000


def pages(server):
    """URLs of one text as several kinds of file, with what is read from them."""
    lines = json.dumps({"text": "one"}) + "\n" + json.dumps({"text": "two"}) + "\n"
    page = "<!DOCTYPE html><html><body><script>x()</script><p>one</p><p>two</p></body></html>"
    yield server.add("/a.jsonl", lines.encode(), "application/octet-stream"), "one\ntwo"
    yield server.add("/a.html?version=2", page.encode()), "one\ntwo"
    yield server.add("/page", page.encode(), "text/html; charset=utf-8"), "one\ntwo"
    by_the_byte = [bytes([byte]) for byte in page.encode()]
    yield server.add("/blob/README.md", by_the_byte, "text/html", length=None), "one\ntwo"
    yield server.add("/notes.md", b"<p>one</p>", "text/html"), "<p>one</p>"  # is no page
    yield server.add("/api", lines.encode(), "application/x-ndjson"), "one\ntwo"
    yield server.add("/b%20c.TXT", b"one two"), "one two"
    yield server.add("/main.py", b"one = two", "text/plain; charset=utf-8"), "one = two"
    yield server.add("/rows", b"a,b\none,two\n", "text/csv"), "a b\none two"


def test_the_kind_is_that_of_the_url_or_else_of_the_content_type(server):
    for url, text in list(pages(server)):
        assert read_documents(url).texts == [text]


def test_a_sheet_by_url(server):
    openpyxl = pytest.importorskip("openpyxl", reason="the documents extra is not installed")
    book = openpyxl.Workbook()
    book.active.append(["one", 2])
    content = io.BytesIO()
    book.save(content)
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    assert read_documents(server.add("/download?id=7", content.getvalue(), kind)).texts == ["one 2"]


def test_a_url_is_quoted(server):
    server.add("/gr%C3%BC%C3%9Fe%20an.txt?k=%C3%B6&l=a%2Fb", b"a text")
    assert read_documents(f"{server.url}/grüße an.txt?k=ö&l=a%2Fb#part").texts == ["a text"]
    upper = f"HTTP://127.0.0.1:{server.server_port}/gr%C3%BC%C3%9Fe%20an.txt?k=%C3%B6&l=a%2Fb"
    assert read_documents(upper).texts == ["a text"] and len(server.asked) == 1


@pytest.mark.parametrize(
    ("body", "charset", "encoding", "text"),
    [
        ("café “x”".encode("cp1252"), "iso-8859-1", "utf-8", "café “x”"),
        ("Привет".encode("koi8-r"), "koi8-r", "utf-8", "Привет"),
        ("café".encode(), "iso-8859-1", "utf-8", "café"),  # the header is wrong
        ("Привет".encode("koi8-r"), "iso-8859-1", "koi8-r", "Привет"),  # --encoding decides
        ("café".encode("utf-16"), "utf-16", "utf-8", "café"),
        ("café".encode(), "klingon", "utf-8", "café"),
    ],
)
def test_the_header_hints_at_the_encoding(server, body, charset, encoding, text):
    url = server.add("/a.txt", body, f"text/plain; charset={charset}")
    for _ in range(2):  # fetched, and from the cache
        assert read_documents(url, encoding).texts == [text]


def test_without_a_hint_another_encoding_is_refused(server):
    url = server.add("/a.txt", "café".encode("cp1252") * 20, "text/plain")
    with pytest.raises(DataError, match=rf"^{url}: is not UTF-8 \(byte 3, line 1\)"):
        read_documents(url)


def test_redirects_are_followed_within_http(server, tmp_path):
    target = server.add("/real.txt", b"the text")
    for code in (301, 302, 303, 307, 308):
        url = server.add(f"/{code}", b"", status=code, Location="/real.txt")
        assert read_documents(url).texts == ["the text"]
    server.add("/hop5", b"", status=302, Location=target)
    for hop in range(5):
        server.add(f"/hop{hop}", b"", status=302, Location=f"/hop{hop + 1}")
    assert read_documents(f"{server.url}/hop1").texts == ["the text"]


def test_redirects_elsewhere_and_without_end_are_refused(server, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    for hop in range(6):
        server.add(f"/hop{hop}", b"", status=302, Location=f"/hop{hop + 1}")
    server.add("/hop6", b"text", "text/plain")
    circle = server.add("/circle", b"", status=302, Location="/circle")
    for url in (f"{server.url}/hop0", circle, server.add("/nowhere", b"", status=302)):
        assert refusal(url).startswith("redirects more than 5 times, or to nowhere: check")
    for target in (secret.as_uri(), "ftp://127.0.0.1/a.txt", "data:text/plain,hello"):
        url = server.add("/away", b"", status=302, Location=target)
        expected = f"redirects to {target}, which is neither http nor https: check the URL"
        assert refusal(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://127.0.0.1/a.txt", "ftp URLs are not supported, only http and https: download the"),
        ("file:///etc/passwd", "file URLs are not supported, only http and https: give the file's"),
        ("s3://bucket/a.txt", "s3 URLs are not supported, only http and https: download the file"),
        ("sqlite:///a.db", "sqlite URLs are not supported, only http and https"),
        ("http:///a.txt", "has no host: expected https://HOST/FILE"),
        ("http://127.0.0.1:99999/a.txt", "is not a valid URL: Port out of range"),
        ("http://[::1/a.txt", "is not a valid URL: Invalid IPv6 URL"),
        (f"http://{'a' * 70}.org/a.txt", "is not a valid URL: "),
        (
            "https://me:secret@127.0.0.1/a.txt",
            "contains a user name or a password, which the model",
        ),
        ("http://no.such.host.invalid/a.txt", "no such host, or no network: check the URL, or"),
    ],
)
def test_urls_that_cannot_be_read_are_refused_by_name(url, message, server):
    assert refusal(url).startswith(message)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "the server has no such file (404 Not Found): check the URL"),
        (410, "the server has no such file (410 Gone): check the URL"),
        (403, "the server denies access (403 Forbidden): download the file"),
        (401, "the server denies access (401 Unauthorized): download the file"),
        (503, "the server failed (503 Service Unavailable): try again later, or"),
    ],
)
def test_what_a_server_refuses_is_reported(status, message, server):
    assert refusal(server.add("/a.txt", status=status)).startswith(message)


def test_an_unsupported_kind_is_refused_before_the_download(server):
    url = server.add("/a.zip", endless(), "application/zip", length=None)
    assert refusal(url).startswith(
        "is of the type application/zip, which is not read (readable: .txt .md"
    )
    unnamed = refusal(server.add("/a"))
    assert unnamed.startswith("is of the type unknown, which is not read")
    assert unnamed.endswith("download the file yourself, and give its path, with its ending")
    compressed = server.add("/b.txt", b"\x1f\x8b", Content_Encoding="gzip")
    assert refusal(compressed).startswith("arrives compressed (gzip), unasked: ")
    assert refusal(server.add("/c.txt", b"")).startswith("the server sent an empty file")


@pytest.mark.parametrize("length", [None, 1_000_001, 10**18, -5, "many"])
def test_the_bound_holds_whatever_the_server_says(length, server, monkeypatch):
    monkeypatch.setattr(download_module, "MOST_DOWNLOAD_BYTES", 1_000_000)
    url = server.add("/a.txt", endless(), length=length)
    assert refusal(url).startswith("has more than 1,000,000 bytes: download the file yourself")


def test_a_server_that_promises_too_little_or_too_much(server):
    url = server.add("/a.txt", TEXT.encode(), length=20)
    assert read_documents(url).texts == [TEXT.encode()[:20].decode()]
    url = server.add("/b.txt", b"half of it", length=20)
    with pytest.raises(DataError, match="ended after 10 of 20 bytes: try again"):
        read_documents(url)


def test_servers_that_are_silent_or_never_end(server, monkeypatch):
    monkeypatch.setattr(download_module, "SECONDS_OF_SILENCE", 0.2)
    over = threading.Event()

    def stuck():
        yield b"the beginning"
        over.wait(10)

    try:
        assert "the server did not answer for" in refusal(server.add("/a.txt", stuck(), length=99))
    finally:
        over.set()
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts, and does not answer
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/a.txt"
        assert refusal(url).startswith("the server did not answer for 0.2 seconds: try again later")
        port = mute.getsockname()[1]
    assert "cannot be downloaded (Connection refused): check the URL" in refusal(
        f"http://127.0.0.1:{port}/a.txt"
    )
    monkeypatch.setattr(download_module, "SECONDS_IN_ALL", 0)
    assert refusal(server.add("/b.txt", endless(), length=None)).startswith(
        "is not complete after 0"
    )


def test_a_server_of_another_kind():
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer():
            client, _ = other.accept()
            client.recv(1000)
            client.sendall(b"220 mail.example.org ESMTP\r\n")
            client.close()

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{other.getsockname()[1]}/a.txt"
        with pytest.raises(DataError, match=r"cannot be downloaded \(220 mail.example.org ESMTP\)"):
            read_documents(url)


def test_a_download_needs_a_cache_folder(server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "minigpt_tf").write_text("a file in its place")
    with pytest.raises(DataError, match=r"cannot be written to .*: set XDG_CACHE_HOME to a folder"):
        read_documents(server.add("/a.txt"))


def test_urls_are_not_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = "https://example.org/a.txt"
    assert is_url(url) and as_source(url) == url == full_name(url)
    assert not is_url(tmp_path) and not is_url("C:\\a.txt") and not is_url("a//b.txt")
    assert full_name("a.txt") == str(tmp_path / "a.txt") == full_name(as_source("a.txt"))
    with pytest.raises(DataError, match=f"lost a slash, as in a Path: give '{url}'"):
        read_documents(tmp_path.__class__(url))


def test_a_plan_of_a_url(server):
    url = server.add("/ramanujan.txt", SAMPLE.read_bytes())
    plans = [
        make_plan([source], tiny_config("lecture"), data_preset(), training_preset(steps=1))
        for source in (url, SAMPLE)
    ]
    assert plans[0].source_names == [url]
    assert plans[0].corpus.fingerprint == plans[1].corpus.fingerprint
    assert np.array_equal(plans[0].corpus.train_ids, plans[1].corpus.train_ids)


def test_train_resume_and_evaluate_by_url(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    url = server.add("/texts/my%20sample.txt?raw=1", SAMPLE.read_bytes(), "text/plain")
    assert main(["train", "--data", url, *QUICK]) == 0
    assert f"note: {url}: downloaded to {tmp_path}/cache" in capsys.readouterr().out
    out = tmp_path / "models" / "my-sample"
    config = json.loads((out / "config.json").read_text())
    assert config["data"]["sources"] == [url]
    server.pages.clear()
    resume = ["train", "--resume", "--out", str(out), "--steps"]
    assert main([*resume, "5"]) == 0
    assert f"note: {url}: read from the cache, {tmp_path}/cache" in capsys.readouterr().out
    score = ["evaluate", "--model", str(out), "--samples", "0", "--batches", "1"]
    assert main(score) == 0 and main([*score, "--data", url]) == 0
    assert url in capsys.readouterr().out
    (kept,) = (tmp_path / "cache" / "minigpt_tf").glob("*/text.txt")
    kept.unlink()
    assert f"{url}: the server has no such file (404 Not Found)" in error_of([*resume, "6"], capsys)
    server.add("/texts/my%20sample.txt?raw=1", SAMPLE.read_bytes() + b" more of it", "text/plain")
    message = error_of([*resume, "6"], capsys)
    assert "the text or its tokens are not the same" in message and f"of {url}" in message


NO_NETWORK_CODE = """
import sys
from minigpt_tf.files.documents import read_documents
read_documents(sys.argv[1])
heavy = {"urllib.request", "ssl", "http.client"} & set(sys.modules)
assert not heavy, heavy
"""


def test_files_are_read_without_loading_what_speaks_http():
    words = [sys.executable, "-c", NO_NETWORK_CODE, str(SAMPLE)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
