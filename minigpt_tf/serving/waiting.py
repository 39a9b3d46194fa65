"""Work that may take a while, off the event loop; and how long answers may be."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.responses import Response

from .answers.frames import Chunks
from .engine.served import Served
from .engine.tickets import Ticket
from .errors import json_response
from .state import State

T = TypeVar("T")


async def off_loop(state: State, work: Callable[..., T], *arguments: Any) -> T:
    """Calls a function on another thread: whatever renders, encodes, decodes or writes a text that
    a client has chosen, however short it is.

    Args:
        state: Has the threads.
        work: The function.
        arguments: Its arguments.

    Returns:
        What it returns.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(state.encoders, work, *arguments)


async def whole_response(
    state: State, frames: Chunks, tickets: list[Ticket], headers: dict[str, str], scored: bool
) -> Response:
    """The response with answers that have ended.

    Args:
        state: Of the server.
        frames: Writes them.
        tickets: Theirs.
        headers: Of the response.
        scored: Whether there are log probabilities, which may be much.

    Returns:
        The response.
    """

    def write() -> Response:
        return json_response(frames.whole(tickets), headers=headers)

    return await off_loop(state, write) if scored else write()


def limited(model: Served, limit: int) -> int:
    """Tokens of the context that a truncated prompt leaves for the answer.

    Args:
        model: Who answers.
        limit: What the request wants.

    Returns:
        That, but at most half of the context, and at least 1.
    """
    return max(1, min(limit, model.engine.config.context_length // 2))
