"""What a fine-tuning run will do, as settled before TensorFlow is imported."""

import functools
import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..classification.head import Head
from ..config import FineTuningConfig, LoraConfig, ModelConfig, RecordsConfig, TrainingConfig
from ..config.settings import to_dict
from ..inference.folder import ModelFolder
from ..planning.workload import Workload
from ..records.batches import RecordBatches
from ..records.dataset import Dataset, RecordSet
from ..records.prompts import Template
from ..records.schema import LabeledRecord, Record, ask
from ..records.truncation import Row
from ..retrieval.template import RecordsTemplate
from ..storage.model_folder import CLASSIFIER_SECTION, EXACT_NAME
from ..storage.paths import real_path
from ..text.chat_template import Message
from .method import Method

MOST_SAMPLES = 3
"""Records whose answers are shown at every evaluation."""


@dataclass(frozen=True)
class FineTuningPlan:
    """All that decides a run's outcome. `make_finetuning_plan` and `plan_finetuning` make it."""

    base: ModelFolder
    base_fingerprint: str
    source: str
    method: Method
    lora: LoraConfig
    records: RecordsConfig
    training: TrainingConfig
    dataset: Dataset
    template: Template
    base_head: Head | None
    """The base's head, from which a classifier of the same labels continues."""
    reading: float = field(default=0.0, compare=False)
    """Seconds that it took to read base and records."""

    @property
    def tuning(self) -> FineTuningConfig:
        """The method's settings."""
        return self.method.tuning

    @property
    def model(self) -> ModelConfig:
        """The base's configuration, which the fine-tuned model has too."""
        return self.base.model

    @property
    def adapter_config(self) -> LoraConfig | None:
        """LoRA's settings; None if the method trains the weights themselves."""
        return self.lora if self.method.trains == "adapter" else None

    def batches(self, split: RecordSet) -> RecordBatches:
        """One split of the records in batches, which the seed and the step decide."""
        context, size = self.model.context_length, self.training.batch_size
        return split.batches(self.template, context, self.records, size, self.training.seed)

    @property
    def workload(self) -> Workload:
        """What decides how much memory the run takes."""
        return self._workload_of(self.method)

    def lighter(self) -> list[tuple[str, Workload]]:
        """Other methods for the same records that need less memory, the mildest first.

        Returns:
            The options that choose a method, and the run by it.
        """
        return [(options, self._workload_of(method)) for options, method in self.method.lighter()]

    def _workload_of(self, method: Method) -> Workload:
        """The run by a method."""
        run = method.workload(
            self.model, self.lora, self.training, length=self._longest, targets=self._targets
        )
        exact = self.base.path / EXACT_NAME  # made by the engine when the base was first asked
        return replace(run, stored=exact.stat().st_size if exact.is_file() else None)

    @functools.cached_property
    def _rows(self) -> list[Row]:
        """All rows of tokens of all splits."""
        splits = (self.dataset.train, self.dataset.validation, self.dataset.test)
        return [row for split in splits for example in split.examples for row in example]

    @functools.cached_property
    def _longest(self) -> int:
        """Tokens of the longest row, with its padding."""
        multiple, longest = self.records.length_multiple, max(len(row.ids) for row in self._rows)
        longest -= self.method.writes_answers  # its last token is a target alone
        return min(math.ceil(longest / multiple) * multiple, self.model.context_length)

    @functools.cached_property
    def _targets(self) -> int:
        """Tokens of a row that count, at most."""
        return max(int(row.mask.sum()) for row in self._rows)

    @property
    def total_steps(self) -> int:
        """Batches of the whole run."""
        return self.training.steps or self.training.epochs * self.steps_per_epoch

    @functools.cached_property
    def steps_per_epoch(self) -> int:
        """Batches of one pass over the training set."""
        return self.batches(self.dataset.train).steps_per_epoch

    @property
    def eval_every(self) -> int:
        """Steps between evaluations: an epoch, unless it was set."""
        return self.training.eval_every or self.steps_per_epoch

    @property
    def most_targets(self) -> int:
        """Targets that count in a batch of any split, at most."""
        return self.training.batch_size * self._targets

    def epoch_of(self, step: int) -> float:
        """Passes over the records, with their fraction, after a number of steps."""
        return step / self.steps_per_epoch

    @property
    def queries(self) -> list[str]:
        """The questions of the settings, or else of some records, as evaluations show them."""
        given = self.tuning.sample_queries
        return list(given) or [record.prompt_text for record in self._sample_records]

    @property
    def sample_prompt(self) -> str:
        """The same in one line, as samples.txt names them."""
        return "; ".join(self.queries)

    @property
    def questions(self) -> list[list[Message]]:
        """The same questions as the model gets them: conversations that its answer ends."""
        given = self.tuning.sample_queries
        records = (r for r in self._sample_records if not isinstance(r, LabeledRecord))
        return [*map(ask, given)] or [record.question for record in records]

    @property
    def _sample_records(self) -> list[Record]:
        """Some of the validation set, of different labels if there are labels."""
        dataset = self.dataset
        records = dataset.validation.records or dataset.train.records
        labeled = [record for record in records if isinstance(record, LabeledRecord)]
        if dataset.labels:
            groups = ([r for r in labeled if r.label == label] for label in dataset.labels)
            turns = itertools.zip_longest(*groups)
            records = [record for turn in turns for record in turn if record is not None]
        return records[:MOST_SAMPLES]

    def describe(self) -> dict[str, Any]:
        """The run as JSON data for config.json and run.json: a resumed run must have the same."""
        rows = hashlib.sha256()
        for split in (self.dataset.train, self.dataset.validation, self.dataset.test):
            for example in split.examples:
                for row in example:
                    rows.update(np.ascontiguousarray(row.ids, np.int32).data)
                    rows.update(np.ascontiguousarray(row.mask, np.uint8).data)
            for record in split.records if self.dataset.labels else ():
                rows.update(json.dumps(record.texts).encode())
        return {
            "base": str(real_path(self.base.path)),
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
        if isinstance(self.template, RecordsTemplate):
            asked = [
                r.question for r in self.dataset.train.records if not isinstance(r, LabeledRecord)
            ]
            found = sum(bool(self.template.library.find_for(question)) for question in asked)
            entries = f"{len(self.template.library):,} entries of {', '.join(self.tuning.records)}"
            yield "records", f"{entries}; {found:,} of {len(asked):,} questions find some"
        yield "evaluation", f"every {self.eval_every:,} steps"
        if self.dataset.labels:
            head = "a new one" if self.base_head is None else "continues from the base's"
            yield "head", f"{head}, for {len(self.dataset.labels)} labels"
        elif CLASSIFIER_SECTION in self.base.description:
            yield "head", "the base is a classifier: its head is left out"
