"""An answer as the event loop sees it: what has come so far, and whether it has ended."""

import asyncio
import time
from collections.abc import Callable

from ...inference.answer import Generation
from ...inference.requests import Event, Request
from .served import Served


class Ticket:
    """One answer that a client waits for.

    The engine's thread never touches it: events come to the loop, which calls `take`.

    Args:
        model: Whose answer it is.
        request: What was submitted.
        changed: Set when something has come.
    """

    def __init__(self, model: Served, request: Request, changed: asyncio.Event) -> None:
        self.model, self.request, self.changed = model, request, changed
        self.asked = time.perf_counter()
        """When it was submitted."""
        self.first: float | None = None
        """When its first text came."""
        self.latest = self.asked
        """When something came the last time."""
        self.text = ""
        """All of its text so far."""
        self.tokens = 0
        """Tokens of the answer so far."""
        self.generation: Generation | None = None
        self.error: Exception | None = None
        self.expired = False
        """Whether it was ended because its time was up."""
        self.ended: list[Callable[[Ticket], None]] = []
        """Called once, when it has ended."""

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.generation is not None or self.error is not None

    @property
    def finish_reason(self) -> str:
        """OpenAI's word for why it has ended."""
        if self.generation is None:
            return ""
        ended = self.generation.finish_reason in ("end", "stop")
        return "stop" if ended else "length"

    def take(self, event: Event) -> None:
        """What a step did for it.

        Args:
            event: Of the scheduler.
        """
        if self.done:
            return
        self.latest = time.perf_counter()
        if self.first is None and event.tokens:
            self.first = self.latest
        self.text += event.text
        self.tokens = event.tokens
        if event.generation is not None or event.error is not None:
            self._end(event.generation, event.error)
        self.changed.set()

    def fail(self, error: Exception) -> None:
        """Ends it from outside of the engine.

        Args:
            error: What the client gets.
        """
        if not self.done:
            self.request.cancel()
            self._end(None, error)
            self.changed.set()

    def _end(self, generation: Generation | None, error: Exception | None) -> None:
        self.generation, self.error = generation, error
        for callback in self.ended:
            callback(self)
