"""Which requests are let in, and the answers of one request as long as somebody waits for them."""

import asyncio
import math
import statistics
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import numpy as np
from fastapi import Request
from starlette.responses import Response

from ..config import SamplingConfig
from ..inference.answer import Answer, Generation
from ..inference.prompt import Prompt
from ..inference.requests import Event
from ..inference.requests import Request as Submitted
from ..inference.samplers import make_sampler
from ..retrieval.index import Found
from .engine.jobs import Job
from .engine.served import Served
from .engine.tickets import Ticket
from .errors import Refusal
from .state import Call, State, gone

LONGEST_WAIT = 120
"""Seconds after which a client may try again, at most."""

CLOSED = Response(status_code=499)
"""What a client gets that has gone: nothing, but the log has the status."""


class ClientGone(Exception):
    """Nobody waits for the answers any more."""


def places(state: State, model: Served) -> int:
    """Answers of a model that may be asked for at a time: in slots and in the queue.

    Args:
        state: Has the length of the queue.
        model: Has the slots.

    Returns:
        Their number.
    """
    return (model.scheduler.rows if model.scheduler else 1) + state.config.queue


def check_room(state: State, call: Call, model: Served, count: int) -> None:
    """Refuses a request for which there is no room.

    Args:
        state: Of the server.
        call: Who asks.
        model: What is asked.
        count: Answers that are asked for.

    Raises:
        Refusal: The server is about to stop, or the queue or the key's limit is full.
    """
    if state.draining:
        headers = {"Retry-After": "5", "Connection": "close"}
        raise Refusal("the server is shutting down", 503, code="shutting_down", headers=headers)
    room = places(state, model)
    if count > room:
        raise Refusal(
            f"n: {count} answers, but the server has room for {room}: ask for less",
            param="n",
            code="too_many_answers",
        )
    headers = {"Retry-After": str(retry_after(model))}
    if model.in_flight + count > room:
        raise Refusal(
            f"{model.name} is busy, and {state.config.queue} answers wait already: try again later",
            503,
            code="server_overloaded",
            headers=headers,
        )
    limit = state.config.per_key
    if limit is not None and state.of_key.get(call.key, 0) + count > limit:
        raise Refusal(
            f"this API key may ask for {limit} answers at a time: wait for one to end",
            429,
            code="rate_limit_exceeded",
            headers=headers,
        )


def retry_after(model: Served) -> int:
    """When a place will probably be free.

    Args:
        model: Whose queue is full.

    Returns:
        Seconds, from 1 to LONGEST_WAIT.
    """
    rows = model.scheduler.rows if model.scheduler else 1
    usual = statistics.median(model.durations) if model.durations else 1.0
    return max(1, min(LONGEST_WAIT, math.ceil(usual * model.in_flight / rows)))


