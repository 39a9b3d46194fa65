"""What of a generated text is copied from the training text, token for token.

The training text may be long: it is read once, in chunks, and runs of its tokens are compared by
polynomial hashes modulo 2^64 (Karp and Rabin, 1987) of random numbers that stand for the tokens. A
run whose hash is found is compared token by token before it counts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError, DataError
from ..events import SILENT, Listener

CHUNK = 1 << 20
"""Tokens of the training text that are looked at together."""

FILTER_BITS = 16
"""First bits of a hash that are looked up, which is quick, before the whole hash is."""

SEED = 1987
"""Of the random numbers: a run has the same hash every time."""


@dataclass(frozen=True)
class Copied:
    """What `find_copied` found."""

    longest: np.ndarray
    """Ids of the longest run of tokens that occurs in the training text too, (L,); (0,) if no
    token of the texts does."""
    ngram_fraction: float | None
    """Fraction of the texts' n-grams that occur in the training text; None if no text has n
    tokens."""

    @property
    def ngram_share(self) -> float | None:
        """The name of `ngram_fraction` in version 0.1."""
        return self.ngram_fraction


def find_copied(
    texts: Iterable[Sequence[int]],
    train_ids: np.ndarray,
    n: int = 8,
    listener: Listener = SILENT,
) -> Copied:
    """Finds what generated texts copy from the training text, token for token.

    Time grows with N, memory with the texts alone.

    Args:
        texts: Token ids of each generated text. Neither a run nor an n-gram spans two of them.
        train_ids: The training text (N,), which may be mapped from a file.
        n: Tokens in the n-grams that are counted, each as often as it occurs.
        listener: Receives the progress.

    Returns:
        The longest copied run and the fraction of copied n-grams.

    Raises:
        DataError: The texts have no token.
        ConfigError: `n` is less than 1.

    Example:
        >>> import minigpt_tf as mg
        >>> found = mg.find_copied([[9, 1, 2, 3]], train_ids=np.array([0, 1, 2, 3, 4]), n=2)
        >>> found.longest, round(found.ngram_fraction, 2)
        (array([1, 2, 3]), 0.67)
    """
    if n < 1:
        raise ConfigError(f"n={n}: must be at least 1")
    arrays = [np.asarray(text, dtype=np.int64) for text in texts]
    if not sum(map(len, arrays)):
        raise DataError("there is no token that could be copied")
    search = _Search(arrays, train_ids, n)
    for start in range(0, len(train_ids), CHUNK):
        search.look_at(start)
        listener.preparation(
            "looking for copies", min(start + CHUNK, len(train_ids)), len(train_ids)
        )
    return Copied(search.longest, search.wanted.fraction_of(search.found))


class _Search:
    """What has been found in the training text so far."""

    def __init__(self, texts: list[np.ndarray], train_ids: np.ndarray, n: int) -> None:
        self.texts, self.train_ids, self.n = texts, train_ids, n
        self.overlap = max(n, *map(len, texts))
        size = min(CHUNK, len(train_ids)) + self.overlap
        ids = max(int(array.max(initial=0)) for array in (train_ids, *texts))
        self.hasher = _Hasher(size, ids)
        self.sums = [self.hasher.sums(text) for text in texts]
        self.wanted = self._runs(n)
        self.found = np.zeros(len(self.wanted.hashes), dtype=bool)
        self.longest = np.zeros(0, dtype=np.int64)
        self.longer = self._runs(1)

    def _runs(self, length: int) -> "_Runs":
        """All runs of so many tokens in the texts."""
        return _Runs([self.hasher.runs(sums, length) for sums in self.sums])

    def look_at(self, start: int) -> None:
        """Looks for longer runs, and for n-grams not found yet, that begin from `start` on."""
        chunk = np.asarray(self.train_ids[start : start + CHUNK + self.overlap], dtype=np.int64)
        sums = self.hasher.sums(chunk)
        for run, place, text, first in self.wanted.matches(self.hasher.runs(sums, self.n)):
            ours = self.texts[text][first : first + self.n]
            self.found[run] |= np.array_equal(ours, chunk[place : place + self.n])
        while True:
            length = len(self.longest) + 1
            matches = self.longer.matches(self.hasher.runs(sums, length))
            shared = (_shared(self.texts[t][i:], chunk[place:]) for _, place, t, i in matches)
            longest = max(shared, key=len, default=self.longest)
            if len(longest) < length:
                return
            self.longest, self.longer = longest, self._runs(len(longest) + 1)


def _shared(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The beginning that both have in common."""
    length = min(len(ours), len(theirs))
    differs = np.flatnonzero(ours[:length] != theirs[:length])
    return ours[: differs[0] if len(differs) else length]


class _Hasher:
    """Hashes of all runs of a length in an array of ids: one product a run, whatever its length."""

    def __init__(self, size: int, largest_id: int) -> None:
        """`size`: the longest array."""
        numbers = np.random.default_rng(SEED)
        self.values = numbers.integers(0, 2**64, largest_id + 1, dtype=np.uint64)
        factor = 2 * int(numbers.integers(0, 2**63)) + 1  # odd: it has an inverse
        self.powers, self.inverse = (
            np.cumprod(np.full(size, number, dtype=np.uint64))
            for number in (factor, pow(factor, -1, 2**64))
        )

    def sums(self, ids: np.ndarray) -> np.ndarray:
        """Sums (T + 1,) of the numbers of the ids before each place, times growing powers."""
        terms = self.values[ids] * self.powers[: len(ids)]
        return np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(terms)])

    def runs(self, sums: np.ndarray, length: int) -> np.ndarray:
        """The hash of each run of `length` ids, in order; none of fewer ids."""
        count = max(0, len(sums) - length)
        return (sums[length:] - sums[:count]) * self.inverse[:count]


class _Runs:
    """The different runs of one length in some texts, by their hashes."""

    def __init__(self, hashes: list[np.ndarray]) -> None:
        """`hashes`: of the runs of each text."""
        self.ends = np.cumsum([len(of_text) for of_text in hashes])
        self.hashes, self.places, self.counts = np.unique(
            np.concatenate(hashes), return_index=True, return_counts=True
        )
        self.filter = np.zeros(1 << FILTER_BITS, dtype=bool)
        self.filter[self._first_bits(self.hashes)] = True

    def _first_bits(self, hashes: np.ndarray) -> np.ndarray:
        return hashes >> np.uint64(64 - FILTER_BITS)

    def matches(self, others: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
        """For each run whose hash is among the others: its number, where it is among them, and
        where it is in the texts: which one, and from which token on."""
        likely = np.flatnonzero(self.filter[self._first_bits(others)])
        runs = np.searchsorted(self.hashes, others[likely])
        equal = self.hashes[np.minimum(runs, len(self.hashes) - 1)] == others[likely]
        found, firsts = np.unique(runs[equal], return_index=True)
        for run, place in zip(found.tolist(), likely[equal][firsts].tolist(), strict=True):
            index = int(self.places[run])
            text = int(np.searchsorted(self.ends, index, side="right"))
            yield run, place, text, index - (int(self.ends[text - 1]) if text else 0)

    def fraction_of(self, found: np.ndarray) -> float | None:
        """The fraction of the runs, each as often as it occurs in the texts, that were found."""
        total = int(self.counts.sum())
        return int(self.counts[found].sum()) / total if total else None
