"""A small server with OpenAI's API whose models say what a test tells them to."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from minigpt_tf.serving.page_files import page_routes


@dataclass
class FakeApi:
    """What the server does, and what it has seen."""

    models: dict[str, dict] = field(default_factory=lambda: {"tiny": {}})
    """id -> what /info says about it; empty: nothing, as other servers."""
    words: list[str] = field(default_factory=lambda: ["Hello", " there", "."])
    pause: float = 0.0
    """Seconds between words."""
    key: str = ""
    notices: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    """Of streams."""
    fails: int = 0
    """How many requests get 503."""
    breaks_after: int | None = None
    """Words after which a stream sends an error instead."""
    requests: list[dict] = field(default_factory=list)
    running: int = 0
    canceled: int = 0
    records: list[dict] = field(default_factory=list)
    url: str = ""

    def application(self) -> Starlette:
        routes = [
            Route("/v1/models", self.list_models),
            Route("/info", self.info),
            Route("/health/ready", lambda request: JSONResponse({})),
            Route("/v1/chat/completions", self.answer, methods=["POST"]),
            Route("/v1/completions", self.answer, methods=["POST"]),
            *page_routes(),
        ]
        return Starlette(routes=routes)

    def refused(self, request: Request) -> Response | None:
        given = request.headers.get("authorization")
        if self.key and given != f"Bearer {self.key}":
            return self.error(401, "this server needs an API key")
        return None

    @staticmethod
    def error(status: int, message: str) -> Response:
        error = {"message": message, "type": "error", "param": None, "code": None}
        return JSONResponse({"error": error}, status)

    async def list_models(self, request: Request) -> Response:
        if refused := self.refused(request):
            return refused
        data = [
            {"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in self.models
        ]
        return JSONResponse({"object": "list", "data": data})

    async def info(self, request: Request) -> Response:
        if refused := self.refused(request):
            return refused
        known = [{"id": name, **facts} for name, facts in self.models.items() if facts]
        if not known:  # a server of others
            return self.error(404, "no such path")
        return JSONResponse({"models": known, "aliases": {}, "max_tokens": 512})

    async def answer(self, request: Request) -> Response:
        if refused := self.refused(request):
            return refused
        body = await request.json()
        self.requests.append(body)
        if self.fails:
            self.fails -= 1
            return self.error(503, "the server is overloaded: try again")
        if body.get("model") not in self.models:
            return self.error(404, f"no model {body.get('model')!r}")
        chat = request.url.path.endswith("chat/completions")
        if body.get("stream"):
            events = self.events(chat, body)
            notice = "; ".join(self.notices).encode("ascii", "backslashreplace").decode()
            headers = {**self.headers, **({"X-Notice": notice} if notice else {})}
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        text = "".join(self.words)
        choice = {"index": 0, "finish_reason": "stop"}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        return JSONResponse({"id": "x", "choices": [choice], "usage": self.usage()})

    def usage(self) -> dict:
        count = len(self.words)
        return {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}

    async def events(self, chat: bool, body: dict):
        def event(**values) -> str:
            return f"data: {json.dumps({'id': 'x', 'model': body['model'], **values})}\n\n"

        def piece(text: str, finish: str | None = None) -> dict:
            part = {"delta": {"content": text}} if chat else {"text": text}
            return {"index": 0, "finish_reason": finish, **part}

        self.running += 1
        done = False
        try:
            yield ": ping\n\n"
            for index, word in enumerate(self.words):
                if index == self.breaks_after:
                    yield event(error={"message": "the engine failed", "type": "server_error"})
                    return
                more = {"records": self.records} if self.records and not index else {}
                yield event(choices=[piece(word)], **more)
                await asyncio.sleep(self.pause)
            yield event(choices=[piece("", "stop")])
            if body.get("stream_options", {}).get("include_usage"):
                yield event(choices=[], usage=self.usage())
            yield "data: [DONE]\n\n"
            done = True
        finally:
            self.running -= 1
            self.canceled += not done


@contextlib.contextmanager
def serving(application) -> Iterator[str]:
    """An ASGI application on a free port of 127.0.0.1, in a thread; its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(application, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()


def wait_for(condition, seconds: float = 20.0):
    """The first value of a condition that counts as true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return value
