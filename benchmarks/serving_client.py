"""A client that costs little: what is measured shares the processor with it.

It speaks as much HTTP as streams of OpenAI's API need, on asyncio's sockets.
"""

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """What one request brought."""

    status: int = 0
    text: str = ""
    times: list[float] = field(default_factory=list)
    """When each chunk with text came, by `time.perf_counter`."""
    began: float = 0.0
    ended: float = 0.0
    tokens: int = 0
    """Of the answer, as the server counts them."""
    cached: int = 0
    """Tokens of the prompt that were reused."""
    complete: bool = False
    """Whether it ended as it should: by [DONE], or by its length."""
    retry_after: str = ""

    @property
    def first(self) -> float:
        """Seconds to the first text."""
        return self.times[0] - self.began if self.times else float("nan")

    @property
    def rate(self) -> float:
        """Tokens a second after the first."""
        seconds = self.times[-1] - self.times[0] if len(self.times) > 1 else 0.0
        return (self.tokens - 1) / seconds if seconds else float("nan")

    def longest_gap(self, since: float, until: float) -> float:
        """Between two chunks, one of which came between two times."""
        inside = [t for t in self.times if since - 1 <= t <= until + 1]
        pairs = itertools.pairwise(inside)
        return max((b - a for a, b in pairs if b >= since and a <= until), default=float("nan"))


async def post(
    port: int,
    body: dict[str, Any],
    path: str = "/v1/chat/completions",
    *,
    stop_after: int | None = None,
    read_size: int = 2**16,
    pause: float = 0.0,
) -> Answer:
    """One request; of a stream the text as it comes.

    Args:
        port: Of the server, on this machine.
        body: The request.
        path: Where to.
        stop_after: Chunks after which the client goes (unset: never).
        read_size: Bytes that are read at a time.
        pause: Seconds between two reads.
    """
    answer = Answer(began=time.perf_counter())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    try:
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Connection: close\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        answer.status = int(headers.split()[1])
        answer.retry_after = headers.partition("retry-after: ")[2].partition("\r\n")[0]
        if "text/event-stream" not in headers:
            _take_whole(answer, await reader.read())
            return answer
        rest = b""
        while data := await reader.read(read_size):
            now = time.perf_counter()
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.startswith(b"data: "):
                    _take_event(answer, line[6:], now)
            if stop_after is not None and len(answer.times) >= stop_after:
                writer.transport.abort()
                break
            if pause:
                await asyncio.sleep(pause)
        return answer
    finally:
        answer.ended = time.perf_counter()
        writer.close()


def _take_event(answer: Answer, data: bytes, now: float) -> None:
    if data.strip() == b"[DONE]":
        answer.complete = True
        return
    event = json.loads(data)
    _count(answer, event.get("usage"))
    for choice in event.get("choices", ()):
        text = choice.get("text") or choice.get("delta", {}).get("content")
        if text:
            answer.text += text
            answer.times.append(now)


def _take_whole(answer: Answer, data: bytes) -> None:
    if answer.status == 200:
        _, mark, chunked = data.partition(b"\r\n") if not data.startswith(b"{") else (b"", b"", b"")
        found = json.loads(data if not mark else chunked[: chunked.rindex(b"}") + 1])
        (choice,) = found["choices"]
        answer.text = choice.get("text") or choice["message"]["content"]
        _count(answer, found.get("usage"))
        answer.complete = True
        answer.times.append(time.perf_counter())


def _count(answer: Answer, usage: dict[str, Any] | None) -> None:
    if usage:
        answer.tokens = usage["completion_tokens"]
        answer.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)


async def get(port: int, path: str) -> tuple[int, float]:
    """The status of a path, and how long it took; status 0 if nobody listens."""
    began = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0, 0.0
    try:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        line = await reader.readline()
        return int(line.split()[1]), time.perf_counter() - began
    except (OSError, IndexError):
        return 0, 0.0
    finally:
        writer.close()
