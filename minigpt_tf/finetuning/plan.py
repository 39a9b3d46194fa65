"""What a fine-tuning run will do, settled and checked before TensorFlow is imported."""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import FineTuningConfig, LoraConfig, ModelConfig, RecordsConfig, TrainingConfig
from ..errors import ConfigError
from ..modelfolder import CLASSIFIER_SECTION, ModelFolder, load_folder
from ..options import to_dict
from ..training.listener import Listener
from .adapter import fingerprint
from .batches import RecordBatches
from .dataset import Dataset, Part, prepare
from .head import Head, load_head
from .kinds import KINDS
from .prompts import Template

RECORD_KINDS = {
    "full": ("instruction", "conversation"),
    "lora": ("instruction", "conversation"),
    "qlora": ("instruction", "conversation"),
    "dpo": ("preference",),
    "classify": ("labelled",),
}
"""The kinds of records that a method trains on."""


@dataclass(frozen=True)
class FineTuningPlan:
    """All that decides a run's outcome."""

    base: ModelFolder
    base_fingerprint: str
    source: str
    tuning: FineTuningConfig
    lora: LoraConfig
    records: RecordsConfig
    training: TrainingConfig
    dataset: Dataset
    template: Template
    base_head: Head | None
    """The base's head, from which a classifier of the same labels goes on."""

    @property
    def model(self) -> ModelConfig:
        """The base's configuration, which the fine-tuned model has too."""
        return self.base.model

    @property
    def changes(self) -> LoraConfig | None:
        """The changes of low rank that are trained; None where weights themselves are."""
        tuning = self.tuning
        whole = tuning.method == "full"
        whole |= tuning.method == "classify" and tuning.classify_layers != "lora"
        return None if whole else self.lora

    def batches(self, part: Part) -> RecordBatches:
        """A part of the records in batches, in the order that the seed gives them."""
        return part.batches(
            self.template,
            self.model.context_length,
            self.records,
            self.training.batch_size,
            self.training.seed,
        )

    @property
    def total_steps(self) -> int:
        epochs = self.training.epochs * self.batches(self.dataset.train).steps_per_epoch
        return self.training.steps or epochs

    @property
    def eval_every(self) -> int:
        """Steps between evaluations: an epoch, unless told otherwise."""
        return self.training.eval_every or self.batches(self.dataset.train).steps_per_epoch

    def epoch_of(self, step: int) -> float:
        """How often the records have been seen after so many steps."""
        return step / self.batches(self.dataset.train).steps_per_epoch

    @property
    def queries(self) -> list[str]:
        """The questions that are answered at every evaluation: those given, or three of the
        validation part, of different labels where there are some."""
        if self.tuning.sample_queries:
            return list(self.tuning.sample_queries)
        part = self.dataset.validation if self.dataset.validation.records else self.dataset.train
        records = part.records
        if self.dataset.labels:
            groups = ([r for r in records if r.label == label] for label in self.dataset.labels)
            records = [r for turn in itertools.zip_longest(*groups) for r in turn if r is not None]
        return [record.prompt_text for record in records[:3]]

    def describe(self) -> dict[str, Any]:
        """What the run is, as plain data: a run that goes on must have the same."""
        rows = hashlib.sha256()
        for part in (self.dataset.train, self.dataset.validation, self.dataset.test):
            for example in part.examples:
                for row in example:
                    rows.update(np.ascontiguousarray(row.ids, np.int32))
                    rows.update(np.ascontiguousarray(row.mask, np.uint8))
            for record in part.records if self.dataset.labels else ():
                rows.update(json.dumps(record.texts).encode())
        return {
            "base": str(self.base.path.resolve()),
            "base_fingerprint": self.base_fingerprint,
            "source": self.source,
            "rows_fingerprint": rows.hexdigest(),
            "tuning": to_dict(self.tuning),
            "lora": to_dict(self.lora),
            "records": to_dict(self.records),
            "training": to_dict(self.training),
        }

    def report(self) -> Iterator[tuple[str, str]]:
        """(name, value) pairs to show before training."""
        yield "base", f"{self.base.path}, {self.model.parameter_count:,} parameters"
        steps, size = self.total_steps, self.training.batch_size
        yield "training", f"{steps:,} steps of {size} records, {self.epoch_of(steps):.4g} epochs"
        yield "evaluation", f"every {self.eval_every:,} steps"
        if self.tuning.method == "classify":
            head = "a new one" if self.base_head is None else "goes on from the base's"
            yield "head", f"{head}, for {len(self.dataset.labels)} labels"
        elif CLASSIFIER_SECTION in self.base.description:
            yield "head", "the base is a classifier: its head is left out"


def make_plan(
    base: str | Path,
    source: str | Path,
    tuning: FineTuningConfig,
    records: RecordsConfig,
    training: TrainingConfig,
    lora: LoraConfig | None = None,
    *,
    listener: Listener | None = None,
) -> FineTuningPlan:
    """Reads the base's folder and the records. Raises ModelFolderError, DataError, ConfigError."""
    hear, lora = listener or Listener(), lora or LoraConfig()
    folder = load_folder(base)
    if training.optimizer == "muon" and tuning.method != "full":
        raise ConfigError("--optimizer muon is for whole matrices: choose adam or adamw")
    context = min(folder.model.context_length, tuning.max_length or folder.model.context_length)
    template = Template.of(folder)
    dataset = prepare(
        source,
        template,
        context,
        records,
        seed=training.seed,
        kinds=[kind for kind in KINDS if kind in RECORD_KINDS[tuning.method]],
        progress=hear.preparation,
    )
    return FineTuningPlan(
        base=folder,
        base_fingerprint=fingerprint(folder.path),
        source=str(source),
        tuning=tuning,
        lora=lora,
        records=records,
        training=training,
        dataset=dataset,
        template=template,
        base_head=_base_head(folder, tuning, dataset.labels),
    )


def _base_head(folder: ModelFolder, tuning: FineTuningConfig, labels: list[str]) -> Head | None:
    """The head of a base that is a classifier of these labels already. Raises ModelFolderError."""
    if tuning.method != "classify" or CLASSIFIER_SECTION not in folder.description:
        return None
    head = load_head(folder.path, folder.model.embed_dim)
    return head if head.labels == labels else None
