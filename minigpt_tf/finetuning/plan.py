"""What a fine-tuning run will do, settled and checked before TensorFlow is imported."""

import functools
import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..classification.head import Head, load_head
from ..config import FineTuningConfig, LoraConfig, ModelConfig, RecordsConfig, TrainingConfig
from ..config.settings import to_dict
from ..errors import ConfigError, DataError
from ..events import SILENT, Listener
from ..inference.adapter import fingerprint
from ..inference.folder import ModelFolder
from ..records.batches import RecordBatches
from ..records.dataset import Dataset, RecordSet, prepare
from ..records.prompts import Template
from ..records.schema import KINDS, Record, ask
from ..storage.model_folder import CLASSIFIER_SECTION
from ..text.chat_template import Message
from .bases import load_base
from .memory import Run, check_run_fits, kernel_sides

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
        """The changes of low rank that are trained; None where the weights themselves are."""
        return self.lora if self.tuning.low_rank else None

    def batches(self, part: RecordSet) -> RecordBatches:
        """A part of the records in batches, in the order that the seed gives them."""
        return part.batches(
            self.template,
            self.model.context_length,
            self.records,
            self.training.batch_size,
            self.training.seed,
        )

    @property
    def run(self) -> Run:
        """What decides how much memory it takes."""
        parts = (self.dataset.train, self.dataset.validation, self.dataset.test)
        rows = [row for part in parts for example in part.examples for row in example]
        multiple, longest = self.records.length_multiple, max(len(row.ids) - 1 for row in rows)
        return Run(
            model=self.model,
            tuning=self.tuning,
            lora=self.lora,
            training=self.training,
            length=min(math.ceil(longest / multiple) * multiple, self.model.context_length),
            targets=max(int(row.mask.sum()) for row in rows),
        )

    @property
    def total_steps(self) -> int:
        return self.training.steps or self.training.epochs * self.steps_per_epoch

    @functools.cached_property
    def steps_per_epoch(self) -> int:
        """Batches of one pass over the training part."""
        return self.batches(self.dataset.train).steps_per_epoch

    @property
    def eval_every(self) -> int:
        """Steps between evaluations: an epoch, unless told otherwise."""
        return self.training.eval_every or self.steps_per_epoch

    @property
    def most_targets(self) -> int:
        """Targets that count in a batch of any part, at most."""
        return self.training.batch_size * self.run.targets

    def epoch_of(self, step: int) -> float:
        """How often the records have been seen after so many steps."""
        return step / self.steps_per_epoch

    @property
    def queries(self) -> list[str]:
        """The questions that are answered at every evaluation, as they are shown: those given, or
        those of three records."""
        given = self.tuning.sample_queries
        return list(given) or [record.prompt_text for record in self._sample_records]

    @property
    def questions(self) -> list[list[Message]]:
        """The same as the model is asked them, which is how its records ask: conversations that an
        answer ends."""
        given = self.tuning.sample_queries
        return [*map(ask, given)] or [record.question for record in self._sample_records]

    @property
    def _sample_records(self) -> list[Record]:
        """Three of the validation part, of different labels where there are some."""
        part = self.dataset.validation if self.dataset.validation.records else self.dataset.train
        records = part.records
        if self.dataset.labels:
            groups = ([r for r in records if r.label == label] for label in self.dataset.labels)
            records = [r for turn in itertools.zip_longest(*groups) for r in turn if r is not None]
        return records[:3]

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


def make_finetuning_plan(
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
    lora = lora or LoraConfig()
    folder = load_base(base)
    if training.optimizer == "muon" and tuning.method != "full":
        raise ConfigError("--optimizer muon is for whole matrices: choose adam or adamw")
    context = min(folder.model.context_length, tuning.max_length or folder.model.context_length)
    if tuning.low_rank:
        _check_changes(folder.model, lora)
    template = Template.of(folder)
    if tuning.method != "classify":  # which reads texts as they stand
        _check_context(template, context, tuning)
    dataset = prepare(
        source,
        template,
        context,
        records,
        seed=training.seed,
        kinds=[kind for kind in KINDS if kind in RECORD_KINDS[tuning.method]],
        listener=listener or SILENT,
    )
    plan = FineTuningPlan(
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
    check_run_fits(plan.run)
    if tuning.method != "classify":
        _check_sample_queries(template, tuning)
    if (training.warmup_steps or 0) >= plan.total_steps > 1:
        raise ConfigError(
            f"warmup_steps={training.warmup_steps}: must be fewer than the {plan.total_steps} steps"
        )
    return plan


def _check_changes(model: ModelConfig, lora: LoraConfig) -> None:
    """Raises ConfigError where a base has no layer of a target's name, or a smaller one."""
    sides = kernel_sides(model)
    for name in lora.targets:
        if name not in sides:
            raise ConfigError(f"targets={name}: the base has no such layer, but {', '.join(sides)}")
        if lora.rank > min(sides[name]):
            raise ConfigError(
                f"rank={lora.rank}: {name} has {sides[name][0]} inputs and {sides[name][1]} "
                f"outputs: choose at most {min(sides[name])}"
            )


def _check_context(template: Template, context: int, tuning: FineTuningConfig) -> None:
    """Raises ConfigError where there is no room for what the template writes around a question."""
    try:
        needed = len(template.render_prompt("?")) + 1
    except DataError:  # it has its own idea of a conversation, which the records may meet
        return
    if needed > context:
        longer = "choose a base with a longer context"
        if tuning.max_length == context:
            longer = "give a greater --max-length"
        raise ConfigError(
            f"{template.name}: takes {needed} tokens without the question, and the context has "
            f"{context}: {longer}"
        )


def _check_sample_queries(template: Template, tuning: FineTuningConfig) -> None:
    """Raises ConfigError where the chat template refuses a question: the first evaluation would."""
    for query in tuning.sample_queries:
        try:
            template.render_prompt(query)
        except DataError as error:
            raise ConfigError(f"sample_queries={query!r:.40}: {error}") from None


def _base_head(folder: ModelFolder, tuning: FineTuningConfig, labels: list[str]) -> Head | None:
    """The head of a base that is a classifier of these labels already. Raises ModelFolderError."""
    if tuning.method != "classify" or CLASSIFIER_SECTION not in folder.description:
        return None
    head = load_head(folder.path, folder.model.embed_dim)
    return head if head.labels == labels else None
