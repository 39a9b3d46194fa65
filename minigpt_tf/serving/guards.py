"""What stands before every route: names of the host, sites, keys, size and form of the body."""

import asyncio
import ipaddress
import secrets
from collections.abc import Container
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import Refusal, refused
from .logs import finish
from .state import Call, State

METHODS = "GET, POST, OPTIONS"
FREE = ("/health", "/health/live", "/health/ready")
"""Paths that need no key, beside the page's files."""
JSON_TYPES = ("application/json", "text/json")
PATIENCE = 2.0
"""Seconds in which a body that is refused may still arrive."""
SPACE = 2**16
"""Of a header with a key at most."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    Args:
        host: A name or an address.

    Returns:
        True for localhost, 127.0.0.0/8 and ::1.
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guards:
    """The outermost layer of the application.

    Args:
        app: What answers.
        state: Of the server.
        posts: Paths that take a body.
        free: Paths of the page's files, which need no key.
    """

    def __init__(
        self, app: ASGIApp, state: State, posts: Container[str], free: Container[str]
    ) -> None:
        self._app, self._state, self._posts, self._free = app, state, posts, free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or refuses before anything has been read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = scope["minigpt.call"] = Call(secrets.token_hex(8), "")
        headers = Headers(scope=scope)
        status, started, added = 500, False, self._added_headers(call, headers)

        async def sending(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            response = self._refusal_of_names(scope, headers)
            if response is None:
                self._check_key(scope, headers, call)
                if scope["method"] == "POST" and scope["path"] in self._posts:
                    receive = await self._read(headers, receive)
                await self._app(scope, receive, sending)
            else:
                await response(scope, receive, sending)
        except Refusal as error:
            if error.status != 408 and not await self._rest_is_read(receive):
                error.headers.setdefault("Connection", "close")
            await refused(error)(scope, receive, sending)
        except Exception as error:
            call.facts["exception"] = error
            if not started:
                await refused(error, call.id)(scope, receive, sending)
        finally:
            finish(self._state, scope, call, status)

    def _added_headers(self, call: Call, headers: Headers) -> list[tuple[bytes, bytes]]:
        added = [(b"x-request-id", call.id.encode())]
        origin = headers.get("origin")
        if origin is not None and origin in self._state.config.origins:
            added += [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-expose-headers", b"x-request-id, x-notice, retry-after"),
                (b"vary", b"Origin"),
            ]
        return added

    def _refusal_of_names(self, scope: Scope, headers: Headers) -> Response | None:
        """What is answered to a foreign Host or Origin, or to a browser that asks beforehand."""
        config = self._state.config
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        allowed = name in config.hosts or name == config.host.strip("[]")
        allowed = allowed or is_loopback(name) or (not host and scope["http_version"] == "1.0")
        if not allowed and (is_loopback(config.host) or config.hosts):
            message = f"Host {host!r:.60} is not this server's: add it with --hosts"
            raise Refusal(message, 403, code="wrong_host")
        origin = headers.get("origin")
        same = host and (origin or "").lower().endswith(f"://{host.lower()}")
        if origin is not None and origin not in config.origins and not same:
            message = f"the web site {origin!r:.60} may not call this server: add it with --origins"
            raise Refusal(message, 403, code="wrong_origin")
        asks = "access-control-request-method" in headers
        if scope["method"] == "OPTIONS" and origin is not None and asks:
            wanted = headers.get("access-control-request-headers", "authorization, content-type")
            return Response(
                status_code=204,
                headers={
                    "Access-Control-Allow-Methods": METHODS,
                    "Access-Control-Allow-Headers": wanted,
                    "Access-Control-Max-Age": "600",
                },
            )
        return None

    def _check_key(self, scope: Scope, headers: Headers, call: Call) -> None:
        """Finds out who asks. Raises Refusal where a key is needed and there is none."""
        keys = self._state.keys
        if not keys:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        name = None
        if scheme.lower() == "bearer" and len(given) < SPACE:
            name = keys.name_of(given.strip().encode("latin-1"))
        call.key = name or ""
        path = scope["path"]
        if name is None and path not in FREE and path not in self._free:
            raise Refusal(
                "this server needs an API key: send it as the header Authorization: Bearer KEY",
                401,
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def _read(self, headers: Headers, receive: Receive) -> Receive:
        """Reads the body, and gives it once more to who reads it next."""
        config = self._state.config
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in JSON_TYPES:
            raise Refusal(
                f"Content-Type {kind!r:.60}: send JSON, as application/json",
                415,
                code="unsupported_media_type",
            )
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(
                "Content-Encoding: send the body as it is", 415, code="unsupported_encoding"
            )
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length[:20]) > config.body_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(config.upload_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        break
                    body += message.get("body", b"")
                    if len(body) > config.body_bytes:
                        raise self._too_large()
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise Refusal(
                f"the body took more than {config.upload_seconds:g} seconds",
                408,
                code="slow_upload",
            ) from None
        given: list[dict[str, Any]] = [
            {"type": "http.request", "body": bytes(body), "more_body": False}
        ]

        async def again() -> Message:
            return given.pop() if given else await receive()

        return again

    async def _rest_is_read(self, receive: Receive) -> bool:
        """Reads what is left of a body that is refused; if it is not too much, which it says.

        A connection that is closed with something unread is reset, and the client may never see
        why.
        """
        size, most = 0, 4 * self._state.config.body_bytes
        try:
            async with asyncio.timeout(PATIENCE):
                while size < most:
                    message = await receive()
                    size += len(message.get("body", b""))
                    if not message.get("more_body"):
                        return True
        except TimeoutError:
            pass
        return False

    def _too_large(self) -> Refusal:
        return Refusal(
            f"the body has more than {self._state.config.body_bytes:,} bytes: send less",
            413,
            code="body_too_large",
        )
