"""Rows of token ids that fit into the context: prompts lose tokens, answers never do."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from ..errors import DataError


class Row(NamedTuple):
    """The ids of one conversation, and which of them are trained."""

    ids: np.ndarray
    """(T,) int32."""
    mask: np.ndarray
    """(T,) bool: whether the loss of predicting ids[t] from those before it counts."""
    dropped: int = 0
    """Tokens of the prompt that were left out because the context is shorter."""


def truncate(
    rows: Sequence[Row], limit: int, drop: Literal["middle", "start"], prefix: int
) -> list[Row]:
    """Rows that fit; their prompts are truncated the same way.

    Of all stretches outside the mask that are longer than some length, only that length is kept.

    Args:
        rows: The rows of one record.
        limit: The most ids that a row may have.
        drop: What a stretch loses: its middle, or its start.
        prefix: So many ids at the beginning of a row are kept when its start is dropped.

    Returns:
        The rows, each with at most `limit` ids.

    Raises:
        DataError: An answer leaves no room for a token of each prompt.

    Example:
        >>> from minigpt_tf.records.truncation import Row, truncate
        >>> row = Row(np.arange(8), np.arange(8) >= 6)
        >>> (short,) = truncate([row], 6, "middle", prefix=0)
        >>> short.ids.tolist(), short.dropped
        ([0, 1, 4, 5, 6, 7], 2)
    """
    length = min(_longest_stretch(row.mask, limit) for row in rows)
    if length < 1:
        raise DataError(f"its answer alone does not fit into the context of {limit - 1} tokens")
    return [_truncated(row, length, drop, prefix) for row in rows]


def _stretches(mask: np.ndarray) -> list[tuple[int, int]]:
    """(start, end) of every stretch outside the mask."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], mask, [True]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _longest_stretch(mask: np.ndarray, limit: int) -> int:
    """The greatest length of stretches with which the row fits; 0: it cannot."""
    room = limit - int(mask.sum())
    lengths = sorted(end - start for start, end in _stretches(mask))
    for place, length in enumerate(lengths):
        left = len(lengths) - place  # stretches as long as this one, or longer
        if length * left > room:
            return max(0, room // left)
        room -= length
    return max(lengths, default=1) if room >= 0 else 0


def _truncated(row: Row, length: int, drop: Literal["middle", "start"], prefix: int) -> Row:
    """A row whose stretches outside the mask have at most `length` ids."""
    kept = np.ones(len(row.ids), dtype=bool)
    for start, end in _stretches(row.mask):
        if end - start > length:
            first = length // 2
            if drop == "start":
                first = prefix if start == 0 and prefix < length else 0
            kept[start + first : end - (length - first)] = False
    return Row(row.ids[kept], row.mask[kept], int((~kept).sum()))
