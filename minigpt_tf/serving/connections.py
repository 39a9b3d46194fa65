"""Connections: uvicorn's, with an end to those on which no request arrives."""

import asyncio
import functools
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """One client. A request's head must arrive in time; uvicorn itself waits for it for ever.

    Args:
        upload_seconds: How long a head may take.
        arguments: Of uvicorn's class.
    """

    def __init__(self, *arguments: Any, upload_seconds: float, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._upload_seconds = upload_seconds
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for the first request."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Takes what has arrived."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._no_longer_wait()
        elif self._late is None and not self.transport.is_closing():
            self._wait()

    def _wait(self) -> None:
        self._late = self.loop.call_later(self._upload_seconds, self._give_up)

    def _no_longer_wait(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
            self.transport.close()


def connections(upload_seconds: float) -> Any:
    """What makes the connections of a server.

    Args:
        upload_seconds: As for `Connection`.

    Returns:
        What uvicorn takes for its `http` setting.
    """
    return functools.partial(Connection, upload_seconds=upload_seconds)
