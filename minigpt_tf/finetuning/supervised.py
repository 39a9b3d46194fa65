"""Supervised fine-tuning: the answers of records, by all weights or by low-rank updates."""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from ..config import ModelConfig, SamplingConfig
from ..config.presets import fine_tuning_preset
from ..errors import ModelFolderError
from ..evaluation.difference import MOST_COMPARED, merge_difference
from ..evaluation.questions.answers import answer_all
from ..inference.adapter import Adapter, save_adapter
from ..inference.engine import Engine
from ..inference.weights import Weights, check_finite
from ..planning.fitting import out_of_memory
from ..records.dataset import RecordSet
from ..storage.model_folder import ADAPTER_NAME
from ..training.checkpoint import RunState
from ..training.history import write_history
from ..training.optimizers import build_optimizer
from .job import FineTuningJob
from .models import FineTunedModel, SupervisedModel, target_weights
from .plan import FineTuningPlan
from .saving import save_fine_tuned


class SupervisedJob(FineTuningJob):
    """A plan as the training loop takes it.

    Args:
        plan: what is trained, on which records.
        out: the folder to write.
        dtype: float32 or mixed_bfloat16.
    """

    model: FineTunedModel
    model_type: ClassVar[type[FineTunedModel]] = SupervisedModel

    def __init__(self, plan: FineTuningPlan, out: Path, dtype: str) -> None:
        self.plan, self.out, self.dtype, self.training = plan, out, dtype, plan.training
        self.total_steps, self.eval_every = plan.total_steps, plan.eval_every
        self.lora = plan.adapter_config
        with plan.base.open_weights() as datasets:
            self.model = self.make_model(datasets)
        self.optimizer = build_optimizer(plan.training, plan.total_steps)
        self.optimizer.build(self.model.variables)
        self.batches = plan.batches(plan.dataset.train)
        tuning = plan.tuning
        self.usual_rate = fine_tuning_preset(tuning.method, tuning.classify_layers).learning_rate
        self.signature = self.model.signature(plan.training.batch_size)
        self.model.most_targets = plan.most_targets
        lengths = [len(row.ids) for example in plan.dataset.train.examples for row in example]
        self.batch_tokens = plan.training.batch_size * float(np.mean(lengths))
        self._score = tf.function(
            lambda *batch: self.model.loss(*batch, training=False),
            autograph=False,
            input_signature=self.model.signature(None),
        )

    def make_model(self, base: Mapping[str, np.ndarray]) -> FineTunedModel:
        """The model with the base's weights in it: arrays or datasets by name."""
        plan, quantize = self.plan, self.plan.method.quantize
        return self.model_type(plan.model, base, plan.training, self.dtype, self.lora, quantize)

    def epoch_of(self, step: int) -> float:
        return self.plan.epoch_of(step)

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        x, y, mask = self.batches.batch(step)
        return x, y, target_weights(mask, self.training.accumulate)

    def weights(self) -> Weights:
        return self.model.weights()

    def check_weights(self, weights: Weights, where: str) -> None:
        shapes = {name: tuple(v.shape) for name, v in self.named_variables().items()}
        if {name: weight.shape for name, weight in weights.items()} != shapes:
            raise ModelFolderError(f"{where}: its weights are not those that this run trains")
        for name, weight in weights.items():
            check_finite(weight, name, where)

    def named_variables(self) -> dict[str, keras.Variable]:
        return self.model.named_variables()

    def validate(self) -> dict[str, float] | None:
        return self.score(self.plan.dataset.validation)

    def score(self, split: RecordSet) -> dict[str, float] | None:
        """Means over all targets of a split that count, "loss" in nats and "val_accuracy"; None if
        it is empty."""
        if not split.examples:
            return None
        loss = hits = count = 0.0
        for x, y, mask in self.plan.batches(split).scoring_batches():
            found = self._score(*map(tf.constant, (x, y, mask)))
            loss, hits = loss + float(found[0]), hits + float(found[1])
            count += float(mask.sum())
        return {"loss": loss / count, "val_accuracy": hits / count}

    def adapter(self, weights: Weights) -> Adapter:
        """The low-rank updates among the trained weights, as a file of an adapter has them."""
        factors = {
            name.removesuffix(":a"): (values, weights[f"{name[:-1]}b"])
            for name, values in weights.items()
            if name.endswith(":a")
        }
        lora = self.plan.lora
        return Adapter(factors, lora.rank, lora.alpha, self.plan.base_fingerprint)

    @contextmanager
    def merging(self, weights: Weights) -> Iterator[Mapping[str, Any]]:
        """All weights by name, with what was trained. The base is not copied: its weights are read
        as they are asked for."""
        if self.lora is None:
            yield weights
            return
        with self.plan.base.open_weights() as datasets:
            yield self.adapter(weights).over(datasets)

    def sample(self, weights: Weights) -> str:
        """The fixed questions and their answers, as text."""
        plan = self.plan
        longest = max(len(plan.template.prompt_ids(messages)) for messages in plan.questions)
        needed = 2 * (longest + self.training.sample_tokens)  # prompts may have half of a context
        with self.merging(weights) as merged:
            engine = Engine(self._with_context(needed), merged)
        sampling = SamplingConfig(greedy=True, max_new_tokens=self.training.sample_tokens)
        answers = answer_all(engine, plan.template, plan.base.start_ids, plan.questions, sampling)
        return "\n".join(f"{q}\n    {a}" for q, a in zip(plan.queries, answers, strict=True))

    def _with_context(self, needed: int) -> ModelConfig:
        """The model with a context of `needed` tokens at most: an engine takes memory for the keys
        and values of all of it. Learned positions belong to the weights, and stay."""
        model = self.plan.model
        if model.positions == "learned":
            return model
        return replace(model, context_length=min(needed, model.context_length))

    def compare_merged(self, weights: Weights) -> dict[str, Any]:
        """The figures of `merge_difference`; empty if the weights themselves were trained."""
        if self.lora is None:
            return {}
        plan = self.plan
        examples = plan.dataset.validation.examples or plan.dataset.train.examples
        rows = [example[0] for example in examples[:MOST_COMPARED]]
        with self.merging(weights) as merged:
            engine = Engine(self._with_context(max(len(row.ids) for row in rows)), merged)
        return merge_difference(lambda ids: np.asarray(self.model.keras_model(ids)), engine, rows)

    def write_history(self, folder: Path, state: RunState) -> None:
        write_history(folder, state.history, self.plan.sample_prompt)
        if self.lora is not None:
            save_adapter(folder / ADAPTER_NAME, self.adapter(self.weights()))

    def save(self, weights: Weights, state: RunState, kept: str) -> None:
        """Judges what is kept, and writes the model folder with the merged model and, if one was
        trained, the adapter."""
        self.assign(weights)
        self.test_score = self.score_test()
        self.merge_difference = self.compare_merged(weights)
        sections, more = self._sections(state, kept), functools.partial(self._write_more, weights)
        with self.merging(weights) as merged:
            save_fine_tuned(self.out, self.plan, merged, state, sections, more, self.record_section)

    def score_test(self) -> dict[str, float]:
        """Loss and accuracy on the test set; empty without one."""
        found = self.score(self.plan.dataset.test) or {}
        return {name.removeprefix("val_"): value for name, value in found.items()}

    def assign(self, weights: Weights) -> None:
        """Puts weights, what is trained by name, into the model."""
        for name, variable in self.named_variables().items():
            variable.assign(weights[name])

    def _sections(self, state: RunState, kept: str) -> dict[str, Any]:
        """The sections of config.json on a run whose "last" or "best" weights are kept."""
        finetuning = {**self.plan.describe(), "dtype": self.dtype}
        found = {"test": self.test_score, "merge": self.merge_difference}
        metrics = _metrics(state, kept) | found
        return {"finetuning": finetuning, "metrics": metrics}

    def _write_more(self, weights: Weights, folder: Path) -> None:
        """Writes into a folder what it has beside the files of any model."""
        if self.lora is not None:
            save_adapter(folder / ADAPTER_NAME, self.adapter(weights))

    def out_of_memory(self) -> str:
        return out_of_memory(self.plan.workload, self.plan.lighter)


def _metrics(state: RunState, kept: str) -> dict[str, Any]:
    """How the run ended, for config.json."""
    metrics: dict[str, Any] = {"steps": state.step, "seconds": round(state.seconds, 1)}
    if state.before:
        metrics["before"] = state.before
    judged = [e for e in state.history if e.best or kept == "last"]
    if judged:
        last = judged[-1]
        metrics |= {"loss": last.loss, "val_loss": last.val_loss, **last.metrics}
    return metrics | {"kept": kept}