class Answers(AbstractContextManager["Answers"]):
    """The answers of one request. Left early, it cancels those that have not ended.

    Their places are taken at once: what waits to be encoded counts as well.

    Args:
        state: Of the server.
        call: Who asks.
        model: What is asked.
        count: Answers, or 1 for other work.

    Raises:
        Refusal: There is no room.
    """

    def __init__(self, state: State, call: Call, model: Served, count: int = 1) -> None:
        check_room(state, call, model, count)
        self.state, self.call, self.model = state, call, model
        self._unasked = count
        self.tickets: list[Ticket] = []
        self.found: list[Found] | None = None
        """Entries of the records that were put before the question; None without records."""
        self.changed = asyncio.Event()
        self._group = call.key if state.config.prefix_cache else object()
        self._jobs: list[Job] = []
        self._loop = asyncio.get_running_loop()
        left = call.began + state.config.request_seconds - time.perf_counter()
        self._deadline = self._loop.call_later(max(0.0, left), self._expire)
        self._expired = False
        self._count(count)

    def ask(
        self,
        prompts: Sequence[Prompt],
        samplings: Sequence[SamplingConfig],
        n: int = 1,
        num_alternatives: int = 0,
    ) -> None:
        """Submits what is asked for, all of it.

        Args:
            prompts: What the answers follow.
            samplings: How they are sampled, for each prompt.
            n: Answers to each prompt.
            num_alternatives: Most likely tokens that are kept for each token.

        Raises:
            Refusal: It took too long until now.
        """
        if self._expired:
            raise _too_slow(self.state)
        worker = self.state.worker
        assert worker is not None
        for prompt, sampling in zip(prompts, samplings, strict=True):
            for sample in range(n):
                ticket = worker.submit(
                    self.model,
                    prompt,
                    sampling,
                    self.changed,
                    sample,
                    group=self._group,
                    num_alternatives=num_alternatives,
                )
                self._unasked -= 1
                ticket.ended.append(self._ended)
                self.state.tickets.add(ticket)
                self.tickets.append(ticket)

    def give(self, prompt: Prompt, text: str, n: int) -> None:
        """Gives answers that no model is asked for.

        Args:
            prompt: What they answer.
            text: What they say.
            n: Their number.
        """
        assert self.model.generator is not None
        tokenizer, sampling = self.model.generator.tokenizer, SamplingConfig()
        for _ in range(n):
            answer = Answer(tokenizer, [], sampling, make_sampler(sampling, np.zeros(0, np.int64)))
            request = Submitted(0, prompt, answer)
            ticket = Ticket(self.model, request, self.changed)
            self._unasked -= 1
            ticket.ended.append(self._ended)
            self.tickets.append(ticket)
            generation = Generation(prompt, [], text, [], "stop", 0.0)
            ticket.take(Event(request, text, 0, generation))

    async def work(self, request: Request, turns: Any) -> Any:
        """Has other work done by the engine's thread.

        Args:
            request: Whose client waits for it.
            turns: As for `Job`.

        Returns:
            Its result.

        Raises:
            ClientGone: The client has gone before it was done.
            Refusal: It took too long.
        """
        assert self.state.worker is not None
        job = self.state.worker.run_job(self.model, turns)
        self._jobs.append(job)
        watch = asyncio.ensure_future(gone(request))
        try:
            await asyncio.wait({job.result, watch}, return_when=asyncio.FIRST_COMPLETED)
            if self._expired:
                raise _too_slow(self.state)
            if not job.result.done():
                raise ClientGone
            return job.result.result()
        finally:
            watch.cancel()
            job.canceled = True

    @property
    def done(self) -> bool:
        """Whether all have ended."""
        return all(ticket.done for ticket in self.tickets)

    async def finished(self, request: Request) -> list[Ticket]:
        """Waits for all answers.

        Args:
            request: Whose client waits for them.

        Returns:
            The tickets.

        Raises:
            ClientGone: The client has gone before they had ended.
            Exception: What ended one of them, if it failed.
        """
        watch = asyncio.ensure_future(gone(request))
        watch.add_done_callback(lambda _: self.changed.set())
        try:
            while not self.done:
                self.changed.clear()
                await self.changed.wait()
                if watch.done() and not self.done:
                    raise ClientGone
        finally:
            watch.cancel()
        for ticket in self.tickets:
            if ticket.error is not None:
                raise ticket.error
        return self.tickets

    def close(self) -> None:
        """Cancels what has not ended."""
        self._deadline.cancel()
        self._count(-self._unasked)
        self._unasked = 0
        worker = self.state.worker
        for ticket in self.tickets:
            if not ticket.done and worker is not None:
                when = "queued" if ticket.request.began is None else "prefill"
                when = "decode" if ticket.tokens else when
                self.state.metrics.canceled.labels(self.model.name, when).inc()
                worker.cancel(ticket)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _expire(self) -> None:
        """The time is up: what there is of an answer is all of it."""
        self._expired = True
        for job in self._jobs:
            job.canceled = True
            job.result.cancel()
        for ticket in self.tickets:
            if ticket.done:
                continue
            if not ticket.tokens:
                ticket.fail(_too_slow(self.state))
            ticket.expired = True
            assert self.state.worker is not None
            self.state.worker.cancel(ticket)

    def _count(self, change: int) -> None:
        self.model.in_flight += change
        of_key = self.state.of_key
        of_key[self.call.key] = of_key.get(self.call.key, 0) + change
        if not of_key[self.call.key]:
            del of_key[self.call.key]

    def _ended(self, ticket: Ticket) -> None:
        self._count(-1)
        self.state.tickets.discard(ticket)
        self.model.durations.append(time.perf_counter() - ticket.asked)
        self.state.metrics.ended(ticket)


def _too_slow(state: State) -> Refusal:
    seconds = state.config.request_seconds
    return Refusal(f"no answer within {seconds:g} seconds: try again later", 504, code="timeout")
