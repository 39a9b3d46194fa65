"""The changes that a process makes to its disk, counted: it can be killed before any of them."""

import os
import signal
import sys

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}
"""Python's audit events; a file that is opened for writing is a change too."""


class DiskChanges:
    """Counts the changes of this process from now on.

    Args:
        last: The process is killed (SIGKILL) when it is about to make one more (unset: never).
    """

    def __init__(self, last: int | None = None) -> None:
        self.count, self._last, self._process = 0, last, os.getpid()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if event == "open":
            if not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
                return
        elif event not in CHANGES:
            return
        self.count += 1
        if self._last is not None and self.count > self._last and os.getpid() == self._process:
            os.kill(self._process, signal.SIGKILL)
