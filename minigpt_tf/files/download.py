"""Texts by URL: downloaded once, within bounds, into the cache folder."""

import codecs
import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..config import MOST_DOWNLOAD_BYTES, check_encoding
from ..errors import ConfigError, DataError
from ..events import Listener
from ..storage.cache import Facts, open_entry
from .decoding import SAMPLE
from .readers import READERS
from .sources import SCHEME

MOST_REDIRECTS = 5
SECONDS_OF_SILENCE = 30
SECONDS_IN_ALL = 3600
"""Longest wait for the next bytes, and for the whole file."""

HEAD = 1 << 10
"""Bytes that show whether a file is HTML."""

DOWNLOAD_VERSION = 1
"""Of what this module keeps in the cache."""

HEADERS = {"User-Agent": "minigpt_tf", "Accept": "*/*", "Accept-Encoding": "identity"}

_OFFICE = "application/vnd.openxmlformats-officedocument"
ENDINGS = {
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/json": ".json",
    "application/jsonl": ".jsonl",
    "application/x-ndjson": ".jsonl",
    "application/pdf": ".pdf",
    f"{_OFFICE}.wordprocessingml.document": ".docx",
    f"{_OFFICE}.spreadsheetml.sheet": ".xlsx",
}
"""Content type -> file ending, for URLs without one."""

ELSEWHERE = "download the file yourself, and give its path"


@dataclass(frozen=True)
class Download:
    """A downloaded file."""

    url: str
    path: Path
    """Where it is kept; its ending is that of the kind of file."""
    encoding: str | None
    """The charset of the header, if the text is not UTF-8."""


def download(url: str, listener: Listener) -> Download:
    """The file at a URL: from the cache, or downloaded into it.

    Args:
        url: http or https.
        listener: Gets how far it is, and the path.

    Returns:
        Where the file is.

    Raises:
        DataError: An unsupported kind of URL or file, a server that does not send the file, more
            than MOST_DOWNLOAD_BYTES, no folder to keep it in.
    """
    address = _address_of(url)
    key = {"what": "download", "url": address, "version": DOWNLOAD_VERSION}
    with open_entry(key) as entry:
        if entry.problem:
            raise DataError(
                f"{url}: {entry.problem}: set XDG_CACHE_HOME to a folder that can be written to"
            )
        if entry.facts is None:
            facts = entry.finish(_fetch(url, address, entry.folder, listener))
            path = entry.folder / facts["name"]
            listener.notice(f"{url}: downloaded to {path}")
        else:
            facts = entry.facts
            path = entry.folder / facts["name"]
            listener.notice(f"{url}: read from the cache, {path}: delete it to download again")
        return Download(url, path, facts["encoding"])


def _address_of(url: str) -> str:
    """The URL with everything quoted, as it is sent. Raises DataError."""
    scheme = SCHEME.match(url)
    kind = scheme[1].lower() if scheme else ""
    if kind not in ("http", "https"):
        instead = "give the file's path" if kind == "file" else ELSEWHERE
        raise DataError(f"{url}: {kind} URLs are not supported, only http and https: {instead}")
    try:
        address = urllib.parse.urlsplit(url)
        host, port = address.hostname, address.port
        name = host.encode("idna").decode() if host and ":" not in host else f"[{host}]"
    except ValueError as error:  # UnicodeError too
        raise DataError(f"{url}: is not a valid URL: {error}") from None
    if not host:
        raise DataError(f"{url}: has no host: expected https://HOST/FILE")
    if "@" in address.netloc:
        raise DataError(
            f"{url}: contains a user name or a password, which the model folder would keep: "
            f"{ELSEWHERE}"
        )
    place = name if port is None else f"{name}:{port}"
    path, query = (
        urllib.parse.quote(text, safe="/%:;,=&?~+!$'()*@[]")
        for text in (address.path, address.query)
    )
    return urllib.parse.urlunsplit((kind, place, path or "/", query, ""))


def _fetch(url: str, address: str, folder: Path, listener: Listener) -> Facts:
    """Writes the file into the folder. Returns its name, and its encoding if that is not UTF-8."""
    with _open(url, address) as response:
        if response.length is not None and response.length > MOST_DOWNLOAD_BYTES:
            raise _too_large(url)
        coding = response.headers.get("Content-Encoding", "identity").lower()
        if coding != "identity":
            raise DataError(f"{url}: arrives compressed ({coding:.20}), unasked: {ELSEWHERE}")
        ending = _ending_of(url, response)
        blocks = _blocks(url, response, listener)
        head = b""
        while len(head) < HEAD and (block := next(blocks, b"")):
            head += block
        if not head:
            raise DataError(f"{url}: the server sent an empty file: check the URL")
        if response.headers.get_content_type() == "text/html" and _is_page(head):
            ending = ".html"  # such as GitHub's page about a .md file
        encoding = _Charset(response.headers.get_content_charset())
        encoding.feed(head)
        with open(folder / f"text{ending}", "wb") as file:
            file.write(head)
            for block in blocks:
                encoding.feed(block)
                file.write(block)
    return {"name": f"text{ending}", "encoding": encoding.found()}


