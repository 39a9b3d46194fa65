"""A trained classifier at work, without TensorFlow: texts -> labels and their probabilities."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import EngineConfig, RecordsConfig
from ..errors import ConfigError, DataError, ModelFolderError
from ..events import SILENT, Listener
from ..inference.engine import Engine
from ..inference.folder import ModelFolder, load_folder
from ..metrics import log_softmax
from ..records.prompts import Template
from ..records.reading import Dropped, read_records
from ..records.rendering import render
from ..records.schema import LabelledRecord
from ..records.truncation import Row
from ..storage.model_folder import CLASSIFIER_SECTION
from .confusion import Confusion
from .head import Head, load_head


@dataclass(frozen=True)
class Guess:
    """What a classifier says of one text."""

    text: str
    probabilities: dict[str, float]
    """By label, in the order of the head."""
    lost: int
    """Tokens of the text that were left out because the context is shorter."""

    @property
    def label(self) -> str:
        """The likeliest label; of equally likely ones the first."""
        return max(self.probabilities, key=self.probabilities.__getitem__)


@dataclass(frozen=True)
class Trial:
    """How a classifier did on labelled texts."""

    where: str
    unit: str
    confusion: Confusion
    loss: float
    """Mean over the texts, in nats."""
    dropped: list[Dropped]
    lost: int
    """Texts that were longer than the context."""

    def as_json(self) -> dict[str, Any]:
        """All figures as plain data."""
        texts = int(self.confusion.counts.sum())
        figures = {"data": self.where, "texts": texts, "loss": self.loss}
        return figures | self.confusion.as_json() | {"longer_than_context": self.lost}


class Classifier:
    """A model folder with a head, and how its texts are encoded."""

    def __init__(
        self, engine: Engine, head: Head, template: Template, context_length: int, cut: str
    ) -> None:
        """`context_length`, `cut`: the longest text in tokens, and what longer ones lose, as when
        the classifier was trained."""
        self.engine, self.head, self.template = engine, head, template
        self.context_length = context_length
        self.notice = ""
        self._records = RecordsConfig(cut=cut)

    @classmethod
    def load(cls, folder: str | Path, config: EngineConfig | None = None) -> "Classifier":
        """Reads a model folder. Raises ModelFolderError, also where it is no classifier."""
        contents, config = load_folder(folder), config or EngineConfig()
        head = load_head(contents.path, contents.model.embed_dim)
        context_length, cut = _section(contents)
        engine, notice = Engine.load(contents, config.quantize, config.threads)
        classifier = cls(engine, head, Template.of(contents), context_length, cut)
        classifier.notice = notice
        return classifier

    def scores(self, row: Row) -> np.ndarray:
        """A text as token ids -> a score for each label (C,)."""
        return self.head.scores(self.engine.hidden(row.ids))

    def classify(self, text: str) -> Guess:
        """Raises DataError where the text has no tokens, or reads as one of the model's own."""
        row = self._row(text)
        probabilities = np.exp(log_softmax(self.scores(row))).tolist()
        return Guess(text, dict(zip(self.head.labels, probabilities, strict=True)), row.dropped)

    def try_on(
        self, source: str | Path, config: RecordsConfig, listener: Listener = SILENT
    ) -> Trial:
        """Classifies the labelled records of a file or database.

        Raises DataError where it cannot be read or a label is not one of the classifier's.
        """
        found = read_records(source, config, ("labelled",))
        places = {label: place for place, label in enumerate(self.head.labels)}
        for record in found.records:
            if record.label not in places:
                known = ", ".join(map(repr, self.head.labels[:8]))
                more = f" and {len(places) - 8} more" if len(places) > 8 else ""
                raise DataError(
                    f"{found.where}: {found.unit} {record.row}: the classifier does not know the "
                    f"label {record.label!r:.40}, but {known}{more}"
                )
        scores, truth, lost, dropped = [], [], 0, list(found.dropped)
        for count, record in enumerate(found.records, start=1):
            try:
                row = self._row(record.text)
            except DataError as error:
                dropped.append(Dropped(record.row, str(error)))
                continue
            scores.append(self.scores(row))
            truth.append(places[record.label])
            lost += row.dropped > 0
            listener.preparation("classifying", count, len(found.records))
        if not scores:
            raise DataError(f"{found.where}: no row can be used: {dropped[0].reason}")
        confusion, loss = judge(self.head.labels, np.array(scores), np.array(truth))
        return Trial(found.where, found.unit, confusion, loss, dropped, lost)

    def _row(self, text: str) -> Row:
        record = LabelledRecord(0, text, "")
        return render(record, self.template, self.context_length, self._records)[0]


def judge(labels: list[str], scores: np.ndarray, truth: np.ndarray) -> tuple[Confusion, float]:
    """What scores (N, C) of texts with the labels at places `truth` (N,) are worth, and the mean
    loss in nats."""
    losses = -log_softmax(scores)[np.arange(len(truth)), truth]
    return Confusion.of(labels, truth, scores.argmax(axis=-1)), float(losses.mean())


def describe(context_length: int, records: RecordsConfig) -> dict[str, Any]:
    """What config.json keeps of how a classifier's texts are encoded."""
    return {"context_length": context_length, "cut": records.cut}


def _section(contents: ModelFolder) -> tuple[int, str]:
    """What `describe` wrote. Raises ModelFolderError."""
    section = contents.description.get(CLASSIFIER_SECTION)
    try:
        context_length, cut = section["context_length"], section["cut"]
        RecordsConfig(cut=cut)
    except (KeyError, TypeError, ConfigError):
        context_length = cut = None
    if type(context_length) is not int or not 1 <= context_length <= contents.model.context_length:
        raise ModelFolderError(
            f"{contents.path}: config.json: {CLASSIFIER_SECTION}={section!r:.60}: expected "
            "context_length and cut, as finetune --method classify writes them"
        )
    return context_length, cut
