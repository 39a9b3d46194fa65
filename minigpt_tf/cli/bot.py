"""The verb `bot`: a bot in Telegram or WhatsApp, whose answers come from an API."""

import argparse
import asyncio
import signal
import sys
from typing import Any

from ..config.bots import BotConfig, ClientConfig, TelegramConfig, WhatsAppConfig
from ..console import ConsoleListener
from ..errors import ConfigError
from .options import cli_options, given_options

DESCRIPTION = (
    "Answer messages in Telegram or WhatsApp with a model behind an API as OpenAI's: that of "
    "`minigpt serve`, llama-server, vLLM or another one."
)

OWN_CONFIG = {"telegram": TelegramConfig, "whatsapp": WhatsAppConfig}
"""Messenger -> the settings that it alone has."""

EXTRA = {"telegram": "telegram", "httpx": "telegram", "starlette": "whatsapp"}
"""A package that may be missing -> the extra that installs it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The messenger, and options for both or one of them.

    Args:
        parser: The verb's; options are added to it.
    """
    parser.add_argument("messenger", choices=sorted(OWN_CONFIG), help="where it answers")
    cli_options(parser, ClientConfig, preset_decides=False)
    cli_options(parser, BotConfig, preset_decides=False)
    for messenger, config in OWN_CONFIG.items():
        group = parser.add_argument_group(f"{messenger} alone")
        cli_options(group, config, preset_decides=False)


def run(arguments: argparse.Namespace) -> int:
    """Runs the bot until Ctrl-C or SIGTERM.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.

    Raises:
        ConfigError: A secret is missing or refused, an option belongs to the other messenger, or
            the extra is not installed.
    """
    messenger = arguments.messenger
    for other, config in OWN_CONFIG.items():
        if other != messenger and (given := given_options(arguments, config)):
            option = next(iter(given)).replace("_", "-")
            raise ConfigError(f"--{option} is an option of {other}: leave it out")
    settings = OWN_CONFIG[messenger](**given_options(arguments, OWN_CONFIG[messenger]))
    bot = BotConfig(**given_options(arguments, BotConfig))
    client = ClientConfig(**given_options(arguments, ClientConfig))
    try:
        from ..serving.bots import running
    except ModuleNotFoundError as error:
        raise _missing(error, messenger) from None
    listener = ConsoleListener(sys.stderr)
    runner: Any = getattr(running, f"run_{messenger}")
    try:
        asyncio.run(_until_stopped(runner, client, bot, settings, listener))
    except ModuleNotFoundError as error:
        raise _missing(error, messenger) from None
    except KeyboardInterrupt:
        pass
    print("stopped")
    return 0


def _missing(error: ModuleNotFoundError, messenger: str) -> Exception:
    if error.name is None or error.name.startswith("minigpt_tf"):
        return error
    return ConfigError(
        f"the bot needs {error.name}: pip install 'minigpt_tf[{messenger}]', or "
        f"pip install -e '.[{messenger}]' in a clone"
    )


async def _until_stopped(runner: Any, *settings: object) -> None:
    """Runs the bot in a task that SIGTERM ends as Ctrl-C does."""
    task = asyncio.ensure_future(runner(*settings))
    loop = asyncio.get_running_loop()

    def stop(*_: object) -> None:
        loop.call_soon_threadsafe(task.cancel)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not task.cancelled():
            raise
    finally:
        signal.signal(signal.SIGTERM, before)
