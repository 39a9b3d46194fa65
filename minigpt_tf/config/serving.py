"""How models are served: where, to whom, how many at a time, and for how long."""

from dataclasses import dataclass, fields

from ..errors import ConfigError
from .constants import CHAT_TOKENS
from .settings import check_types, documented, require_at_least, setting

MOST_CHOICES = 64
"""Answers that one request may ask for."""


@documented
@dataclass(frozen=True)
class ServingConfig:
    """How models are served.

    Example:
        >>> from minigpt_tf.config import ServingConfig
        >>> ServingConfig(port=9000, slots=4).host
        '127.0.0.1'
    """

    host: str = setting("127.0.0.1", "address to listen on; 0.0.0.0 is every one of this machine")
    port: int = setting(8000, "port to listen on (0: a free one)")
    alias: dict[str, str] | None = setting(
        None, "another name for a model, such as gpt-4o-mini=hr; may be repeated"
    )
    slots: int | None = setting(
        None, "answers of a model that are generated together (unset: 16, fewer if memory is short)"
    )
    context_length: int | None = setting(
        None, "tokens of prompt and answer together (unset: all that the model can have)"
    )
    max_tokens: int = setting(CHAT_TOKENS, "length of an answer whose request gives no limit")
    queue: int = setting(64, "answers of a model that may wait for a slot; more are refused")
    per_key: int | None = setting(
        None, "answers that one API key may ask for at a time (unset: no limit of its own)"
    )
    prefix_cache: bool = setting(
        True, "reuse what was computed for the beginning of a prompt, within an API key"
    )
    prefill_ms: int = setting(
        60, "how long running answers wait for a chunk of another's prompt, in milliseconds"
    )
    keys_file: str | None = setting(
        None,
        "file of API keys, a name and a key on each line; read again on SIGHUP (unset: "
        "MINIGPT_API_KEYS in the environment, if any)",
    )
    keys: bool = setting(
        True, "an address that other machines reach needs API keys; --no-keys lifts that"
    )
    hosts: tuple[str, ...] = setting(
        (), "a Host name by which the server is called, beside its own; may be repeated"
    )
    origins: tuple[str, ...] = setting(
        (), "a web site that may call the API, such as https://chat.example.com; may be repeated"
    )
    body_bytes: int = setting(2**20, "bytes of a request at most")
    upload_seconds: float = setting(30.0, "how long a request may take to arrive")
    send_seconds: float = setting(30.0, "how long a client may read nothing before it is dropped")
    ping_seconds: float = setting(10.0, "a stream with nothing to send gets a comment so often")
    request_seconds: float = setting(600.0, "how long a request may take in all")
    drain_delay: float = setting(
        0.0, "seconds after SIGTERM in which the server still listens, for a load balancer"
    )
    drain_seconds: float = setting(25.0, "how long running answers may continue after SIGTERM")
    log_contents: bool = setting(False, "write prompts and answers into the log as well")

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port={self.port}: must be from 0 to 65535")
        for name in ("slots", "context_length", "max_tokens", "per_key"):
            if getattr(self, name) is not None:
                require_at_least(self, name, 1)
        require_at_least(self, "queue", 0)
        require_at_least(self, "prefill_ms", 1)
        require_at_least(self, "body_bytes", 1024)
        for item in fields(self):
            if item.name.endswith(("_seconds", "_delay")):
                require_at_least(self, item.name, 0 if item.name.startswith("drain") else 0.1)
        for origin in self.origins:
            if origin == "*" or "://" not in origin:
                raise ConfigError(
                    f"origins={origin}: expected a web site such as https://chat.example.com"
                )
