"""Calls of Telegram's Bot API that obey its flood control, and an answer as messages that grow."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from telegram import Bot, LinkPreviewOptions
from telegram.error import BadRequest, InvalidToken, NetworkError, RetryAfter

from .splitting import MOST_UNITS, first_message, split_text

T = TypeVar("T")

TRIES = 5
"""A call that fails by the network is repeated so often in all."""

DRAFT_SECONDS = 0.3
"""Between two drafts: they are meant to be frequent, but each is a request."""

GROUP_FACTOR = 3
"""A group may get 20 messages a minute, a private chat one a second."""

NO_PREVIEW = LinkPreviewOptions(is_disabled=True)
"""Else Telegram would open addresses that a model has made up."""


def seconds_of(error: RetryAfter) -> float:
    """How long Telegram wants no calls."""
    after = error.retry_after
    return after.total_seconds() if isinstance(after, timedelta) else float(after)


class Calls:
    """Calls for one chat.

    Args:
        bot: What makes them.
        chat_id: The chat.
        is_private: Whether it is with one person.
        edit_seconds: Between two edits of a message.
    """

    def __init__(self, bot: Bot, chat_id: int, is_private: bool, edit_seconds: float) -> None:
        self.bot, self.chat_id = bot, chat_id
        self.drafts = is_private
        self.edit_seconds = edit_seconds * (1 if is_private else GROUP_FACTOR)
        self._not_before = 0.0

    @property
    def is_held(self) -> bool:
        """Whether Telegram has asked to wait."""
        return time.monotonic() < self._not_before

    def hold(self, error: RetryAfter) -> None:
        """Notes until when Telegram wants no calls."""
        self._not_before = time.monotonic() + seconds_of(error)

    async def certainly(self, call: Callable[[], Awaitable[T]]) -> T:
        """Makes a call until it succeeds: waits as Telegram asks, and repeats after a fault."""
        attempt = 0
        while True:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            try:
                return await call()
            except RetryAfter as error:
                self.hold(error)
            except BadRequest:
                raise
            except NetworkError:
                attempt += 1
                if attempt == TRIES:
                    raise
                await asyncio.sleep(min(8.0, 0.5 * 2**attempt))

    async def send(self, text: str, reply_to: int | None = None) -> int:
        """Sends a text, as several messages if it is long.

        Args:
            text: Any text; nothing in it is markup.
            reply_to: The message that it answers, in a group.

        Returns:
            The id of the last message.
        """
        last = 0
        for message in split_text(text):
            last = await self.certainly(functools.partial(self.send_once, message, reply_to))
            reply_to = None
        return last

    async def send_once(self, text: str, reply_to: int | None) -> int:
        """Sends one message, which fits, and gives its id."""
        message = await self.bot.send_message(
            self.chat_id,
            text,
            link_preview_options=NO_PREVIEW,
            reply_to_message_id=reply_to,
            allow_sending_without_reply=True,
        )
        return message.message_id


class GrowingMessage:
    """An answer in a chat: drafts while it grows, or edits of a message, then its final messages.

    Args:
        calls: Of the chat.
        draft_id: Another number for each answer, not 0.
        reply_to: The message that it answers, in a group.
    """

    def __init__(self, calls: Calls, draft_id: int, reply_to: int | None) -> None:
        self._calls, self._draft_id, self._reply_to = calls, draft_id, reply_to
        self._rest = ""
        self._shown = ""
        self._message_id: int | None = None
        self._shown_at = 0.0

    @property
    def pause(self) -> float:
        """Seconds until the next `show` is welcome."""
        calls = self._calls
        between = DRAFT_SECONDS if calls.drafts else calls.edit_seconds
        return max(0.0, self._shown_at + between - time.monotonic())

    def add(self, text: str) -> None:
        """Adds what was generated."""
        self._rest += text

    async def show(self) -> None:
        """Shows the text so far. A call that fails is left out: a later one shows more."""
        await self._send_full()
        text = self._rest.strip()
        if not text or text == self._shown or self._calls.is_held:
            return
        self._shown_at = time.monotonic()
        try:
            await (self._draft(text) if self._calls.drafts else self._edit(text))
            self._shown = text
        except RetryAfter as error:
            self._calls.hold(error)
        except (BadRequest, InvalidToken):  # the second is what status 404 becomes
            self._calls.drafts = False  # a server without drafts: edits instead
        except NetworkError:
            pass

    async def finish(self) -> None:
        """Sends what is left of the text as it shall stay."""
        await self._send_full()
        for text in split_text(self._rest):
            await self._final(text)

    async def _send_full(self) -> None:
        """Messages that are full will not change any more."""
        while True:
            message, rest = first_message(self._rest.lstrip(), MOST_UNITS)
            if not rest:
                return
            self._rest = rest  # before the call, during which more text comes
            await self._final(message)

    async def _final(self, text: str) -> None:
        if self._message_id is None:
            await self._calls.send(text, self._reply_to)
        elif text != self._shown:
            await self._calls.certainly(lambda: self._edit(text))
        self._message_id, self._shown, self._reply_to = None, "", None

    async def _draft(self, text: str) -> None:
        await self._calls.bot.send_message_draft(self._calls.chat_id, self._draft_id, text)

    async def _edit(self, text: str) -> None:
        if self._message_id is None:
            self._message_id = await self._calls.send_once(text, self._reply_to)
            return
        try:
            await self._calls.bot.edit_message_text(
                text, self._calls.chat_id, self._message_id, link_preview_options=NO_PREVIEW
            )
        except BadRequest as error:
            if "not modified" not in str(error):
                raise
