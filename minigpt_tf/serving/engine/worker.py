"""The engine's thread: the only one that runs models."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ...config import SamplingConfig
from ...errors import MiniGPTError
from ...inference.prompt import Prompt
from ...inference.requests import Event, Request
from ..errors import Refusal
from .jobs import Job
from .served import Served
from .tickets import Ticket

Observe = Callable[[Served, float, list[Event]], None]


def ignore(model: Served, seconds: float, events: list[Event]) -> None:
    """An observer that does nothing.

    Args:
        model: Whose step it was.
        seconds: How long it took.
        events: What it did.
    """


class Worker:
    """Steps the schedulers of all models in turn, as long as one has work; sleeps otherwise.

    Requests and cancellations come from the event loop. What a step did goes back to it in one
    call, however many answers it moved.

    Args:
        models: What is served.
        loop: Whose thread gets the events.
        observe: Called on the loop after each step.
    """

    def __init__(
        self,
        models: Sequence[Served],
        loop: asyncio.AbstractEventLoop,
        observe: Observe = ignore,
    ) -> None:
        self._models, self._loop, self._observe = list(models), loop, observe
        self._tickets: dict[Request, Ticket] = {}
        self._work = threading.Event()
        self._stopping = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="minigpt-engine")

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after its step."""
        self._stopping = True
        self._work.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def stuck_for(self) -> float:
        """How long the present step has lasted, in seconds; endless if the thread has ended."""
        if not self._thread.is_alive():
            return float("inf")
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    # What the event loop calls.

    def submit(
        self,
        model: Served,
        prompt: Prompt,
        sampling: SamplingConfig,
        changed: asyncio.Event,
        sample: int = 0,
        *,
        group: Any = None,
        num_alternatives: int = 0,
    ) -> Ticket:
        """Asks for an answer.

        Args:
            model: Which model's.
            prompt: What it follows.
            sampling: How its tokens are chosen.
            changed: Set when something has come.
            sample: Which of several answers.
            group: Whose prompts share what was computed.
            num_alternatives: Most likely tokens that are kept for each token.

        Returns:
            The ticket, which the event loop fills.
        """
        assert model.scheduler is not None
        request = model.scheduler.submit(
            prompt, sampling, sample, group=group, num_alternatives=num_alternatives
        )
        ticket = self._tickets[request] = Ticket(model, request, changed)
        self._work.set()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Ends an answer at the beginning of the next step.

        Args:
            ticket: The answer's.
        """
        ticket.request.cancel()
        self._work.set()

    def run_job(self, model: Served, turns: Any) -> Job:
        """Has work done in turns, between the steps.

        Args:
            model: Whose engine does it.
            turns: As for `Job`.

        Returns:
            The job; its `result` is to be awaited.
        """
        job = Job(turns, self._loop.create_future())
        model.jobs.append(job)
        self._work.set()
        return job

    # The thread.

    def _run(self) -> None:
        while not self._stopping:
            self._work.clear()
            active = [model for model in self._models if model.unfinished]
            if not active:
                self._busy_since = None
                if not self._idle_turn():
                    self._work.wait()
                continue
            for model in active:
                self._busy_since = time.monotonic()
                self._turn(model, len(active))

    def _idle_turn(self) -> bool:
        """Does a little of what can wait; whether there was any."""
        return any(next(model.idle_work, _NOTHING) is None for model in self._models)

    def _turn(self, model: Served, active: int) -> None:
        """One step of a model's answers, and a turn of its first job."""
        if model.jobs:
            job = model.jobs[0]
            done, value, error = job.turn()
            if done:
                model.jobs.popleft()
                self._post(job.settle, value, error)
        if model.scheduler is None or not model.scheduler.unfinished:
            return
        model.scheduler.pace.others = active - 1
        began = time.perf_counter()
        try:
            events = model.scheduler.step()
        except Exception as error:  # no row's own: all of the model's answers end
            self._post(self._fail_all, model, error)
            time.sleep(0.05)
            return
        self._post(self._deliver, model, time.perf_counter() - began, events)

    def _post(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop has ended
            self._stopping = True

    # On the loop again.

    def _deliver(self, model: Served, seconds: float, events: list[Event]) -> None:
        self._observe(model, seconds, events)
        for event in events:
            last = event.generation is not None or event.error is not None
            ticket = (self._tickets.pop if last else self._tickets.get)(event.request, None)
            if event.error is not None and not isinstance(event.error, MiniGPTError):
                logging.getLogger(__name__).error("an answer failed", exc_info=event.error)
            if ticket is not None:
                ticket.take(event)

    def _fail_all(self, model: Served, error: Exception) -> None:
        logging.getLogger(__name__).error("a step failed", exc_info=error)
        for ticket in list(self._tickets.values()):
            if ticket.model is model:
                ticket.fail(error if isinstance(error, MiniGPTError) else _FAILED)


_NOTHING = object()
_FAILED = Refusal("the engine failed: the server's log says why", 500, code="internal_error")
