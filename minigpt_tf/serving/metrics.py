"""Figures for Prometheus. No label takes a client's text."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ..inference.requests import Event
from .engine.served import Served
from .engine.tickets import Ticket

MOST_NAMES = 50
"""Unknown fields that are counted by name."""

SHORT = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)
LONG = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600)
"""Bounds of the histograms, in seconds."""


class Metrics:
    """All figures of a server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._names: set[str] = set()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"minigpt_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"minigpt_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
            return Histogram(f"minigpt_{name}", text, ("model",), registry=registry, buckets=bounds)

        self.requests = counter("requests", "Requests", "route", "model", "key", "status")
        self.running = gauge("requests_running", "Answers that have a slot", "model")
        self.waiting = gauge("requests_waiting", "Answers that wait for a slot", "model")
        self.canceled = counter("canceled", "Answers whose client has gone", "model", "when")
        self.prompt_tokens = counter("prompt_tokens", "Tokens of prompts", "model")
        self.cached_tokens = counter("cached_tokens", "Of these, reused", "model")
        self.completion_tokens = counter("completion_tokens", "Tokens of answers", "model")
        self.first_token = histogram(
            "time_to_first_token_seconds", "From the request to its first token", LONG
        )
        self.request_seconds = histogram("request_seconds", "From the request to its end", LONG)
        self.queue_seconds = histogram("queue_seconds", "From the request to its slot", LONG)
        self.step_seconds = histogram("step_seconds", "A step of the engine", SHORT)
        self.batch_rows = histogram(
            "batch_rows", "Answers that a step moved", (1, 2, 4, 8, 16, 32, 64)
        )
        self.cache_bytes = gauge("kv_bytes", "Reserved for keys and values", "model")
        self.ignored_fields = counter("ignored_parameters", "Unknown fields of requests", "name")
        self.started = gauge("start_time_seconds", "When the server started, since 1970")
        self.started.set(time.time())

    def ignored(self, name: str) -> None:
        """Counts a field that was ignored.

        Args:
            name: Of the field; from MOST_NAMES on they are counted together.
        """
        plain = name.isidentifier() and name.isascii() and len(name) <= 40
        if not plain or (name not in self._names and len(self._names) >= MOST_NAMES):
            name = "other"
        self._names.add(name)
        self.ignored_fields.labels(name).inc()

    def ended(self, ticket: Ticket) -> None:
        """Counts an answer that has ended.

        Args:
            ticket: The answer's.
        """
        model, request = ticket.model.name, ticket.request
        self.prompt_tokens.labels(model).inc(len(request.prompt.ids))
        self.cached_tokens.labels(model).inc(request.cached_tokens)
        self.completion_tokens.labels(model).inc(ticket.tokens)
        self.request_seconds.labels(model).observe(ticket.latest - ticket.asked)
        if request.began is not None:
            self.queue_seconds.labels(model).observe(max(0.0, request.began - ticket.asked))
        if ticket.first is not None:
            self.first_token.labels(model).observe(ticket.first - ticket.asked)

    def stepped(self, model: Served, seconds: float, events: list[Event]) -> None:
        """Counts a step of the engine.

        Args:
            model: Whose.
            seconds: Its time.
            events: What it did.
        """
        name, scheduler = model.name, model.scheduler
        if scheduler is None:
            return
        self.step_seconds.labels(name).observe(seconds)
        self.running.labels(name).set(scheduler.running)
        self.waiting.labels(name).set(scheduler.waiting)
        if events:
            self.batch_rows.labels(name).observe(len(events))

    def text(self) -> bytes:
        """All figures in Prometheus' format."""
        return generate_latest(self.registry)
