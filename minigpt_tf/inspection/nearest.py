"""The passages of a training text that have the most telling runs of tokens of a text."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..events import SILENT, Listener

CHUNK = 1 << 20
"""Tokens of the training text that are looked at together."""

KEPT = 64
"""Runs that end at the same token of the text, of which so many are looked at."""

PASSAGES = 5
CONTEXT = 16
"""Tokens that are shown on either side of a shared run."""


@dataclass(frozen=True, order=True)
class Shared:
    """A run of tokens that a text and the training text have in common."""

    bits: float
    """How telling it is: the sum of -log2 of how frequent each of its tokens is in the training
    text."""
    train_start: int
    """Its first token in the training text."""
    text_start: int
    """The same in the text."""
    length: int
    """Tokens."""


def nearest_runs(
    ids: np.ndarray,
    train_ids: np.ndarray,
    count: int = PASSAGES,
    listener: Listener = SILENT,
) -> list[Shared]:
    """The most telling runs of at least two tokens that a text shares with a training text.

    A rare word says more than a frequent one: with tokens drawn by their frequency, a run would
    come up by chance once in 2^bits places.

    Args:
        ids: The text (T,).
        train_ids: The training text (N,), which may be mapped from a file.
        count: How many runs at most.
        listener: Receives the progress.

    Returns:
        Runs in falling order of `bits`. Each has something of the text that none before it has, and
        they lie apart in the training text.

    Example:
        >>> (run,) = nearest_runs(np.array([7, 1, 2, 3]), np.array([1, 2, 9, 1, 2, 3]), count=1)
        >>> run.train_start, run.text_start, run.length, round(run.bits, 2)
        (3, 1, 3, 5.75)
    """
    ids = np.asarray(ids, dtype=np.int64)
    if not len(ids) or not len(train_ids):
        return []
    frequencies = _counts(train_ids, ids) / len(train_ids)
    bits = -np.log2(np.maximum(frequencies, 1 / len(train_ids)))
    found: list[Shared] = []
    for first in range(0, len(train_ids), CHUNK):
        begin = max(0, first - len(ids))  # a run may begin in the chunk before
        chunk = np.asarray(train_ids[begin : first + CHUNK])
        found += _runs(ids, bits, chunk, begin)
        listener.preparation(
            "looking for passages", min(first + CHUNK, len(train_ids)), len(train_ids)
        )
    chosen: list[Shared] = []
    for run in sorted(found, key=lambda run: (-run.bits, run.train_start, run.text_start)):
        if len(chosen) < count and all(_differs(run, other) for other in chosen):
            chosen.append(run)
    return chosen


def _counts(train_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """How often each token of the text is in the training text, (T,)."""
    wanted, places = np.unique(ids, return_inverse=True)
    counts = np.zeros(int(wanted[-1]) + 1, dtype=np.int64)
    for first in range(0, len(train_ids), CHUNK):
        chunk = np.asarray(train_ids[first : first + CHUNK], dtype=np.int64)
        counts += np.bincount(chunk[chunk <= wanted[-1]], minlength=len(counts))
    return counts[wanted][places]


def _runs(ids: np.ndarray, bits: np.ndarray, chunk: np.ndarray, begin: int) -> Iterator[Shared]:
    """The longest runs of a chunk that begins at `begin`, for each token that they can end at."""
    order = np.argsort(chunk, kind="stable")
    firsts = np.searchsorted(chunk[order], ids, side="left")
    lasts = np.searchsorted(chunk[order], ids, side="right")
    before, now = (np.zeros(len(chunk) + 1, dtype=np.int64) for _ in range(2))
    sums = np.concatenate([[0.0], np.cumsum(bits)])
    for j in range(len(ids)):  # now[i + 1]: length of the run that ends at ids[j] and chunk[i]
        places = order[firsts[j] : lasts[j]]
        now[places + 1] = before[places] + 1
        last = j + 1 == len(ids)
        goes_on = np.zeros(len(places), dtype=bool)
        if not last:
            inside = places + 1 < len(chunk)
            goes_on[inside] = chunk[places[inside] + 1] == ids[j + 1]
        ends = places[(now[places + 1] > 1) & ~goes_on]
        ends = ends[np.argsort(-now[ends + 1], kind="stable")[:KEPT]]
        for place, length in zip(ends.tolist(), now[ends + 1].tolist(), strict=True):
            start = j + 1 - length
            yield Shared(
                float(sums[j + 1] - sums[start]), begin + place + 1 - length, start, length
            )
        before[order[firsts[j - 1] : lasts[j - 1]] + 1 if j else []] = 0
        before, now = now, before


def _differs(run: Shared, other: Shared) -> bool:
    """Whether a run has something of the text that a better one lacks, and lies apart from it."""
    inside = (
        other.text_start <= run.text_start
        and run.text_start + run.length <= other.text_start + other.length
    )
    apart = (
        run.train_start >= other.train_start + other.length
        or other.train_start >= run.train_start + run.length
    )
    return apart and not inside
