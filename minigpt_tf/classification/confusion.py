"""How well a classifier guesses: which labels it takes for which, as figures and as a picture."""

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import metrics
from ..console import LONGEST_LABEL, one_line

MOST_NUMBERS = 20
"""Labels up to which the picture has a number in each of its cells."""

MOST_NAMES = 60
"""Labels up to which the picture names them."""


@dataclass(frozen=True)
class Confusion:
    """How often texts of one label were taken for another.

    Example:
        >>> confusion = Confusion.of(["a", "b"], np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
        >>> confusion.counts.tolist(), confusion.accuracy
        ([[2, 1], [0, 1]], 0.75)
    """

    labels: list[str]
    counts: np.ndarray
    """(C, C) int64: texts of labels[i] that were taken for labels[j]."""

    @classmethod
    def of(cls, labels: Sequence[str], truth: np.ndarray, guesses: np.ndarray) -> "Confusion":
        """Counts guesses.

        Args:
            labels: the names of the C labels.
            truth: the places in `labels` of the right ones, (N,).
            guesses: the places of the guessed ones, (N,).

        Returns:
            The counts.
        """
        counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
        np.add.at(counts, (truth, guesses), 1)
        return cls(list(labels), counts)

    @property
    def accuracy(self) -> float:
        """The fraction of right guesses."""
        return metrics.accuracy(self.counts)

    @functools.cached_property
    def precision(self) -> np.ndarray:
        """(C,): of the texts taken for a label, the fraction that has it; 0 without any."""
        return metrics.precision(self.counts)

    @functools.cached_property
    def recall(self) -> np.ndarray:
        """(C,): of the texts of a label, the fraction taken for it; 0 without any."""
        return metrics.recall(self.counts)

    @functools.cached_property
    def f1(self) -> np.ndarray:
        """(C,): the harmonic mean of precision and recall; 0 where both are."""
        return metrics.f1(self.counts)

    @functools.cached_property
    def macro_f1(self) -> float:
        """The mean F1 of the labels that occur, as the right one or as a guess; 0 without any."""
        occurs = (self.counts.sum(axis=0) + self.counts.sum(axis=1)) > 0
        return float(self.f1[occurs].mean()) if occurs.any() else 0.0

    def as_json(self) -> dict[str, Any]:
        """All figures; of the counts those that are not 0.

        Returns:
            Plain JSON data: "accuracy", "macro_f1", "classes" and "confusion".
        """
        texts = self.counts.sum(axis=1).tolist()
        columns = [column.tolist() for column in (self.precision, self.recall, self.f1)]
        classes = zip(self.labels, texts, *columns, strict=True)
        names = ("texts", "precision", "recall", "f1")
        return {
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "classes": {label: dict(zip(names, row, strict=True)) for label, *row in classes},
            "confusion": {
                label: {self.labels[j]: int(row[j]) for j in np.flatnonzero(row)}
                for label, row in zip(self.labels, self.counts, strict=True)
            },
        }


def write_picture(file: Path, confusion: Confusion, title: str) -> None:
    """Draws the counts: a row for each right label, colored by the fractions of its texts.

    Args:
        file: the .png to write.
        confusion: the counts.
        title: what stands above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(confusion.labels)
    side = 2.4 + 0.55 * min(count, MOST_NUMBERS)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    fractions = confusion.counts / np.maximum(1, confusion.counts.sum(axis=1, keepdims=True))
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="fraction of the label's texts")
    bar.ax.yaxis.set_major_formatter("{x:.0%}")
    if count <= MOST_NAMES:
        names = [one_line(label, LONGEST_LABEL) for label in confusion.labels]
        size = "medium" if count <= MOST_NUMBERS else 5
        rotation = 90 if max(map(len, names)) * count > 40 else 0
        axes.set_xticks(range(count), names, fontsize=size, parse_math=False, rotation=rotation)
        axes.set_yticks(range(count), names, fontsize=size, parse_math=False)
    if count <= MOST_NUMBERS:
        for (i, j), number in np.ndenumerate(confusion.counts):
            color = "white" if fractions[i, j] > 0.5 else "black"
            axes.text(j, i, f"{number:,}", ha="center", va="center", color=color)
    axes.set(xlabel="guessed label", ylabel="right label", title=title)
    with warnings.catch_warnings():  # of letters that the font lacks
        warnings.simplefilter("ignore")
        figure.savefig(file, dpi=120)
