"""Runs a piece of work again and again, and kills it before each change that it makes to a disk."""

import os
import signal
import sys

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}


def killed_before(count, work):
    """Runs `work` in a process that is killed before its change number `count`.

    Whether it was killed; False where it ended before. A file that is opened for writing is a
    change, and a rename, and so on: Python's audit events.
    """
    process = os.fork()
    if process == 0:
        try:
            seen = 0

            def hook(event, arguments):
                nonlocal seen
                writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
                if event in CHANGES or writes:
                    seen += 1
                    if seen > count:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0
