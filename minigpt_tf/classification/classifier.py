"""A trained classifier at work, without TensorFlow: texts -> labels and their probabilities."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import EngineConfig, RecordsConfig
from ..errors import ConfigError, DataError, ModelFolderError
from ..events import SILENT, Listener
from ..inference.engine import Engine
from ..inference.folder import ModelFolder, load_whole
from ..metrics import log_softmax
from ..records.prompts import Template
from ..records.reading import Dropped, read_records
from ..records.rendering import render
from ..records.schema import LabeledRecord
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
    dropped: int
    """Tokens of the text that truncation dropped, because the context is shorter."""

    @property
    def label(self) -> str:
        """The most likely label; of equally likely ones the first."""
        return max(self.probabilities, key=self.probabilities.__getitem__)


@dataclass(frozen=True)
class Trial:
    """How a classifier did on labeled texts."""

    where: str
    """The file or database."""
    unit: str
    """What its rows are called: line, row or entry."""
    confusion: Confusion
    loss: float
    """Mean over the texts, in nats."""
    dropped: list[Dropped]
    """Rows that could not be used."""
    truncated: int
    """Texts that were longer than the context."""

    def as_json(self) -> dict[str, Any]:
        """All figures.

        Returns:
            Plain JSON data.
        """
        texts = int(self.confusion.counts.sum())
        figures = {"data": self.where, "texts": texts, "loss": self.loss}
        return figures | self.confusion.as_json() | {"longer_than_context": self.truncated}


class Classifier:
    """A model folder with a head, and how its texts are encoded. Without TensorFlow.

    Args:
        engine: the language model.
        head: the labels, and a linear layer on the hidden state of the last token.
        template: the tokenizer with its special tokens.
        context_length: the longest text in tokens, as in training.
        records: how longer texts are truncated, as in training.

    Example:
        >>> import json
        >>> import minigpt_tf as mg
        >>> _ = open("notes.txt", "w").write("one apple, one pear, one saw, one drill. " * 500)
        >>> sizes = {"embed_dim": 16, "num_layers": 1, "dtype": "float32"}
        >>> _ = mg.train("notes.txt", "base", preset="modern", steps=2, **sizes)
        >>> labels = {"apple": "fruit", "pear": "fruit", "saw": "tool", "drill": "tool"}
        >>> rows = [(n, word) for word in labels for n in range(5)]
        >>> texts = [{"text": f"{n} {word}", "label": labels[word]} for n, word in rows]
        >>> _ = open("texts.json", "w").write(json.dumps(texts))
        >>> _ = mg.finetune("base", "texts.json", "sorter", method="classify", steps=2)
        >>> guess = mg.Classifier.load("sorter").classify("2 apple")
        >>> sorted(guess.probabilities), guess.dropped
        (['fruit', 'tool'], 0)
    """

    def __init__(
        self,
        engine: Engine,
        head: Head,
        template: Template,
        context_length: int,
        records: RecordsConfig,
    ) -> None:
        self.engine, self.head, self.template = engine, head, template
        self.context_length, self.records = context_length, records
        self.notice = ""

    @classmethod
    def load(cls, folder: str | Path, config: EngineConfig | None = None) -> "Classifier":
        """Reads a model folder.

        Args:
            folder: what `finetune` with the method classify wrote.
            config: the engine's threads and weights (unset: EngineConfig's defaults).

        Returns:
            The classifier; its `notice` is what the engine has to say, perhaps empty.

        Raises:
            ModelFolderError: the folder is missing, damaged, or not a classifier.
        """
        chosen = config or EngineConfig()
        return load_whole(folder, lambda contents: cls._of(contents, chosen))

    @classmethod
    def _of(cls, contents: ModelFolder, config: EngineConfig) -> "Classifier":
        head = load_head(contents.path, contents.model.embed_dim)
        context_length, records = _section(contents)
        engine, notice = Engine.load(contents, config.quantize, config.threads)
        classifier = cls(engine, head, Template.of(contents), context_length, records)
        classifier.notice = notice
        return classifier

    def scores(self, row: Row) -> np.ndarray:
        """Scores of one text.

        Args:
            row: its token ids (T,).

        Returns:
            A score for each label, (C,) float32.
        """
        return self.head.scores(self.engine.hidden(row.ids))

    def classify(self, text: str) -> Guess:
        """Labels one text.

        Args:
            text: the text as it is, without a prompt.

        Returns:
            The probability of each label.

        Raises:
            DataError: the text has no tokens, or contains a special token of the model.
        """
        row = self.row(text)
        return self.guess(text, row, self.engine.hidden(row.ids))

    def guess(self, text: str, row: Row, hidden: np.ndarray) -> Guess:
        """The label of a text whose hidden state is known.

        Args:
            text: the text.
            row: its tokens.
            hidden: the hidden state (D,) of the last one, behind the last norm.

        Returns:
            As `classify`.
        """
        probabilities = np.exp(log_softmax(self.head.scores(hidden))).tolist()
        return Guess(text, dict(zip(self.head.labels, probabilities, strict=True)), row.dropped)

    def try_on(
        self, source: str | Path, config: RecordsConfig, listener: Listener = SILENT
    ) -> Trial:
        """Classifies the labeled records of a file or database.

        Args:
            source: the file, or sqlite:///FILE.
            config: how it is read.
            listener: notified of progress, and of what is not read.

        Returns:
            How many labels were right, and which were confused.

        Raises:
            DataError: it cannot be read, no row can be used, or a label is not one of the
                classifier's.
        """
        found = read_records(source, config, ("labeled",))
        for note in found.notes:
            listener.notice(f"{found.where}: {note}")
        records = [record for record in found.records if isinstance(record, LabeledRecord)]
        places = {label: place for place, label in enumerate(self.head.labels)}
        for record in records:
            if record.label not in places:
                known = ", ".join(map(repr, self.head.labels[:8]))
                more = f" and {len(places) - 8} more" if len(places) > 8 else ""
                raise DataError(
                    f"{found.where}: {found.unit} {record.row}: the classifier does not know the "
                    f"label {record.label!r:.40}, but {known}{more}"
                )
        scores, truth, truncated, dropped = [], [], 0, list(found.dropped)
        for count, record in enumerate(records, start=1):
            try:
                row = self.row(record.text)
            except DataError as error:
                dropped.append(Dropped(record.row, str(error)))
                continue
            scores.append(self.scores(row))
            truth.append(places[record.label])
            truncated += row.dropped > 0
            listener.preparation("classifying", count, len(records))
        if not scores:
            raise DataError(f"{found.where}: no row can be used: {dropped[0].reason}")
        confusion, loss = judge(self.head.labels, np.array(scores), np.array(truth))
        return Trial(found.where, found.unit, confusion, loss, dropped, truncated)

    def row(self, text: str) -> Row:
        """A text as the model gets it.

        Args:
            text: the text.

        Returns:
            Its tokens, and how many were dropped.

        Raises:
            DataError: the text has no tokens, or contains a special token of the model.
        """
        record = LabeledRecord(0, text, "")
        return render(record, self.template, self.context_length, self.records)[0]


def judge(labels: list[str], scores: np.ndarray, truth: np.ndarray) -> tuple[Confusion, float]:
    """Judges the scores of N texts.

    Args:
        labels: the names of the C labels.
        scores: (N, C).
        truth: the places of the right labels (N,).

    Returns:
        Which labels were taken for which, and the mean loss in nats.
    """
    losses = -log_softmax(scores)[np.arange(len(truth)), truth]
    return Confusion.of(labels, truth, scores.argmax(axis=-1)), float(losses.mean())


def describe(context_length: int, records: RecordsConfig) -> dict[str, Any]:
    """What config.json has of how a classifier's texts are encoded.

    Args:
        context_length: the longest text in tokens.
        records: how longer texts are truncated.

    Returns:
        Plain JSON data.
    """
    return {"context_length": context_length, "cut": records.truncation}


def _section(contents: ModelFolder) -> tuple[int, RecordsConfig]:
    """The context length and the truncation that `describe` wrote. Raises ModelFolderError."""
    section = contents.description.get(CLASSIFIER_SECTION)
    if isinstance(section, dict):
        length = section.get("context_length")
        if type(length) is int and 1 <= length <= contents.model.context_length:
            with suppress(ConfigError, KeyError):
                return length, RecordsConfig(truncation=section["cut"])
    raise ModelFolderError(
        f"{contents.path}: config.json: {CLASSIFIER_SECTION}={section!r:.60}: expected "
        "context_length and cut, as finetune --method classify writes them"
    )
