"""How the clients of an API are run: bots, and the Streamlit page."""

from dataclasses import dataclass

from ..errors import ConfigError
from .settings import check_types, documented, require_at_least, setting

API_URL = "http://127.0.0.1:8000/v1"
"""Where `minigpt serve` answers, unless it is given another port."""

LOCAL_HOST = "127.0.0.1"


def _require_url(config: object, *names: str) -> None:
    for name in names:
        url = getattr(config, name)
        if url is not None and not url.startswith(("http://", "https://")):
            raise ConfigError(f"{name}={url}: expected an address such as {API_URL}")


@documented
@dataclass(frozen=True)
class ClientConfig:
    """Which API a client talks to, and what it asks for.

    Example:
        >>> from minigpt_tf.config.bots import ClientConfig
        >>> ClientConfig(model="hr").api
        'http://127.0.0.1:8000/v1'
    """

    api: str = setting(API_URL, "the API to talk to: of minigpt serve, llama-server, vLLM, ...")
    api_key_file: str | None = setting(
        None, "file of the API's key (unset: MINIGPT_API_KEY in the environment, if any)"
    )
    model: str | None = setting(None, "the model that answers (unset: the first of the API)")
    system: str = setting("", "system message, before each conversation")
    temperature: float | None = setting(None, "of the answers (unset: the model's)")
    max_tokens: int | None = setting(None, "length of an answer at most (unset: the server's)")
    history: int = setting(20, "earlier messages of a chat that the model sees (0: none)")
    api_seconds: float = setting(120.0, "how long the API may be silent before an answer fails")

    def __post_init__(self) -> None:
        check_types(self)
        _require_url(self, "api")
        require_at_least(self, "history", 0)
        require_at_least(self, "api_seconds", 0.1)
        if self.max_tokens is not None:
            require_at_least(self, "max_tokens", 1)
        if self.temperature is not None:
            require_at_least(self, "temperature", 0)


@documented
@dataclass(frozen=True)
class BotConfig:
    """What every bot keeps, and whom it answers.

    Example:
        >>> from minigpt_tf.config.bots import BotConfig
        >>> BotConfig(allow=("ann", "123456")).remember
        False
    """

    token_file: str | None = setting(
        None,
        "file of the messenger's token (unset: MINIGPT_TELEGRAM_TOKEN or MINIGPT_WHATSAPP_TOKEN)",
    )
    allow: tuple[str, ...] = setting(
        (), "a user who is answered: name, id or phone number; may be repeated (unset: everybody)"
    )
    state: str = setting("bot.sqlite", "file of what was answered, so that nothing is repeated")
    remember: bool = setting(False, "keep the conversations in that file as well, over a restart")

    def __post_init__(self) -> None:
        check_types(self)


@documented
@dataclass(frozen=True)
class TelegramConfig:
    """How the Telegram bot is run.

    Example:
        >>> from minigpt_tf.config.bots import TelegramConfig
        >>> TelegramConfig().edit_seconds
        1.0
    """

    telegram_api: str = setting("https://api.telegram.org", "server of Telegram's Bot API")
    edit_seconds: float = setting(
        1.0, "seconds between two edits of an answer that grows; in a group three times that"
    )
    poll_seconds: int = setting(30, "how long a request for new messages waits")

    def __post_init__(self) -> None:
        check_types(self)
        _require_url(self, "telegram_api")
        require_at_least(self, "edit_seconds", 0)
        require_at_least(self, "poll_seconds", 0)


@documented
@dataclass(frozen=True)
class WhatsAppConfig:
    """How the WhatsApp bot is run.

    Example:
        >>> from minigpt_tf.config.bots import WhatsAppConfig
        >>> WhatsAppConfig(port=9000).host
        '127.0.0.1'
    """

    phone_id: str | None = setting(None, "id of the phone number that answers, from Meta's console")
    secret_file: str | None = setting(
        None,
        "file of the app's secret, which signs what Meta sends (unset: MINIGPT_WHATSAPP_SECRET)",
    )
    verify_file: str | None = setting(
        None,
        "file of the word that Meta repeats to verify the address (unset: MINIGPT_WHATSAPP_VERIFY)",
    )
    host: str = setting(LOCAL_HOST, "address to listen on, behind a proxy with HTTPS")
    port: int = setting(8080, "port to listen on")
    graph_api: str = setting("https://graph.facebook.com/v23.0", "Meta's Graph API")

    def __post_init__(self) -> None:
        check_types(self)
        _require_url(self, "graph_api")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port={self.port}: must be from 0 to 65535")


@documented
@dataclass(frozen=True)
class PageConfig:
    """How the Streamlit page is run.

    Example:
        >>> from minigpt_tf.config.bots import PageConfig
        >>> PageConfig(port=9000).api_port
        8000
    """

    api: str | None = setting(
        None, "an API to talk to, such as llama-server's; then no server is started"
    )
    port: int = setting(8501, "port of the page (0: a free one)")
    api_port: int = setting(8000, "port of the server that is started (0: a free one)")

    def __post_init__(self) -> None:
        check_types(self)
        _require_url(self, "api")
        for name in ("port", "api_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise ConfigError(f"{name}={getattr(self, name)}: must be from 0 to 65535")
