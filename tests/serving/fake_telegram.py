"""A server with as much of Telegram's Bot API as the bot uses, and with its faults."""

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOKEN = "123456:test-token"
BOT = {"id": 99, "is_bot": True, "first_name": "Mini", "username": "mini_bot"}


@dataclass
class FakeTelegram:
    """What users have written, what the bot has called, and what their screens show."""

    calls: list[tuple[float, str, dict]] = field(default_factory=list)
    faults: list[tuple[str, object]] = field(default_factory=list)
    """(method, what) for the next call of a method: a status, a number of retry_after as a string,
    or "drop"."""
    methods_missing: tuple[str, ...] = ()
    screens: dict[int, dict[int, str]] = field(default_factory=dict)
    """Chat -> id of a message -> its text, of the bot's messages."""
    updates: list[dict] = field(default_factory=list)
    confirmed: int = 0
    keeps_updates: bool = False
    """Whether updates are sent again although they were confirmed."""
    url: str = ""

    def __post_init__(self) -> None:
        self._ids = itertools.count(1)
        self._messages = itertools.count(100)

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/bot{token}/{method}", self.call, methods=["POST"])])

    def write(self, text: str | None, user: str = "ann", chat: int = 1, **more) -> int:
        """A user writes to the bot; the id of the update."""
        number = next(self._ids)
        kind = "private" if chat > 0 else "group"
        message = {
            "message_id": number,
            "date": int(time.time()),
            "chat": {"id": chat, "type": kind, "title": "group", "first_name": user},
            "from": {
                "id": hash(user) % 1000,
                "is_bot": False,
                "first_name": user,
                "username": user,
            },
            **({"text": text} if text is not None else {}),
            **more,
        }
        if text and "@" in text:
            at = text.index("@")
            length = len(text[at:].split()[0])
            message["entities"] = [{"type": "mention", "offset": at, "length": length}]
        self.updates.append({"update_id": number, "message": message})
        return number

    def texts(self, chat: int = 1) -> list[str]:
        return list(self.screens.get(chat, {}).values())

    def called(self, method: str) -> list[dict]:
        return [values for _, name, values in self.calls if name == method]

    async def call(self, request: Request) -> Response:
        method = request.path_params["method"]
        values = {k: v[0] for k, v in parse_qs((await request.body()).decode()).items()}
        self.calls.append((time.monotonic(), method, values))
        if request.path_params["token"] != TOKEN:
            return self.error(401, "Unauthorized")
        if method in self.methods_missing:
            return self.error(404, "Not Found: method not found")
        for fault in self.faults:
            if fault[0] == method:
                self.faults.remove(fault)
                return self.fault(fault[1])
        result = await getattr(self, f"do_{method}")(values)
        return JSONResponse({"ok": True, "result": result})

    @staticmethod
    def error(status: int, text: str, **more) -> Response:
        body = {"ok": False, "error_code": status, "description": text, **more}
        return JSONResponse(body, status)

    def fault(self, what: object) -> Response:
        if what == "drop":
            return Response(b"", headers={"content-length": "9"})  # fewer bytes than promised
        if isinstance(what, str):
            seconds = {"parameters": {"retry_after": int(what)}}
            return self.error(429, f"Too Many Requests: retry after {what}", **seconds)
        return self.error(int(what), "Bad Request: something" if what == 400 else "Server Error")

    async def do_getMe(self, values):
        return BOT

    async def do_getUpdates(self, values):
        offset = int(values.get("offset", 0))
        self.confirmed = max(self.confirmed, offset)
        end = time.monotonic() + int(values.get("timeout", 0))
        while True:
            oldest = 0 if self.keeps_updates and not offset else self.confirmed
            new = [update for update in self.updates if update["update_id"] >= max(oldest, offset)]
            if new or time.monotonic() > end:
                return new
            await asyncio.sleep(0.02)

    async def do_sendMessage(self, values):
        assert "parse_mode" not in values and len(values["text"].encode("utf-16-le")) // 2 <= 4096
        number, chat = next(self._messages), int(values["chat_id"])
        self.screens.setdefault(chat, {})[number] = values["text"]
        kind = "private" if chat > 0 else "group"
        about = {"id": chat, "type": kind, "first_name": "x"}
        return {"message_id": number, "date": 1, "chat": about, "text": values["text"]}

    async def do_editMessageText(self, values):
        screen = self.screens[int(values["chat_id"])]
        number = int(values["message_id"])
        assert screen[number] != values["text"], "not modified"
        screen[number] = values["text"]
        about = {"id": int(values["chat_id"]), "type": "group", "title": "x"}
        return {"message_id": number, "date": 1, "chat": about, "text": values["text"]}

    async def do_sendMessageDraft(self, values):
        assert int(values["draft_id"]) and int(values["chat_id"]) > 0
        return True

    async def do_sendChatAction(self, values):
        return True

    def dump(self) -> str:
        return json.dumps(self.calls)
