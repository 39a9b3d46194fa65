"""Threads that run one compiled function together."""

import operator
import os
import threading
import weakref
from functools import partial
from queue import SimpleQueue
from typing import Any

from ..compiled import Compiled, uninterrupted
from ..config import USEFUL_THREADS
from ..machine import usable_cores


def available_cores() -> int:
    """Threads that decode best: the processor's cores, at most USEFUL_THREADS."""
    return min(usable_cores(), USEFUL_THREADS)


class ThreadPool:
    """Threads that run a function together, the caller's among them.

    The others sleep between two calls of `run`, which must not be called from two threads at once.

    Args:
        size: Number of threads.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._inboxes: list[SimpleQueue] = []
        self._outbox: SimpleQueue = SimpleQueue()
        self._process = self._round = 0
        self._known: Compiled | None = None
        # The other threads do not refer to the pool, so they end when it is no longer used.
        weakref.finalize(self, _dismiss, self._inboxes)

    def run(self, function: Compiled, *arguments: Any) -> None:
        """Calls function(thread, size, *arguments) on every thread, and waits for all.

        The first call compiles it. Where Numba must make the call, it does that on the caller's
        thread alone, as a pool of one.

        Args:
            function: Compiled; it releases the interpreter, and returns once all threads reach its
                end.
            arguments: The same for every thread.
        """
        if self._known is not function:
            with uninterrupted():
                ready = function.prepare(0, self.size, *arguments)
                self._known = function
                if not ready:
                    function(0, 1, *arguments)
                    return
        if self._process != os.getpid():  # the first time, and in a forked process
            self._start()
        self._round += 1
        own, *others = (function.bind(n, self.size, *arguments) for n in range(self.size))
        calls: list[Any] = [
            partial(inbox.put, (self._round, call))
            for inbox, call in zip(self._inboxes, others, strict=True)
        ]
        # One call into C: Ctrl-C cannot come between the others' start and this thread's own
        # call, without which they would wait forever.
        failed = any(map(operator.call, [*calls, own]))
        for _ in self._inboxes:
            while self._outbox.get() != self._round:
                pass  # the end of a round whose wait Ctrl-C has interrupted
        if failed:  # on each thread: the arrays are of other kinds than those of the call before
            with uninterrupted():
                function(0, 1, *arguments)

    def _start(self) -> None:
        self._process, self._outbox = os.getpid(), SimpleQueue()
        self._inboxes[:] = [SimpleQueue() for _ in range(1, self.size)]
        for inbox in self._inboxes:
            boxes = (inbox, self._outbox)
            threading.Thread(target=_member, args=boxes, daemon=True, name="minigpt-step").start()


def _member(inbox: SimpleQueue, outbox: SimpleQueue) -> None:
    """Calls what comes in, until None comes."""
    while (work := inbox.get()) is not None:
        number, call = work
        call()
        del work, call  # they refer to the engine's arrays
        outbox.put(number)


def _dismiss(inboxes: list[SimpleQueue]) -> None:
    for inbox in inboxes:
        inbox.put(None)
