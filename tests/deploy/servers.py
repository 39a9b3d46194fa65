"""`minigpt serve` as processes, for tests of what stands in front of it."""

import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.conftest import ROOT
from tests.serving.fake_api import wait_for


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_ready(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health/ready", trust_env=False).status_code == 200
    return False


class Server:
    """A server on a port, which can be started again."""

    def __init__(self, model: Path, *words: str, program: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        start = [str(program)] if program else [sys.executable, "-m", "minigpt_tf"]
        self._command = [*start, "serve", "--models", str(model), "--port", str(self.port), *words]

    def start(self, **options) -> None:
        options = {"cwd": ROOT, **options}
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  a pipe that nobody reads would fill
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=self.log, text=True, **options
        )
        wait_for(lambda: self.process.poll() is not None or is_ready(self.url), 240)
        if self.process.poll() is not None:
            self.log.seek(0)
            raise AssertionError(self.log.read())

    def stop(self) -> int:
        """Ends it as Kubernetes does; its exit status."""
        self.process.terminate()
        return self.process.wait(60)


@contextlib.contextmanager
def server(model: Path, *words: str, program: Path | None = None, **options) -> Iterator[Server]:
    made = Server(model, *words, program=program)
    made.start(**options)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
