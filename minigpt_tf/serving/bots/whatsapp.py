"""The WhatsApp bot: a webhook of Meta's Cloud API; messages are answered in the background."""

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ...config.bots import BotConfig
from ...events import Listener
from .conversations import BUSY, READS_TEXT, Conversations
from .graph import GraphApi, GraphError
from .splitting import split_text
from .state import BotState

PATH = "/webhook"
MOST_BYTES = 4 * 2**20
"""Of a request; Meta's have up to 3 MB."""

MOST_WAITING = 3
"""Messages of one user that wait for the answer before them."""

DRAIN_SECONDS = 20.0
"""Answers may take so long after the end was asked for."""


@dataclass(frozen=True)
class Incoming:
    """A message of a user."""

    message_id: str
    sender: str
    text: str | None
    """None: a picture, a voice or anything else."""


def incoming_messages(body: Mapping[str, Any], phone_id: str) -> Iterator[Incoming]:
    """The messages in what Meta sends; reports of delivery and other numbers' are left out.

    Args:
        body: The request, parsed.
        phone_id: Of the number that answers.

    Yields:
        The messages.
    """
    for entry in _dicts(body.get("entry")):
        for change in _dicts(entry.get("changes")):
            value = change.get("value")
            if not isinstance(value, dict):
                continue
            metadata = value.get("metadata")
            if not isinstance(metadata, dict) or metadata.get("phone_number_id") != phone_id:
                continue
            for message in _dicts(value.get("messages")):
                found, sender = message.get("id"), message.get("from")
                if isinstance(found, str) and isinstance(sender, str):
                    text = message.get("text")
                    said = text.get("body") if isinstance(text, dict) else None
                    yield Incoming(found, sender, said if isinstance(said, str) else None)


def _dicts(values: object) -> Iterator[dict[str, Any]]:
    if isinstance(values, list):
        yield from (value for value in values if isinstance(value, dict))


def is_signed(secret: str, body: bytes, signature: str) -> bool:
    """Whether a request comes from Meta.

    Args:
        secret: The app's.
        body: The bytes as they came.
        signature: The header X-Hub-Signature-256.

    Returns:
        False for any other signature.
    """
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode())


class WhatsAppBot:
    """Answers messages to one phone number.

    Args:
        graph: Sends what is answered.
        secret: The app's, which signs requests.
        verify: The word by which Meta verifies the address.
        conversations: Answers.
        state: What was answered before.
        bot: Who is answered.
        listener: Gets what fails.
    """

    def __init__(
        self,
        graph: GraphApi,
        secret: str,
        verify: str,
        conversations: Conversations,
        state: BotState,
        bot: BotConfig,
        listener: Listener,
    ) -> None:
        self._graph, self._secret, self._verify = graph, secret, verify
        self._conversations, self._state, self._listener = conversations, state, listener
        self._allowed = {number.lstrip("+") for number in bot.allow}
        self._waiting: dict[str, list[Incoming]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def application(self) -> Starlette:
        """The webhook as an ASGI application."""
        routes = [
            Route(PATH, self._verified, methods=["GET"]),
            Route(PATH, self._receive, methods=["POST"]),
            Route("/health", lambda request: PlainTextResponse("ok\n")),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, application: Starlette) -> AsyncIterator[None]:
        yield
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=DRAIN_SECONDS)
        for task in list(self._tasks.values()):
            task.cancel()

    async def _verified(self, request: Request) -> Response:
        asked = request.query_params
        token = asked.get("hub.verify_token", "").encode()
        if asked.get("hub.mode") == "subscribe" and hmac.compare_digest(
            token, self._verify.encode()
        ):
            return PlainTextResponse(asked.get("hub.challenge", ""))
        return PlainTextResponse("wrong verify token\n", 403)

    async def _receive(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                return PlainTextResponse("too large\n", 413)
        if not is_signed(self._secret, body, request.headers.get("x-hub-signature-256", "")):
            return PlainTextResponse("wrong signature\n", 403)
        try:
            parsed = json.loads(body)
        except ValueError:
            return PlainTextResponse("not JSON\n", 400)
        if isinstance(parsed, dict):
            for message in incoming_messages(parsed, self._graph.phone_id):
                if self._state.is_new(f"whatsapp {message.message_id}"):
                    self._take(message)
        return PlainTextResponse("ok\n")  # at once: Meta sends again what takes long

    def _take(self, message: Incoming) -> None:
        """Answers a user's messages one after the other, without waiting for it."""
        waiting = self._waiting.setdefault(message.sender, [])
        if (message.text or "").strip().casefold() == "/stop":
            waiting.clear()
            if message.sender in self._tasks:
                self._tasks[message.sender].cancel()
                return
        waiting.append(message)
        if message.sender not in self._tasks:
            self._tasks[message.sender] = asyncio.create_task(self._work(message.sender))

    async def _work(self, sender: str) -> None:
        waiting = self._waiting[sender]
        try:
            while waiting:
                if len(waiting) > MOST_WAITING:
                    del waiting[MOST_WAITING:]
                    await self._say(sender, BUSY)
                await self._reply(waiting.pop(0))
        except asyncio.CancelledError:
            await self._say(sender, "Stopped.")
        except GraphError as error:
            self._listener.notice(f"a chat cannot be answered: {error}")
        finally:
            del self._tasks[sender], self._waiting[sender]

    async def _reply(self, message: Incoming) -> None:
        if self._allowed and message.sender not in self._allowed:
            await self._say(message.sender, "This bot is private.")
            return
        await self._graph.mark_read(message.message_id)
        text = (message.text or "").strip()
        if not text:
            await self._say(message.sender, READS_TEXT)
        elif text.startswith("/"):
            command = text.partition(" ")[0].lower() + text[len(text.partition(" ")[0]) :]
            said = "I am not answering." if command == "/stop" else None
            reply = said or await self._conversations.command(message.sender, command)
            await self._say(message.sender, reply)
        else:
            answer = ""
            async with contextlib.aclosing(
                self._conversations.answer(message.sender, text)
            ) as texts:
                async for new in texts:
                    answer += new
            await self._say(message.sender, answer)

    async def _say(self, receiver: str, text: str) -> None:
        for message in split_text(text):
            await self._graph.send(receiver, message)
