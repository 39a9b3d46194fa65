"""The rows of a cache that answers share: which of them a new answer gets."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from .key_value_cache import Cache
from .requests import Request


@dataclass
class Row:
    """A sequence of the cache, and the request that has it.

    What it had stays in it when its request ends, for requests that begin in the same way.
    """

    number: int
    """Which sequence of the cache."""
    request: Request | None = None
    """None: idle."""
    first: int = 0
    """The token of the request's sequence, prompt and answer, at position 0 of the cache: above 0
    once a full context has slid."""
    used: int = 0
    """Grows with the time of the last end of a request; 0: never used."""
    group: Hashable = None
    """Who may reuse what it has: requests of the same group."""


def common_prefix(cache: Cache, row: int, ids: np.ndarray) -> int:
    """Tokens at the beginning of a sequence that a row has.

    Args:
        cache: The sequences that have been computed.
        row: One of them.
        ids: The sequence (T,) that is wanted.

    Returns:
        Their number, below T: logits come from computing the last token.
    """
    end = min(len(ids) - 1, int(cache.positions[row]))
    differs = np.flatnonzero(cache.ids[row, :end] != ids[:end])
    return int(differs[0]) if len(differs) else end


def choose_row(
    cache: Cache, idle: Sequence[Row], ids: Sequence[int], group: Hashable = None
) -> Row:
    """The row for a new request.

    The one that has the longest beginning of its prompt, unless more than half of what that row
    has would be dropped: then the row that was left unused for the longest time, and the beginning
    is copied. So a conversation continues in its row, and one that only shares the system message
    does not end it.

    Args:
        cache: The sequences that have been computed.
        idle: Rows without a request, at least one.
        ids: The prompt.
        group: The request's.

    Returns:
        One of the idle rows.
    """

    wanted = np.asarray(ids)

    def common(row: Row) -> int:
        return common_prefix(cache, row.number, wanted) if row.group == group else 0

    # Of equally long beginnings the row that drops least.
    longest = max(idle, key=lambda row: (common(row), -cache.positions[row.number]))
    if 0 < cache.positions[longest.number] <= 2 * common(longest):
        return longest
    return min(idle, key=lambda row: (row.used, row.number))
