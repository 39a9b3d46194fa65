"""An ASGI application in a task: it listens until the task is canceled, and ends in order."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from ...errors import ConfigError


class _Server(uvicorn.Server):
    """Leaves signals to who runs the task."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


async def listen(application: ASGIApp, host: str, port: int, started: Callable[[], None]) -> None:
    """Serves an application until the task is canceled.

    Args:
        application: What answers.
        host: Address to listen on.
        port: Port to listen on.
        started: Called as soon as it listens.

    Raises:
        ConfigError: The port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConfigError(f"{host}:{port}: cannot listen: {error.strerror}") from None
        server = _Server(uvicorn.Config(application, log_level="warning", server_header=False))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        started()
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await serving
            raise
