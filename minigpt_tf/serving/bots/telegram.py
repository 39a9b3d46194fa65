"""The Telegram bot: polls for messages, and answers them while they are generated."""

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import aclosing

from telegram import Bot, Message, Update
from telegram.constants import ChatAction
from telegram.error import Conflict, Forbidden, InvalidToken, RetryAfter, TelegramError
from telegram.request import HTTPXRequest

from ...config.bots import BotConfig, TelegramConfig
from ...errors import ConfigError
from ...events import Listener
from .conversations import BUSY, HELP, READS_TEXT, Conversations
from .state import BotState
from .telegram_calls import Calls, GrowingMessage, seconds_of

LONGEST_BACKOFF = 60.0
"""Seconds between two tries while Telegram cannot be reached."""

CONNECTIONS = 64
"""Requests to Telegram at a time."""

TYPING_SECONDS = 4.0
"""Telegram shows "typing" for five."""


class TelegramBot:
    """Answers messages of one bot account.

    Args:
        token: From BotFather.
        conversations: Answers.
        state: What was answered before.
        bot: Who is answered.
        config: Telegram's server, and how fast messages are edited.
        listener: Gets what happens.
    """

    def __init__(
        self,
        token: str,
        conversations: Conversations,
        state: BotState,
        bot: BotConfig,
        config: TelegramConfig,
        listener: Listener,
    ) -> None:
        server = config.telegram_api.rstrip("/")
        self._bot = Bot(
            token,
            base_url=f"{server}/bot",
            base_file_url=f"{server}/file/bot",
            request=HTTPXRequest(CONNECTIONS, read_timeout=20, pool_timeout=60),
            get_updates_request=HTTPXRequest(2, read_timeout=20),
        )
        self._conversations, self._state, self._listener = conversations, state, listener
        self._config = config
        self._allowed = {name.lstrip("@").casefold() for name in bot.allow}
        self._calls: dict[int, Calls] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, started: asyncio.Event | None = None) -> None:
        """Polls until it is canceled.

        Raises:
            ConfigError: Telegram refuses the token, or cannot be reached at the start.
        """
        try:
            await self._bot.initialize()
        except (InvalidToken, Forbidden):
            raise ConfigError(
                "Telegram refuses the token: check --token-file or MINIGPT_TELEGRAM_TOKEN; "
                "BotFather shows it"
            ) from None
        except TelegramError as error:
            raise ConfigError(f"{self._config.telegram_api}: cannot be used: {error}") from None
        self._listener.notice(f"@{self._bot.username} answers (Ctrl-C ends)")
        if not self._allowed:
            self._listener.notice("whoever finds the bot can use it: --allow NAME limits that")
        if started:
            started.set()
        try:
            await self._poll()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._bot.shutdown()

    async def _poll(self) -> None:
        offset, backoff = None, 1.0
        while True:
            try:
                updates = await self._bot.get_updates(
                    offset, timeout=self._config.poll_seconds, allowed_updates=["message"]
                )
                backoff = 1.0
            except (InvalidToken, Conflict) as error:
                reason = (
                    "another process polls for it" if isinstance(error, Conflict) else "revoked"
                )
                raise ConfigError(f"the bot's token cannot be used: {reason}") from None
            except RetryAfter as error:
                await asyncio.sleep(seconds_of(error))
                continue
            except TelegramError as error:
                self._listener.notice(f"Telegram cannot be reached: {error}; next try soon")
                await asyncio.sleep(backoff)
                backoff = min(LONGEST_BACKOFF, 2 * backoff)
                continue
            offset = self._take(updates) or offset

    def _take(self, updates: Sequence[Update]) -> int | None:
        """Begins to answer; gives the id from which on Telegram shall send the next ones."""
        for update in updates:
            if update.message and self._state.is_new(f"telegram {update.update_id}"):
                task = asyncio.create_task(self._handle(update.message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return updates[-1].update_id + 1 if updates else None

    async def _handle(self, message: Message) -> None:
        try:
            await self._reply(message)
        except TelegramError as error:  # such as a user who has blocked the bot
            self._listener.notice(f"a chat cannot be answered: {error}")

    async def _reply(self, message: Message) -> None:
        text = self._addressed(message)
        if text is None:
            return
        calls, chat_id = self._calls_of(message), message.chat.id
        user = message.from_user
        names = {str(user.id), (user.username or "").casefold()} if user else set()
        if self._allowed and not names & self._allowed:
            await calls.send(f"This bot is private. Your id is {user.id if user else 'unknown'}.")
        elif not text:
            await calls.send(READS_TEXT)
        elif text.startswith("/"):
            await self._obey(calls, text)
        elif chat_id in self._answering:
            await calls.send(BUSY)
        else:
            task = asyncio.current_task()
            assert task is not None
            self._answering[chat_id] = task
            try:
                await self._answer(calls, message, text)
            finally:
                del self._answering[chat_id]

    def _addressed(self, message: Message) -> str | None:
        """The text of a message to the bot; None for others in a group, empty for a picture."""
        text = (message.text or "").strip()
        name = f"@{self._bot.username}"
        command, _, argument = text.partition(" ")
        if text.startswith("/"):
            command, _, target = command.partition("@")
            if target and target.casefold() != self._bot.username.casefold():
                return None
            return f"{command.lower()} {argument}".strip()
        if message.chat.type == "private":
            return text
        mentions = message.parse_entities(["mention"]).values() if message.entities else []
        replied = message.reply_to_message and message.reply_to_message.from_user
        if any(mention.casefold() == name.casefold() for mention in mentions):
            at = text.casefold().find(name.casefold())
            return f"{text[:at]}{text[at + len(name) :]}".strip() or HELP
        return text if replied and replied.id == self._bot.id else None

    def _calls_of(self, message: Message) -> Calls:
        chat = message.chat
        if chat.id not in self._calls:
            private = chat.type == "private"
            self._calls[chat.id] = Calls(self._bot, chat.id, private, self._config.edit_seconds)
        return self._calls[chat.id]

    async def _obey(self, calls: Calls, text: str) -> None:
        answering = self._answering.get(calls.chat_id)
        if text.split()[0] in ("/stop", "/reset") and answering:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
        if text == "/stop":
            await calls.send("Stopped." if answering else "I am not answering.")
        else:
            await calls.send(await self._conversations.command(str(calls.chat_id), text))

    async def _answer(self, calls: Calls, message: Message, text: str) -> None:
        private = message.chat.type == "private"
        growing = GrowingMessage(calls, message.message_id, None if private else message.message_id)
        done = asyncio.Event()
        shown = asyncio.gather(self._type(calls, done), self._paint(growing, done))
        texts = self._conversations.answer(str(calls.chat_id), text)
        try:
            async with aclosing(texts):
                async for new in texts:
                    growing.add(new)
        finally:
            # Of an answer that was stopped, what there is stays. No call is broken off, so that
            # nothing is sent twice.
            done.set()
            await asyncio.shield(self._finish(growing, shown))

    @staticmethod
    async def _finish(growing: GrowingMessage, shown: "asyncio.Future[tuple[None, None]]") -> None:
        await shown
        await growing.finish()

    async def _type(self, calls: Calls, done: asyncio.Event) -> None:
        while not done.is_set():
            if not calls.is_held:
                with contextlib.suppress(TelegramError):
                    await self._bot.send_chat_action(calls.chat_id, ChatAction.TYPING)
            await _either(done, TYPING_SECONDS)

    @staticmethod
    async def _paint(growing: GrowingMessage, done: asyncio.Event) -> None:
        """Shows the answer while it grows, at Telegram's pace and not the model's."""
        while not await _either(done, max(0.05, growing.pause)):
            await growing.show()


async def _either(done: asyncio.Event, seconds: float) -> bool:
    """Waits for an event, but not longer; whether it has happened."""
    waiting = asyncio.ensure_future(done.wait())
    await asyncio.wait({waiting}, timeout=seconds)
    waiting.cancel()
    return done.is_set()
