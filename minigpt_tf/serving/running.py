"""A server from its start to its end: the socket, the models, the signals, the drain."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn

from ..config import EngineConfig, ServingConfig
from ..errors import ConfigError, MiniGPTError
from ..events import SILENT, Listener
from .app import make_app
from .connections import connections
from .engine.loading import Planned, load_model
from .engine.served import Served
from .engine.worker import Worker
from .errors import Refusal
from .guards import is_loopback
from .keys import Keys
from .state import State

LOGGER = logging.getLogger("minigpt_tf.serving")
BACKLOG = 2048
CLOSING_SECONDS = 5
"""How long connections may take to end once nothing is generated any more."""


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals alone."""
        yield


class Server:
    """Serves models until it is asked to stop.

    Args:
        config: How.
        engine: How the models are run.
        plans: What, from `plan_models`.
        listener: Receives the progress of loading.

    Raises:
        ConfigError: The address cannot be had, or needs keys that are missing.
    """

    def __init__(
        self,
        config: ServingConfig,
        engine: EngineConfig,
        plans: Sequence[Planned],
        listener: Listener = SILENT,
    ) -> None:
        self.config, self._engine, self._plans = config, engine, plans
        self._listener = listener
        self.state = State(config, Keys(config.keys_file))
        if config.keys and not self.state.keys and not is_loopback(config.host):
            raise ConfigError(
                f"host={config.host}: other machines reach it, and there are no API keys: give "
                "--keys-file FILE with a name and a key on each line, or --no-keys"
            )
        self._socket = listen(config)
        self.state.port = self._socket.getsockname()[1]
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                make_app(self.state),
                http=connections(config.upload_seconds),
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                backlog=BACKLOG,
                timeout_keep_alive=75,  # longer than nginx keeps an idle connection: 60 s
                timeout_graceful_shutdown=CLOSING_SECONDS,
            )
        )
        self._stopping: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.config.host, self.config.host)
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"http://{host}:{self.state.port}"

    def run(self, ready: Callable[[list[Served]], None] = lambda models: None) -> None:
        """Serves until SIGTERM, Ctrl-C or `stop`.

        Args:
            ready: Called once with the models, when they are loaded.

        Raises:
            MiniGPTError: A model cannot be loaded.
        """
        asyncio.run(self._run(ready))

    def stop(self) -> None:
        """Begins to drain; any thread may call it."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin_to_stop)

    async def _run(self, ready: Callable[[list[Served]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        loading = asyncio.ensure_future(self._load(ready))
        with self._signals():
            serving = asyncio.ensure_future(self._uvicorn.serve([self._socket]))
            await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done() and loading.exception() is not None:
                self._uvicorn.should_exit = True
            await serving
        if self.state.worker is not None:
            await asyncio.to_thread(self.state.worker.stop)
        self.state.encoders.shutdown(wait=False, cancel_futures=True)
        if loading.done():
            loading.result()
        loading.cancel()
        LOGGER.info("stopped")

    async def _load(self, ready: Callable[[list[Served]], None]) -> None:
        assert self._loop is not None
        models = []
        for plan in self._plans:
            models.append(
                await asyncio.to_thread(load_model, plan, self.config, self._engine, self._listener)
            )
        for model in models:
            self.state.models[model.name] = model
            cache = model.engine.cache if model.scheduler is None else model.scheduler.cache
            size = cache.keys.nbytes + cache.values.nbytes
            self.state.metrics.cache_bytes.labels(model.name).set(size)
        for alias, name in (self.config.alias or {}).items():
            self.state.models[alias] = self.state.models[name]
        worker = Worker(models, self._loop, self.state.metrics.stepped)
        worker.start()
        self.state.worker = worker
        for model in models:
            self.state.encoders.submit(model.respell)
        ready(models)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Handlers as long as it runs; on another thread than the main one there are none."""
        before: dict[int, Any] = {}
        handlers: dict[str, Any] = {
            "SIGTERM": self._on_stop,
            "SIGINT": self._on_stop,
            "SIGBREAK": self._on_stop,
            "SIGHUP": self._on_hang_up,
        }
        with contextlib.suppress(ValueError):
            for name, handler in handlers.items():
                if hasattr(signal, name):
                    number = getattr(signal, name)
                    before[number] = signal.signal(number, handler)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_stop(self, number: int, frame: Any) -> None:
        if self.state.draining:  # the second time
            os._exit(1)
        self.stop()

    def _on_hang_up(self, number: int, frame: Any) -> None:
        try:
            self.state.keys.read()
        except MiniGPTError as error:
            LOGGER.error("the API keys stay as they were: %s", error)
        else:
            LOGGER.info("the API keys were read again")

    def _begin_to_stop(self) -> None:
        if self._stopping is None:
            self.state.draining = True
            self._stopping = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        """Running answers end, or are ended; then the connections."""
        config, state = self.config, self.state
        LOGGER.info("stopping: %d answers are running", len(state.tickets))
        await asyncio.sleep(config.drain_delay)
        until = time.monotonic() + config.drain_seconds
        while state.tickets and time.monotonic() < until:
            await asyncio.sleep(0.02)
        for ticket in list(state.tickets):
            ticket.fail(Refusal("the server was shut down", 503, code="shutting_down"))
        self._uvicorn.should_exit = True


def listen(config: ServingConfig) -> socket.socket:
    """A socket that listens.

    Args:
        config: Host and port.

    Returns:
        The socket.

    Raises:
        ConfigError: The port is taken, or the address is not this machine's.
    """
    host = config.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # what a client does not read is dropped with it
            milliseconds = int(2000 * config.send_seconds)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        found.bind((host, config.port))
        found.listen(BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        found.close()
        reason = getattr(error, "strerror", None) or str(error)
        if getattr(error, "errno", None) == 98 or "in use" in reason:
            raise ConfigError(
                f"port={config.port}: something listens there already: choose another --port, or 0 "
                "for a free one"
            ) from None
        raise ConfigError(f"host={config.host}, port={config.port}: {reason}") from None
    found.setblocking(False)
    return found
