"""Rows of token ids that fit into the context: prompts lose tokens, answers never do."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from ..errors import DataError


class Row(NamedTuple):
    """The ids of one record, and which of them are trained."""

    ids: np.ndarray
    """(T,) int32."""
    mask: np.ndarray
    """(T,) bool: whether the loss of predicting ids[t] from those before it counts."""
    lost: int = 0
    """Tokens of the prompt that were left out because the context is shorter."""


class Part(NamedTuple):
    """A stretch of a conversation's text, encoded."""

    ids: list[int]
    answer: int
    """So many of the ids, from the first, are an answer and its end."""


def join(parts: Sequence[Part]) -> Row:
    """The parts as one row that ends with its last answer; the mask is on the answers."""
    ids = np.array([i for part in parts for i in part.ids], dtype=np.int32)
    mask = np.concatenate([np.arange(len(part.ids)) < part.answer for part in parts])
    end = int(np.flatnonzero(mask)[-1]) + 1 if mask.any() else len(ids)
    return Row(ids[:end], mask[:end])


def shorten(
    rows: Sequence[Row], limit: int, cut: Literal["middle", "start"], prefix: int
) -> list[Row]:
    """The rows of one record with at most `limit` ids each; their prompts are cut the same way.

    All stretches outside the mask that are longer than some length are cut to that length: they
    lose their middle, or their start but for the first `prefix` ids of a row. Raises DataError
    where an answer leaves no room for a token of each prompt.
    """
    length = min(_stretch_length(row.mask, limit) for row in rows)
    if length < 1:
        raise DataError(f"its answer alone does not fit into the context of {limit - 1} tokens")
    return [_cut(row, length, cut, prefix) for row in rows]


def _stretches(mask: np.ndarray) -> list[tuple[int, int]]:
    """(start, end) of every stretch outside the mask."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], mask, [True]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _stretch_length(mask: np.ndarray, limit: int) -> int:
    """The greatest length to which stretches can be cut so that the row fits; 0: it cannot."""
    room = limit - int(mask.sum())
    lengths = sorted(end - start for start, end in _stretches(mask))
    for place, length in enumerate(lengths):
        left = len(lengths) - place  # stretches as long as this one, or longer
        if length * left > room:
            return max(0, room // left)
        room -= length
    return max(lengths, default=1) if room >= 0 else 0


def _cut(row: Row, length: int, cut: Literal["middle", "start"], prefix: int) -> Row:
    """A row whose stretches outside the mask have at most `length` ids."""
    kept = np.ones(len(row.ids), dtype=bool)
    for start, end in _stretches(row.mask):
        if end - start > length:
            first = length // 2
            if cut == "start":
                first = prefix if start == 0 and prefix < length else 0
            kept[start + first : end - (length - first)] = False
    return Row(row.ids[kept], row.mask[kept], int((~kept).sum()))
