"""Threads that run one compiled function together."""

import operator
import os
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

MOST_THREADS = 8
"""More do not read memory faster, and wait longer for each other."""


def available_cores() -> int:
    """Processor cores this process may use, at most MOST_THREADS."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, MOST_THREADS)


class Team:
    """`size` threads, the caller's among them. The others sleep between two calls of `run`,
    which must not be called from two places at once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._members = [_Member(number) for number in range(1, size)]
        # The members' threads do not hold the team, so they end when it is no longer used.
        weakref.finalize(self, _dismiss, self._members)

    def run(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Calls the compiled function(thread, size, *arguments) on every thread; waits for all.

        The function releases the interpreter, and ends when all threads have come to its end.
        """
        for member in self._members:
            member.prepare(partial(function, member.number, self.size, *arguments))
        starts = [member.start for member in self._members]
        # One call into C: Ctrl-C cannot come between the members' start and our own part, without
        # which they would wait for ever.
        any(map(operator.call, [*starts, partial(function, 0, self.size, *arguments)]))
        for member in self._members:
            member.wait()


class _Member:
    """One more thread; it runs what was prepared whenever it is started."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._work: Callable[[], Any] | None = None
        self._begin, self._end = threading.Lock(), threading.Lock()
        self._begin.acquire()
        self._end.acquire()
        self.start = self._begin.release
        threading.Thread(target=self._loop, daemon=True, name=f"minigpt-{number}").start()

    def prepare(self, work: Callable[[], Any] | None) -> None:
        self.wait()  # for what Ctrl-C kept the caller from waiting for
        self._work = work

    def wait(self) -> None:
        while self._work is not None:
            self._end.acquire()

    def _loop(self) -> None:
        while True:
            self._begin.acquire()
            if self._work is None:
                return
            self._work()
            self._work = None
            if self._end.locked():  # else an end that nobody waited for is still to be seen
                self._end.release()


def _dismiss(members: list[_Member]) -> None:
    for member in members:
        member.prepare(None)
        member.start()
