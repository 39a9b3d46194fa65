"""What a forked process makes anew: locks that a thread held which the new process does not have.

A process may be forked, as `multiprocessing` does on Linux, while its threads generate.
"""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

Held = TypeVar("Held")

_remakes: "weakref.WeakKeyDictionary[Any, Callable[[Any], None]]" = weakref.WeakKeyDictionary()

COMPILING = threading.RLock()
"""Held while a function is compiled. A fork waits for it: the compiler has locks of its own."""


def after_fork(held: Held, remake: Callable[[Held], None]) -> None:
    """Calls remake(held) in each process that is forked from now on, as long as `held` lives.

    Args:
        held: What has a lock.
        remake: Gives it a new one; it does not refer to `held` itself.
    """
    _remakes[held] = remake


def _remake_all() -> None:
    for held, remake in list(_remakes.items()):
        remake(held)


def _forked() -> None:
    COMPILING.release()
    _remake_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=COMPILING.acquire, after_in_parent=COMPILING.release, after_in_child=_forked
    )
