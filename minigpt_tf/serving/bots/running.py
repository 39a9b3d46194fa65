"""Runs a bot: reads its secrets, opens its state and connects it with the API."""

import contextlib
from collections.abc import AsyncIterator

from ...config.bots import BotConfig, ClientConfig, TelegramConfig, WhatsAppConfig
from ...errors import ConfigError
from ...events import Listener
from ..clients.client import ApiClient, ApiError
from .conversations import Conversations
from .secrets import optional_secret, secret
from .state import BotState


@contextlib.asynccontextmanager
async def conversations(
    client: ClientConfig, bot: BotConfig, listener: Listener
) -> AsyncIterator[tuple[Conversations, BotState]]:
    """The conversations of a bot, and its state; closed at the end.

    Args:
        client: The API.
        bot: What is kept.
        listener: Gets what fails.

    Yields:
        Both.
    """
    state = BotState(bot.state)
    key = optional_secret(client.api_key_file, "MINIGPT_API_KEY")
    try:
        async with ApiClient(client, key) as api:
            try:
                names = [model.name for model in await api.models()]
            except ApiError as error:
                listener.notice(f"{error}; the bot starts all the same")
            else:
                if client.model and client.model not in names:
                    listener.notice(f"{client.api} does not list {client.model}, only {names}")
            yield Conversations(api, client, bot, state, listener), state
    finally:
        state.close()


async def run_telegram(
    client: ClientConfig, bot: BotConfig, config: TelegramConfig, listener: Listener
) -> None:
    """Runs the Telegram bot until it is canceled.

    Args:
        client: The API.
        bot: Its token, and whom it answers.
        config: Telegram's server.
        listener: Gets what happens.

    Raises:
        ConfigError: The token is missing or refused.
    """
    from .telegram import TelegramBot

    token = secret("the bot's token", bot.token_file, "--token-file", "MINIGPT_TELEGRAM_TOKEN")
    async with conversations(client, bot, listener) as (answers, state):
        await TelegramBot(token, answers, state, bot, config, listener).run()


async def run_whatsapp(
    client: ClientConfig, bot: BotConfig, config: WhatsAppConfig, listener: Listener
) -> None:
    """Runs the WhatsApp bot until it is canceled.

    Args:
        client: The API.
        bot: Its token, and whom it answers.
        config: The phone number, the app's secrets, and where to listen.
        listener: Gets what happens.

    Raises:
        ConfigError: A secret is missing or refused, or the port is taken.
    """
    from .graph import GraphApi
    from .listening import listen
    from .whatsapp import PATH, WhatsAppBot

    if config.phone_id is None or not config.phone_id.isdigit():
        raise ConfigError("--phone-id: expected the number's id, digits from Meta's console")
    token = secret("Meta's token", bot.token_file, "--token-file", "MINIGPT_WHATSAPP_TOKEN")
    app_secret = secret(
        "the app's secret", config.secret_file, "--secret-file", "MINIGPT_WHATSAPP_SECRET"
    )
    verify = secret(
        "the verify token", config.verify_file, "--verify-file", "MINIGPT_WHATSAPP_VERIFY"
    )
    async with (
        conversations(client, bot, listener) as (answers, state),
        GraphApi(config.graph_api, config.phone_id, token) as graph,
    ):
        await graph.check()
        made = WhatsAppBot(graph, app_secret, verify, answers, state, bot, listener)
        where = f"http://{config.host}:{config.port}{PATH}"
        await listen(
            made.application(),
            config.host,
            config.port,
            lambda: listener.notice(f"listening on {where} (Ctrl-C ends)"),
        )
