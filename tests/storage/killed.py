"""Runs a piece of work again and again, and kills it before each change that it makes to a disk."""

import os
import signal
import sys

from benchmarks.disk_changes import DiskChanges


def killed_before(count, work):
    """Runs `work` in a process that is killed before it changes the disk once more than `count`
    times.

    Whether it was killed; False where it ended before.
    """
    process = os.fork()
    if process == 0:
        try:
            DiskChanges(count)
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0
