"""Processes that measure in turns: each is started once, and works when it is its turn."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


class Turns:
    """A process that works when it is told to and then gives what it measured.

    One that dies, or cannot start, gives None from then on, and `failed` says why.
    """

    failed = ""

    def __init__(self, command: list[str]) -> None:
        """
        Args:
            command: A Python program that calls `serve_turns`.
        """
        handle, self._log = tempfile.mkstemp()
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self.process = subprocess.Popen(
            command,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=handle,
            env=environment,
        )
        os.close(handle)

    def turn(self) -> Any:
        """What the process measured, None if it has died."""
        if self.failed:
            return None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.failed = self._reason(self.process.wait())
        return None

    def _reason(self, code: int) -> str:
        if code < 0:
            return f"died of {signal.Signals(-code).name}"
        messages = Path(self._log).read_text(encoding="utf-8", errors="replace").strip()
        return (messages or f"ended with status {code}").splitlines()[-1]

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        os.unlink(self._log)


@contextlib.contextmanager
def results_alone() -> Iterator[Any]:
    """A context in which standard output is standard error: what libraries print, such as nanoGPT,
    does not get between the results. Yields the file that was standard output."""
    with os.fdopen(os.dup(1), "w") as results:
        os.dup2(2, 1)
        yield results


def serve_turns(prepare: Callable[[], Callable[[], Any]]) -> None:
    """In the process: prepares once, then works once for each line of input.

    Args:
        prepare: Gives the function that measures.
    """
    with results_alone() as results:
        measure = prepare()
        for _ in sys.stdin:
            print(json.dumps(measure()), file=results, flush=True)
