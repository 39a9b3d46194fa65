"""Answers as server-sent events: whole events, comments while there is nothing to send, an error as
an event, and an end to clients that do not read."""

import asyncio
import time
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..admission import Answers
from ..errors import as_bytes, error_object

PING, DONE = b": \n\n", b"data: [DONE]\n\n"
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
"""Of a stream: nothing between server and client may store it or hold it back."""


class Frames(Protocol):
    """Writes the answers of a request as events."""

    behind: bool
    """Whether `more` has left something for the next call."""

    def begin(self) -> bytes:
        """What stands before all text."""
        ...

    def more(self) -> bytes:
        """What has come since the last call, perhaps nothing. Raises what ended an answer."""
        ...

    def end(self) -> bytes:
        """What stands behind all text."""
        ...

    def failed(self, error: dict[str, Any]) -> bytes:
        """What stands there instead, if an answer failed."""
        ...


def event(content: Any, name: str = "") -> bytes:
    """One event.

    Args:
        content: Plain data.
        name: Of the event, if it has one.

    Returns:
        Its bytes.
    """
    head = f"event: {name}\n".encode() if name else b""
    return b"%sdata: %s\n\n" % (head, as_bytes(content))


class EventStream(Response):
    """Sends the answers of a request as they come, and cancels them when the client has gone.

    What comes while the client does not read is sent as one event later. All waiting is for the
    client alone: the engine never waits.

    Args:
        answers: Of the request; closed at the end.
        frames: Writes them.
        headers: Further ones.
    """

    def __init__(
        self, answers: Answers, frames: Frames, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(None, 200, {**HEADERS, **(headers or {})})
        del self.headers["content-length"]
        self._answers, self._frames = answers, frames
        self._config = answers.state.config
        self._sent = time.perf_counter()
        self._sending: float | None = None
        self._ping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs until all is sent or nobody reads any more."""
        pump = asyncio.ensure_future(self._pump(send))
        watch = asyncio.ensure_future(_gone(receive))
        look = asyncio.ensure_future(self._look(scope))
        try:
            await asyncio.wait({pump, watch, look}, return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                pump.result()
            elif not watch.done():
                look.result()
        finally:
            self._answers.close()
            for task in (pump, watch, look):
                task.cancel()
            await asyncio.gather(pump, watch, look, return_exceptions=True)

    async def _pump(self, send: Send) -> None:
        answers, frames = self._answers, self._frames
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        await self._send(send, frames.begin())
        try:
            while True:
                answers.changed.clear()
                done = answers.done
                if chunk := frames.more():
                    await self._send(send, chunk)
                elif self._ping:
                    await self._send(send, PING)
                if frames.behind:
                    await asyncio.sleep(0)
                    continue
                if done:
                    break
                await answers.changed.wait()
        except Exception as error:
            last = frames.failed(error_object(error, answers.call.id))
            answers.call.facts["error"] = getattr(error, "code", None) or type(error).__name__
        else:
            last = frames.end()
        await self._send(send, last, more=False)

    async def _send(self, send: Send, body: bytes, more: bool = True) -> None:
        message: Message = {"type": "http.response.body", "body": body, "more_body": more}
        self._sent = self._sending = time.perf_counter()
        await send(message)
        self._sending, self._ping = None, False

    async def _look(self, scope: Scope) -> None:
        """Returns when the client has read nothing for too long; asks for comments before."""
        most, often = self._config.send_seconds, self._config.ping_seconds
        while True:
            await asyncio.sleep(min(1.0, most / 2, often / 2))
            now = time.perf_counter()
            if self._sending is not None and now - self._sending > most:
                self._answers.call.facts["error"] = "send_timeout"
                transport = scope.get("state", {}).get("transport")
                if transport is not None:
                    transport.abort()
                return
            if self._sending is None and now - self._sent >= often:
                self._ping = True
                self._answers.changed.set()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
