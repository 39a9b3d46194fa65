"""An index of entries, ranked by BM25 (Robertson and Zaragoza, 2009)."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .entries import Entry
from .terms import terms

K1, B = 1.2, 0.75
"""BM25's saturation of repeated terms, and how much long entries count less."""

WEAKEST = 0.4
"""An entry with less of the best one's score is about something else."""


@dataclass(frozen=True)
class Found:
    """An entry that was found."""

    entry: Entry
    score: float
    """BM25's, as a fraction of what an entry would have that consists of the question: 0 to 1. A
    term that is in no entry counts most, so that a question about other things scores low."""
    terms: tuple[int, int]
    """How many different terms of the question are in the entry, and how many it has."""

    def answers(self, min_score: float) -> bool:
        """Whether the entry is about the question, and not only shares a word with it.

        Args:
            min_score: The score that it must have.

        Returns:
            True if it has that score, and two terms of the question, or all.
        """
        shared, asked = self.terms
        return self.score >= min_score and shared >= min(2, asked)


class Index:
    """Entries by their terms.

    Args:
        entries: What can be found.

    Example:
        >>> from minigpt_tf.retrieval.entries import Entry
        >>> hours, tea = Entry(("hours",), "We open at 8.", "a"), Entry(("tea",), "Green.", "b")
        >>> index = Index([hours, tea])
        >>> [found.entry.source for found in index.search("When do you open?", 2)]
        ['a']
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = list(entries)
        counted = [Counter(terms(" ".join([e.text, *e.questions]))) for e in self.entries]
        lengths = np.array([sum(counts.values()) for counts in counted], dtype=np.float64)
        norms = K1 * (1 - B + B * lengths / max(1.0, lengths.mean() if len(lengths) else 1.0))
        holders: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, counts in enumerate(counted):
            for term, count in counts.items():
                holders[term].append((number, count))
        self._postings: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for term, held in holders.items():
            numbers, counts = np.array(held, dtype=np.int64).T
            self._postings[term] = numbers, counts * (K1 + 1) / (counts + norms[numbers])

    def search(self, question: str, count: int) -> list[Found]:
        """The entries that fit a question best.

        Args:
            question: What is looked for.
            count: How many entries at most.

        Returns:
            Those that have a term of the question and are not far behind the best, the best first;
            of equal ones the earlier first.
        """
        asked = list(dict.fromkeys(terms(question)))
        scores = np.zeros(len(self.entries))
        shared = np.zeros(len(self.entries), dtype=np.int64)
        highest = 0.0
        for term in asked:
            numbers, weights = self._postings.get(term, (_NONE, _NONE))
            idf = math.log(1 + (len(self.entries) - len(numbers) + 0.5) / (len(numbers) + 0.5))
            highest += idf * (K1 + 1)
            scores[numbers] += idf * weights
            shared[numbers] += 1
        best = np.argsort(-scores, kind="stable")[:count]
        return [
            Found(
                self.entries[number],
                float(scores[number] / highest),
                (int(shared[number]), len(asked)),
            )
            for number in best.tolist()
            if scores[number] > WEAKEST * scores[best[0]]
        ]


_NONE = np.zeros(0, dtype=np.int64)
