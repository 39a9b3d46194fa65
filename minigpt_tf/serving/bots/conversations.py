"""The conversations of a bot: history, model and commands of each chat, whatever the messenger."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from ...config.bots import BotConfig, ClientConfig
from ...events import Listener
from ..clients.client import ApiClient, ApiError, ApiModel, Message
from .state import BotState

HELP = (
    "Write me something, and I answer.\n"
    "/reset begins a new conversation\n"
    "/model shows the models, /model NAME chooses one\n"
    "/stop ends an answer"
)
TROUBLE = "I cannot answer now. Please try again later."
TOO_LONG = "That is too long for me. Please write it in fewer words."
BUSY = "I am still answering. /stop ends that answer."
NOTHING = "(I have nothing to say to that.)"
BROKEN = "(The answer broke off.)"
READS_TEXT = "I can only read text."


@dataclass
class Chat:
    """What is known of a chat."""

    model: str | None = None
    """The model that its user has chosen."""
    messages: list[Message] = field(default_factory=list)


class Conversations:
    """Answers what is written in chats.

    Args:
        client: Of the API.
        config: What is asked of the API.
        bot: Whether conversations are kept over a restart.
        state: The bot's file.
        listener: Gets what fails.
    """

    def __init__(
        self,
        client: ApiClient,
        config: ClientConfig,
        bot: BotConfig,
        state: BotState,
        listener: Listener,
    ) -> None:
        self._client, self._config, self._bot = client, config, bot
        self._state, self._listener = state, listener
        self._chats: dict[str, Chat] = {}

    def chat(self, chat: str) -> Chat:
        """A chat by its id, as it was kept or new."""
        if chat not in self._chats:
            kept = self._state.chat(chat) if self._bot.remember else (None, [])
            self._chats[chat] = Chat(*kept)
        return self._chats[chat]

    async def command(self, chat: str, text: str) -> str:
        """What a command answers; /stop is the messenger's own.

        Args:
            chat: Its id.
            text: Such as "/model hr".

        Returns:
            The reply.
        """
        name, _, argument = text.partition(" ")
        known = self.chat(chat)
        if name == "/reset":
            known.messages = []
            self._keep(chat)
            return "We start anew."
        if name == "/model":
            return await self._choose(chat, argument.strip())
        return HELP

    async def _choose(self, chat: str, name: str) -> str:
        try:
            models = await self._client.models()
        except ApiError as error:
            self._listener.notice(str(error))
            return TROUBLE
        names = [model.name for model in models]
        if name in names:
            self.chat(chat).model = name
            self._keep(chat)
            return f"{name} answers from now on."
        current = self._model_of(chat, models)
        rows = [f"{'→' if model == current else '·'} {model.name}" for model in models]
        unknown = [f"There is no model {name!r}."] if name else []
        return "\n".join([*unknown, *rows, "/model NAME chooses one."])

    def _model_of(self, chat: str, models: list[ApiModel]) -> ApiModel:
        wanted = [self.chat(chat).model, self._config.model]
        for name in filter(None, wanted):
            for model in models:
                if model.name == name:
                    return model
        if self._config.model:  # an alias that is not in the list
            return ApiModel(self._config.model)
        if not models:
            raise ApiError("the API has no model that writes text")
        return models[0]

    async def answer(self, chat: str, text: str) -> AsyncGenerator[str, None]:
        """The answer to a message, as it grows. What goes wrong is reported, and said in words.

        Closing the iterator ends the answer; what was said so far is kept in the history.
        """
        known, said = self.chat(chat), ""
        question: Message = {"role": "user", "content": text}
        history = known.messages[-self._config.history :] if self._config.history else []
        if history and history[0]["role"] == "assistant":
            del history[0]
        try:
            async with aclosing(self._stream(chat, history, question)) as texts:
                async for new in texts:
                    said += new
                    yield new
            if not said.strip():
                yield NOTHING
        except ApiError as error:
            self._listener.notice(str(error))
            if said:
                yield f"\n\n{BROKEN}"
            else:
                yield TOO_LONG if error.code == "context_length_exceeded" else TROUBLE
        finally:
            if said.strip() and self._config.history:
                reply: Message = {"role": "assistant", "content": said}
                known.messages = [*history, question, reply][-self._config.history :]
                self._keep(chat)

    async def _stream(
        self, chat: str, history: list[Message], question: Message
    ) -> AsyncGenerator[str, None]:
        """Drops the older half of the history as long as the prompt is too long for the model."""
        config = self._config
        settings = {"temperature": config.temperature, "max_tokens": config.max_tokens}
        system = [{"role": "system", "content": config.system}] if config.system else []
        model = self._model_of(chat, await self._client.models())
        while True:
            messages = [*system, *history, question]
            try:
                async with aclosing(self._client.stream(model, messages, settings)) as texts:
                    async for text in texts:
                        yield text
                return
            except ApiError as error:
                if error.code != "context_length_exceeded" or not history:
                    raise
                del history[: max(1, len(history) // 2)]

    def _keep(self, chat: str) -> None:
        if self._bot.remember:
            known = self.chat(chat)
            self._state.keep_chat(chat, known.model, known.messages)
