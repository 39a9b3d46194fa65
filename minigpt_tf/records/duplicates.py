"""Prompts of one part of the records that stand in another part too, word for word or nearly.

Near means: of the five-letter grams that either prompt has, both have a large share (Jaccard's
similarity). Candidates are found by their rarest grams: two sets with enough in common have one of
those in common (Chaudhuri, Ganti and Kaushik, 2006, "A primitive operator for similarity joins").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .schema import Record

LETTERS = 5
"""Length of a gram; a shorter text is one gram."""

MOST_CHARACTERS = 20_000
"""So much of a prompt is compared."""

MOST_HOLDERS = 100
MOST_CANDIDATES = 50
"""Where more prompts share a rare gram, or are candidates for one prompt, the first, or those with
most rare grams in common, are compared: thousands of prompts that are all alike take no longer."""


@dataclass(frozen=True)
class Duplicate:
    """A held-out record and the record of the other part that is closest to it."""

    row: int
    other_row: int
    similarity: float
    """Fraction of common grams, from 0 to 1; case and white space do not count."""
    exact: bool
    """Whether the prompts are the same, letter for letter."""


def find_duplicates(
    held_out: Sequence[Record], others: Sequence[Record], threshold: float
) -> list[Duplicate]:
    """Finds held-out records whose prompt is also among other records.

    Args:
        held_out: The validation or test set.
        others: The training set.
        threshold: The least similarity that is reported, from 0 to 1.

    Returns:
        Each record of `held_out` at most once, by row, with the most similar other record; the
        first one if several are equally similar.
    """
    first_with: dict[str, Record] = {}
    first_like: dict[str, Record] = {}
    for other in others:
        first_with.setdefault(other.prompt_text, other)
        first_like.setdefault(_plain(other.prompt_text), other)
    found: list[Duplicate] = []
    rest: list[Record] = []
    for record in held_out:
        same = first_with.get(record.prompt_text)
        alike = same or first_like.get(_plain(record.prompt_text))
        if alike is None:
            rest.append(record)
        else:
            found.append(Duplicate(record.row, alike.row, 1.0, exact=same is not None))
    texts = list(first_like)
    for query, place, similarity in _near([_plain(r.prompt_text) for r in rest], texts, threshold):
        other = first_like[texts[place]]
        found.append(Duplicate(rest[query].row, other.row, similarity, exact=False))
    return sorted(found, key=lambda item: item.row)


def _plain(text: str) -> str:
    """A text without what does not count: case and the width of white space."""
    return " ".join(text[:MOST_CHARACTERS].casefold().split())


def _grams(text: str) -> np.ndarray:
    """The different grams of a text as 64-bit hashes, sorted."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64) + 1
    length = min(LETTERS, len(codes))
    hashes = np.zeros(len(codes) - length + 1, dtype=np.uint64)
    for place in range(length):
        hashes = hashes * np.uint64(0x100000001B3) + codes[place : place + len(hashes)]
    return np.unique(hashes)


def _near(
    queries: Sequence[str], texts: Sequence[str], threshold: float
) -> list[tuple[int, int, float]]:
    """(query, its closest text, similarity) where that reaches the threshold."""
    if not queries or not texts:
        return []
    sets = _by_rarity([_grams(text) for text in (*queries, *texts)])
    wanted, known = sets[: len(queries)], sets[len(queries) :]
    holders = _Holders(known, threshold)
    found = []
    for query, grams in enumerate(wanted):
        best, best_place = 0.0, -1
        for place in holders.candidates(grams):
            similarity = _similarity(grams, known[place])
            if (similarity, -place) > (best, -best_place):
                best, best_place = similarity, int(place)
        if best >= threshold:
            found.append((query, best_place, best))
    return found


def _by_rarity(sets: list[np.ndarray]) -> list[np.ndarray]:
    """The sets with their grams renamed 0, 1, ... from the rarest to the commonest, sorted."""
    together = np.concatenate(sets)
    _, names, counts = np.unique(together, return_inverse=True, return_counts=True)
    ranks = np.empty(len(counts), dtype=np.int64)
    ranks[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    ends = np.cumsum([len(grams) for grams in sets])[:-1]
    return [np.sort(grams) for grams in np.split(ranks[names], ends)]


def _rarest(grams: np.ndarray, threshold: float) -> np.ndarray:
    """So many of the rarest grams that a set without any of them is not similar enough."""
    return grams[: len(grams) - math.ceil(threshold * len(grams) - 1e-9) + 1]


def _similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Jaccard's: common grams over all grams."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


class _Holders:
    """Which texts have a gram among their rarest."""

    def __init__(self, sets: list[np.ndarray], threshold: float) -> None:
        rare = [_rarest(grams, threshold) for grams in sets]
        grams = np.concatenate(rare)
        places = np.repeat(np.arange(len(rare)), [len(item) for item in rare])
        order = np.argsort(grams, kind="stable")
        self.threshold = threshold
        self.grams, self.places = grams[order], places[order]
        self.sizes = np.array([len(item) for item in sets])

    def candidates(self, grams: np.ndarray) -> np.ndarray:
        """The places of the texts that may be similar enough."""
        rare = _rarest(grams, self.threshold)
        starts = np.searchsorted(self.grams, rare, side="left")
        ends = np.searchsorted(self.grams, rare, side="right")
        ends = np.minimum(ends, starts + MOST_HOLDERS)
        slices = [self.places[a:b] for a, b in zip(starts, ends, strict=True) if a < b]
        if not slices:
            return np.empty(0, dtype=np.int64)
        places, common = np.unique(np.concatenate(slices), return_counts=True)
        sizes, size = self.sizes[places], len(grams)
        fits = np.minimum(sizes, size) >= self.threshold * np.maximum(sizes, size) - 1e-9
        places, common = places[fits], common[fits]
        return places[np.argsort(-common, kind="stable")[:MOST_CANDIDATES]]
