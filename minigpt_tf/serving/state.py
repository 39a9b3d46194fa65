"""What all routes share: the settings, the models, the engine's thread, and who may ask."""

import asyncio
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from ..config import ServingConfig
from .engine.served import Served
from .engine.tickets import Ticket
from .engine.worker import Worker
from .errors import Refusal
from .keys import Keys
from .metrics import Metrics

ENCODERS = 2
"""Threads that render and encode: one may be at a long text."""


@dataclass
class State:
    """Of one server."""

    config: ServingConfig
    keys: Keys
    metrics: Metrics = field(default_factory=Metrics)
    models: dict[str, Served] = field(default_factory=dict)
    """By name; an alias is a further name. Empty while they are loaded."""
    worker: Worker | None = None
    """None while the models are loaded."""
    encoders: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(ENCODERS, "minigpt-encode")
    )
    """Do what would hold up the event loop."""
    port: int = 0
    """Where the server listens."""
    draining: bool = False
    """Whether the server is about to stop."""
    tickets: set[Ticket] = field(default_factory=set)
    """Answers that have not ended."""
    of_key: dict[str, int] = field(default_factory=dict)
    """How many of them each API key has asked for."""
    seen_fields: set[str] = field(default_factory=set)
    """Unknown fields of requests that were logged."""

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self.worker is not None and not self.draining

    def find(self, name: str) -> Served:
        """A model by its name.

        Args:
            name: Of a request.

        Returns:
            The model.

        Raises:
            Refusal: There is none, or none yet.
        """
        if self.worker is None:
            headers = {"Retry-After": "1"}
            raise Refusal("the models are being loaded", 503, code="loading", headers=headers)
        if name not in self.models:
            known = ", ".join(sorted(self.models))
            raise Refusal(
                f"model={name!r:.60}: no such model: choose {known}",
                404,
                code="model_not_found",
                param="model",
            )
        return self.models[name]

    def names(self) -> list[str]:
        """The models' own names and their aliases, in the order in which they were given."""
        return list(self.models)

    def report_unknown(self, fields: list[str]) -> None:
        """Counts fields that were ignored, and logs each once.

        Args:
            fields: Their names.
        """
        for name in fields:
            self.metrics.ignored(name)
            if name not in self.seen_fields and len(self.seen_fields) < 50:
                self.seen_fields.add(name)
                logging.getLogger(__name__).info("a request has the unknown field %.40r", name)


@dataclass
class Call:
    """A request as the log and the limits see it."""

    id: str
    key: str
    """The name of the API key; empty without one."""
    began: float = field(default_factory=time.perf_counter)
    facts: dict[str, Any] = field(default_factory=dict)
    """What the log has of it beside the route, the status and the time."""


def state_of(request: Request) -> State:
    """The server's state.

    Args:
        request: Any of its requests.

    Returns:
        The state.
    """
    return request.app.state.minigpt


def call_of(request: Request) -> Call:
    """What the log has of a request.

    Args:
        request: The request.

    Returns:
        Made by the guards, for each request once.
    """
    return request.scope["minigpt.call"]


def new_id(prefix: str) -> str:
    """An id for an object of the API.

    Args:
        prefix: Such as "chatcmpl-".

    Returns:
        The prefix and 24 random characters.
    """
    return prefix + secrets.token_hex(12)


async def gone(request: Request) -> None:
    """Returns when the client has gone.

    Args:
        request: One whose body has been read.
    """
    while True:
        event = await request.receive()
        if event["type"] == "http.disconnect":
            return
        await asyncio.sleep(0)
