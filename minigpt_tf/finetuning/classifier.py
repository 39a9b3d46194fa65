"""A classifier in training: a pretrained model, and a linear head on its last token."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..classification.classifier import describe, judge
from ..classification.confusion import Confusion, write_picture
from ..classification.head import Head, save_head
from ..config import LoraConfig, ModelConfig, TrainingConfig
from ..console import LONGEST_LABEL, one_line
from ..errors import ConfigError, DataError
from ..inference.weights import Weights
from ..metrics import log_softmax
from ..records.batches import collate_texts
from ..records.dataset import RecordSet
from ..records.rendering import render
from ..records.schema import LabeledRecord
from ..records.truncation import Row
from ..storage.model_folder import CLASSIFIER_SECTION, CONFUSION_NAME
from ..training.checkpoint import RunState
from .models import FineTunedModel
from .plan import FineTuningPlan
from .supervised import SupervisedJob

KERNEL, BIAS = "classifier:kernel", "classifier:bias"
"""The head's weights among those that are trained."""


class ClassifierModel(FineTunedModel):
    """Texts (B, T), padded at their ends -> a score for each of C labels, (B, C).

    The head sees the hidden state of the last token before the padding; attention is causal, so
    padding changes nothing.

    Args:
        config, base, training, dtype, lora: as in FineTunedModel.
        layers: what is trained beside the head: last (the last block and the norm after it), lora,
            or all.
        head: what the head starts as.
    """

    def __init__(
        self,
        config: ModelConfig,
        base: Mapping[str, np.ndarray],
        training: TrainingConfig,
        dtype: str,
        lora: LoraConfig | None,
        layers: str,
        head: Head,
    ) -> None:
        super().__init__(config, base, training, dtype, lora)
        self.kernel = keras.Variable(head.kernel, name="classifier_kernel")
        self.bias = keras.Variable(head.bias, name="classifier_bias")
        trained = super().named_variables()
        self.first_trained = ""
        if layers == "last":
            self.first_trained = f"block_{config.num_layers - 1}"
            kept = (f"{self.first_trained}/", "final_norm/")
            trained = {name: v for name, v in trained.items() if name.startswith(kept)}
        elif layers == "all":  # but not the head of the language model
            trained = {name: v for name, v in trained.items() if not name.startswith("logits/")}
        self._trained = trained | {KERNEL: self.kernel, BIAS: self.bias}
        self.variables = list(self._trained.values())

    def named_variables(self) -> dict[str, keras.Variable]:
        """What is trained, by name: the head, and what `layers` names."""
        return self._trained

    def signature(self, rows: int | None) -> Sequence[tf.TensorSpec]:
        """Texts (B, T), their lengths (B,) and labels (B,)."""
        return [tf.TensorSpec(shape, tf.int32) for shape in ((rows, None), (rows,), (rows,))]

    def scores(self, x: tf.Tensor, lengths: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Scores of texts.

        Args:
            x: token ids (B, T).
            lengths: tokens of each text before its padding, (B,).
            training: whether dropout is on.

        Returns:
            A score for each label, (B, C), float32.
        """
        hidden = x
        for layer in self.body.layers[1:]:  # a chain, after the input
            if layer.name == self.first_trained:  # no gradients are computed before it
                hidden = tf.stop_gradient(hidden)
            hidden = layer(hidden, training=training)  # (B, T, D)
        last = tf.gather(hidden, lengths - 1, batch_dims=1)  # (B, D)
        return tf.matmul(tf.cast(last, tf.float32), self.kernel.value) + self.bias.value

    def loss(
        self, x: tf.Tensor, lengths: tf.Tensor, labels: tf.Tensor, *, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Cross-entropy of the labels.

        Args:
            x, lengths, training: as in `scores`.
            labels: the places of the right labels (B,).

        Returns:
            Mean in nats, and the fraction of right guesses: two scalars.
        """
        scores = self.scores(x, lengths, training=training)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
        right = tf.argmax(scores, axis=-1, output_type=labels.dtype) == labels
        return tf.reduce_mean(losses), tf.reduce_mean(tf.cast(right, tf.float32))


def first_head(plan: FineTuningPlan) -> Head:
    """The head of the plan's base, if it has one for the labels, else a new one, which is zero.

    All labels are equally likely to that: the loss of the first batch is the logarithm of their
    number, and the first step does not push the model towards what chance has made of a head.
    """
    if plan.base_head is not None:
        return plan.base_head
    labels = plan.dataset.labels
    kernel = np.zeros((plan.model.embed_dim, len(labels)), np.float32)
    return Head(kernel, np.zeros(len(labels), np.float32), labels)


class ClassifierJob(SupervisedJob):
    """A plan of labeled texts as the training loop takes it. Arguments as in SupervisedJob."""

    loss_per = "text"
    model: ClassifierModel
    found: dict[str, tuple[Confusion, float]]
    """By split: what the weights that are saved make of its texts, and their loss in nats."""

    def __init__(self, plan: FineTuningPlan, out: Path, dtype: str) -> None:
        self.sample_rows = [_sample_row(text, plan) for text in plan.queries]
        super().__init__(plan, out, dtype)
        self.targets = self._places(plan.dataset.train)
        self._scores = tf.function(
            lambda *batch: self.model.scores(*batch, training=False),
            autograph=False,
            input_signature=self.model.signature(None)[:2],
        )

    def make_model(self, base: Mapping[str, np.ndarray]) -> ClassifierModel:
        plan, layers = self.plan, self.plan.tuning.classify_layers
        head = first_head(plan)
        return ClassifierModel(plan.model, base, plan.training, self.dtype, self.lora, layers, head)

    def _places(self, split: RecordSet) -> np.ndarray:
        """The labels of a split's texts (N,), as their places among all labels."""
        places = {label: place for place, label in enumerate(self.plan.dataset.labels)}
        texts = [record for record in split.records if isinstance(record, LabeledRecord)]
        return np.array([places[text.label] for text in texts], dtype=np.int32)

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        return *self.batches.texts(step), self.targets[self.batches.places(step)]

    def scores(self, split: RecordSet) -> np.ndarray:
        """A score for each label of a split's N texts, (N, C), float32."""
        scores = np.zeros((len(split.examples), len(self.plan.dataset.labels)), dtype=np.float32)
        batches = self.plan.batches(split)
        for places, texts in zip(batches.scoring_places(), batches.scoring_texts(), strict=True):
            scores[places] = self._scores(*map(tf.constant, texts))
        return scores

    def judge(self, split: RecordSet) -> tuple[Confusion, float]:
        """Which labels the model takes for which on a split, and its mean loss in nats."""
        return judge(self.plan.dataset.labels, self.scores(split), self._places(split))

    def score(self, split: RecordSet) -> dict[str, float] | None:
        """As in SupervisedJob: means over the texts."""
        if not split.examples:
            return None
        confusion, loss = self.judge(split)
        return {"loss": loss, "val_accuracy": confusion.accuracy}

    @contextmanager
    def merging(self, weights: Weights) -> Iterator[Mapping[str, Any]]:
        """As in SupervisedJob: all weights of the language model."""
        if self.lora is not None:
            with super().merging(weights) as merged:
                yield merged
            return
        trained = {name: weights[name] for name in weights.keys() - {KERNEL, BIAS}}
        with self.plan.base.open_weights() as datasets:
            yield {**datasets, **trained}

    def sample(self, weights: Weights) -> str:
        """The fixed texts, and for each its label with its probability, as text."""
        self.assign(weights)
        plan = self.plan
        multiple, pad = plan.records.length_multiple, plan.template.pad_id
        texts = collate_texts(self.sample_rows, multiple, pad, plan.model.context_length)
        probabilities = np.exp(log_softmax(np.asarray(self._scores(*map(tf.constant, texts)))))
        labels = [one_line(plan.dataset.labels[i], LONGEST_LABEL) for i in probabilities.argmax(-1)]
        found = zip(plan.queries, labels, probabilities.max(-1), strict=True)
        return "\n".join(f"{text}\n    {label} {p:.1%}" for text, label, p in found)

    def score_test(self) -> dict[str, float]:
        """As in SupervisedJob. Judges every split, since config.json has all of them."""
        dataset = self.plan.dataset
        splits = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
        self.found = {name: self.judge(split) for name, split in splits.items() if split.examples}
        if "test" not in self.found:
            return {}
        confusion, loss = self.found["test"]
        return {"loss": loss, "accuracy": confusion.accuracy}

    def compare_merged(self, weights: Weights) -> dict[str, Any]:
        """Nothing: it compares predictions of next tokens, of which a classifier makes none."""
        return {}

    @property
    def shown_split(self) -> str:
        """The split of which all figures are saved: test; if absent, validation or training."""
        return list(self.found)[-1]

    def _sections(self, state: RunState, kept: str) -> dict[str, Any]:
        """As in SupervisedJob, with more metrics, and the section "classifier"."""
        sections = super()._sections(state, kept)
        sections["metrics"]["parts"] = {
            split: {"texts": int(table.counts.sum()), "loss": loss, "accuracy": table.accuracy}
            for split, (table, loss) in self.found.items()
        }
        confusion = self.found[self.shown_split][0]
        sections["metrics"] |= {"part": self.shown_split, **confusion.as_json()}
        context = self.plan.dataset.report.context_length
        return sections | {CLASSIFIER_SECTION: describe(context, self.plan.records)}

    def _write_more(self, weights: Weights, folder: Path) -> None:
        super()._write_more(weights, folder)
        save_head(folder, weights[KERNEL], weights[BIAS], self.plan.dataset.labels)
        confusion = self.found[self.shown_split][0]
        title = f"{self.shown_split} set: {confusion.accuracy:.2%} right"
        write_picture(folder / CONFUSION_NAME, confusion, title)


def _sample_row(text: str, plan: FineTuningPlan) -> Row:
    """A text as the records are encoded. Raises ConfigError if it cannot be."""
    context = plan.dataset.report.context_length
    try:
        return render(LabeledRecord(0, text, ""), plan.template, context, plan.records)[0]
    except DataError as error:
        raise ConfigError(f"sample_queries={text!r:.40}: {error}") from None
