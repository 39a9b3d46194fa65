"""Work that may take a while, off the event loop; and how long answers may be."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from .served import Served

SHORT = 2000
"""Characters of a text that is encoded as quickly as another thread would begin with it."""

T = TypeVar("T")


async def in_thread(characters: int, work: Callable[..., T], *arguments: Any) -> T:
    """Calls a function that encodes text, on another thread if the text is long.

    Args:
        characters: Of the text.
        work: The function.
        arguments: Its arguments.

    Returns:
        What it returns.
    """
    if characters <= SHORT:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)


def limited(model: Served, limit: int) -> int:
    """Tokens of the context that a truncated prompt leaves for the answer.

    Args:
        model: Who answers.
        limit: What the request wants.

    Returns:
        That, but at most half of the context, and at least 1.
    """
    return max(1, min(limit, model.engine.config.context_length // 2))
