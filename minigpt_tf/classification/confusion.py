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
    """How often texts of one label were taken for another."""

    labels: list[str]
    counts: np.ndarray
    """(C, C) int64: texts of labels[i] that were taken for labels[j]."""

    @classmethod
    def of(cls, labels: Sequence[str], truth: np.ndarray, guesses: np.ndarray) -> "Confusion":
        """From the places in `labels` of the right ones (N,) and the guessed ones (N,)."""
        counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
        np.add.at(counts, (truth, guesses), 1)
        return cls(list(labels), counts)

    @property
    def accuracy(self) -> float:
        """The share of right guesses."""
        return metrics.accuracy(self.counts)

    @functools.cached_property
    def precision(self) -> np.ndarray:
        """(C,): of the texts taken for a label, the share that has it; 0 where there are none."""
        return metrics.precision(self.counts)

    @functools.cached_property
    def recall(self) -> np.ndarray:
        """(C,): of the texts of a label, the share taken for it; 0 where there are none."""
        return metrics.recall(self.counts)

    @functools.cached_property
    def f1(self) -> np.ndarray:
        """(C,): the harmonic mean of precision and recall; 0 where both are."""
        return metrics.f1(self.counts)

    def as_json(self) -> dict[str, Any]:
        """All figures as plain data; of the counts those that are not 0."""
        texts = self.counts.sum(axis=1).tolist()
        columns = [column.tolist() for column in (self.precision, self.recall, self.f1)]
        classes = zip(self.labels, texts, *columns, strict=True)
        names = ("texts", "precision", "recall", "f1")
        return {
            "accuracy": self.accuracy,
            "macro_f1": float(self.f1.mean()),
            "classes": {label: dict(zip(names, row, strict=True)) for label, *row in classes},
            "confusion": {
                label: {self.labels[j]: int(row[j]) for j in np.flatnonzero(row)}
                for label, row in zip(self.labels, self.counts, strict=True)
            },
        }


def write_picture(file: Path, confusion: Confusion, title: str) -> None:
    """Draws the counts as a .png: a row for each right label, coloured by its shares."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(confusion.labels)
    side = 2.4 + 0.55 * min(count, MOST_NUMBERS)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shares = confusion.counts / np.maximum(1, confusion.counts.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="share of the label's texts")
    bar.ax.yaxis.set_major_formatter("{x:.0%}")
    if count <= MOST_NAMES:
        names = [one_line(label, LONGEST_LABEL) for label in confusion.labels]
        common = {"fontsize": "medium" if count <= MOST_NUMBERS else 5, "parse_math": False}
        turned = {"rotation": 90} if max(map(len, names)) * count > 40 else {}
        axes.set_xticks(range(count), names, **common, **turned)
        axes.set_yticks(range(count), names, **common)
    if count <= MOST_NUMBERS:
        for (i, j), number in np.ndenumerate(confusion.counts):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, f"{number:,}", ha="center", va="center", color=colour)
    axes.set(xlabel="guessed label", ylabel="right label", title=title)
    with warnings.catch_warnings():  # of letters that the font lacks
        warnings.simplefilter("ignore")
        figure.savefig(file, dpi=120)