def _open(url: str, address: str) -> http.client.HTTPResponse:
    """The server's answer, its body not yet read. Raises DataError."""
    opener = urllib.request.OpenerDirector()  # the default one also opens file:// and ftp://
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _Redirects,
    ):
        opener.add_handler(handler())
    request = urllib.request.Request(address, headers=HEADERS)
    try:
        return opener.open(request, timeout=SECONDS_OF_SILENCE)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"{url}: {_explain(error)}") from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, and only to http and https."""

    max_redirections = max_repeats = MOST_REDIRECTS

    def http_error_302(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any
    ) -> Any:
        """Follows a redirect to http or https only."""
        target = urllib.parse.urljoin(req.full_url, headers.get("Location", ""))
        if not target.startswith(("http://", "https://")):
            raise DataError(
                f"{req.full_url}: redirects to {target:.200}, which is neither http nor https: "
                "check the URL"
            )
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _blocks(url: str, response: http.client.HTTPResponse, listener: Listener) -> Iterator[bytes]:
    """The body, block by block, whatever length the server claims. Raises DataError."""
    expected, done = response.length, 0
    latest = time.monotonic() + SECONDS_IN_ALL
    while True:
        try:
            block = response.read1(SAMPLE)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DataError(f"{url}: {_explain(error)}") from None
        if not block:
            break
        done += len(block)
        if done > MOST_DOWNLOAD_BYTES:
            raise _too_large(url)
        if time.monotonic() > latest:
            raise DataError(
                f"{url}: is not complete after {SECONDS_IN_ALL // 60} minutes: {ELSEWHERE}"
            )
        listener.preparation("downloading", done, expected or 0)
        yield block
    if expected is not None and done < expected:
        raise DataError(
            f"{url}: the connection ended after {done:,} of {expected:,} bytes: try again"
        )


def _too_large(url: str) -> DataError:
    return DataError(f"{url}: has more than {MOST_DOWNLOAD_BYTES:,} bytes: {ELSEWHERE}")


def _explain(error: Exception) -> str:
    """What went wrong between here and the server, and what to do."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        answer = f"{error.code} {' '.join(str(error.reason).split()):.60}".rstrip()
        if error.code in (404, 410):
            return f"the server has no such file ({answer}): check the URL"
        if error.code in (401, 403, 407):
            return f"the server denies access ({answer}): {ELSEWHERE}"
        if 300 <= error.code < 400:
            return f"redirects more than {MOST_REDIRECTS} times, or to nowhere: check the URL"
        return f"the server failed ({answer}): try again later, or {ELSEWHERE}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, socket.gaierror):
        return f"no such host, or no network: check the URL, or {ELSEWHERE}"
    if isinstance(reason, TimeoutError):
        return f"the server did not answer for {SECONDS_OF_SILENCE} seconds: try again later"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"the server's certificate is not valid ({reason.verify_message}): {ELSEWHERE}"
    said = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    said = " ".join(said.split()) or type(reason).__name__
    return f"cannot be downloaded ({said:.100}): check the URL, or {ELSEWHERE}"


def _ending_of(url: str, response: http.client.HTTPResponse) -> str:
    """The kind of file: by the URL, by the one that it redirects to, or by the content type."""
    for address in (url, response.url):
        path = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(address).path))
        if path.suffix.lower() in READERS:
            return path.suffix.lower()
    named = response.headers.get_content_type() if "Content-Type" in response.headers else None
    if named in ENDINGS:
        return ENDINGS[named]
    raise DataError(
        f"{url}: is of the type {named or 'unknown'}, which is not read (readable: "
        f"{' '.join(READERS)}): {ELSEWHERE}, with its ending"
    )


def _is_page(head: bytes) -> bool:
    """Whether a file with this beginning is HTML."""
    return re.match(rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype\s+html|html)\b", head) is not None


class _Charset:
    """The charset of a header: a hint, used if the text is not UTF-8."""

    def __init__(self, name: str | None) -> None:
        self.name = name if name and _is_encoding(name) else None
        self.utf8 = codecs.getincrementaldecoder("utf-8")() if self.name else None

    def feed(self, block: bytes, final: bool = False) -> None:
        """The next bytes of the text."""
        try:
            if self.utf8 is not None:
                self.utf8.decode(block, final)
        except UnicodeDecodeError:
            self.utf8 = None

    def found(self) -> str | None:
        """The encoding; None for UTF-8 and where the header has none."""
        self.feed(b"", final=True)
        if self.name is None or self.utf8 is not None:
            return None
        latin = codecs.lookup(self.name).name == "iso8859-1"
        return "cp1252" if latin else self.name  # as browsers read it


def _is_encoding(name: str) -> bool:
    try:
        check_encoding(name)
    except ConfigError:
        return False
    return True
