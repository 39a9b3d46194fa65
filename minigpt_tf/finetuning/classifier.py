"""A classifier in training: a pretrained model, and a linear head on its last token."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..classification.classifier import describe, judge
from ..classification.confusion import Confusion, write_picture
from ..classification.head import Head, save_head
from ..config import MODEL_NAME, LoraConfig, ModelConfig, TrainingConfig
from ..console import LONGEST_LABEL, one_line
from ..errors import ConfigError, DataError
from ..inference.weights import Weights, open_weights
from ..metrics import log_softmax
from ..records.batches import collate_texts
from ..records.dataset import RecordSet
from ..records.rendering import render
from ..records.schema import LabelledRecord
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

    The head sees the hidden state of the last token that is no padding; attention is causal, so
    padding changes nothing.
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
        """`layers`: what is trained beside the head, last (block, and norm behind it) | lora | all;
        `head`: what it starts as."""
        super().__init__(config, base, training, dtype, lora)
        self.kernel = keras.Variable(head.kernel, name="classifier_kernel")
        self.bias = keras.Variable(head.bias, name="classifier_bias")
        trained = super().named_variables()
        self.first_trained = ""
        if layers == "last":
            self.first_trained = f"block_{config.num_layers - 1}"
            kept = (f"{self.first_trained}/", "final_norm/")
            trained = {name: v for name, v in trained.items() if name.startswith(kept)}
        elif layers == "all":  # the head of the language model has no part in it
            trained = {name: v for name, v in trained.items() if not name.startswith("logits/")}
        self._trained = trained | {KERNEL: self.kernel, BIAS: self.bias}
        self.variables = list(self._trained.values())

    def named_variables(self) -> dict[str, keras.Variable]:
        """What is trained, by name."""
        return self._trained

    def signature(self, rows: int | None) -> list[tf.TensorSpec]:
        """Shapes and types of what `loss` takes: texts, lengths and labels."""
        return [tf.TensorSpec(shape, tf.int32) for shape in ((rows, None), (rows,), (rows,))]

    def scores(self, x: tf.Tensor, lengths: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Scores (B, C), float32, of texts x (B, T) of `lengths` tokens (B,)."""
        hidden = x
        for layer in self.body.layers[1:]:  # a chain, behind the input
            if layer.name == self.first_trained:  # no gradients are made of what is frozen
                hidden = tf.stop_gradient(hidden)
            hidden = layer(hidden, training=training)  # (B, T, D)
        last = tf.gather(hidden, lengths - 1, batch_dims=1)  # (B, D)
        return tf.matmul(tf.cast(last, tf.float32), self.kernel.value) + self.bias.value

    def loss(
        self, x: tf.Tensor, lengths: tf.Tensor, labels: tf.Tensor, *, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean cross-entropy in nats of the labels (B,), and the share of right guesses."""
        scores = self.scores(x, lengths, training=training)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
        right = tf.argmax(scores, axis=-1, output_type=labels.dtype) == labels
        return tf.reduce_mean(losses), tf.reduce_mean(tf.cast(right, tf.float32))


def first_head(plan: FineTuningPlan) -> Head:
    """The base's head where there is one for these labels, else one that knows nothing.

    All labels are equally likely to that: the loss of the first batch is the logarithm of their
    number, and the first step does not push the model towards what chance has made of a head.
    """
    if plan.base_head is not None:
        return plan.base_head
    labels = plan.dataset.labels
    kernel = np.zeros((plan.model.embed_dim, len(labels)), np.float32)
    return Head(kernel, np.zeros(len(labels), np.float32), labels)


class ClassifierJob(SupervisedJob):
    """A plan of labelled texts as the training loop takes it."""

    loss_per = "text"
    model: ClassifierModel
    found: dict[str, tuple[Confusion, float]]
    """Of each part what the weights that are saved make of it, and their loss."""

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

    def _places(self, part: RecordSet) -> np.ndarray:
        """The labels of a part's texts (N,), as their places among all labels."""
        places = {label: place for place, label in enumerate(self.plan.dataset.labels)}
        return np.array([places[record.label] for record in part.records], dtype=np.int32)

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        return *self.batches.texts(step), self.targets[self.batches.places(step)]

    def scores(self, part: RecordSet) -> np.ndarray:
        """Scores (N, C) of a part's texts."""
        scores = np.zeros((len(part.examples), len(self.plan.dataset.labels)), dtype=np.float32)
        batches = self.plan.batches(part)
        for places, texts in zip(batches.scoring_places(), batches.scoring_texts(), strict=True):
            scores[places] = self._scores(*map(tf.constant, texts))
        return scores

    def judge(self, part: RecordSet) -> tuple[Confusion, float]:
        """Which labels the model takes for which, and its mean loss in nats."""
        return judge(self.plan.dataset.labels, self.scores(part), self._places(part))

    def score(self, part: RecordSet) -> dict[str, float] | None:
        """Mean loss and accuracy over the texts; None where there are none."""
        if not part.examples:
            return None
        confusion, loss = self.judge(part)
        return {"loss": loss, "val_accuracy": confusion.accuracy}

    @contextmanager
    def merging(self, weights: Weights) -> Iterator[Mapping[str, Any]]:
        """All weights of the language model with what was trained of them."""
        if self.lora is not None:
            with super().merging(weights) as merged:
                yield merged
            return
        trained = {name: weights[name] for name in weights.keys() - {KERNEL, BIAS}}
        with open_weights(self.plan.base.path / MODEL_NAME, self.plan.model) as datasets:
            yield {**datasets, **trained}

    def sample(self, weights: Weights) -> str:
        """The fixed texts, and the label that each is given with its probability."""
        self.assign(weights)
        plan = self.plan
        multiple, pad = plan.records.length_multiple, plan.template.pad_id
        texts = collate_texts(self.sample_rows, multiple, pad, plan.model.context_length)
        probabilities = np.exp(log_softmax(np.asarray(self._scores(*map(tf.constant, texts)))))
        labels = [one_line(plan.dataset.labels[i], LONGEST_LABEL) for i in probabilities.argmax(-1)]
        found = zip(plan.queries, labels, probabilities.max(-1), strict=True)
        return "\n".join(f"{text}\n    {label} {p:.1%}" for text, label, p in found)

    def score_test(self) -> dict[str, float]:
        """Judges every part, since config.json tells of all; what it has found of the test part."""
        dataset = self.plan.dataset
        parts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
        self.found = {name: self.judge(part) for name, part in parts.items() if part.examples}
        if "test" not in self.found:
            return {}
        confusion, loss = self.found["test"]
        return {"loss": loss, "accuracy": confusion.accuracy}

    def compare_merged(self, weights: Weights) -> dict[str, Any]:
        """Nothing: it compares predictions of next tokens, of which a classifier makes none."""
        return {}

    @property
    def shown_part(self) -> str:
        """The part of which all figures are kept: the test part, or what there is in its place."""
        return list(self.found)[-1]

    def sections(self, state: RunState, kept: str) -> dict[str, Any]:
        """Those of a language model, and how well the classifier guesses."""
        sections = super().sections(state, kept)
        sections["metrics"]["parts"] = {
            part: {
                "texts": int(confusion.counts.sum()),
                "loss": loss,
                "accuracy": confusion.accuracy,
            }
            for part, (confusion, loss) in self.found.items()
        }
        confusion = self.found[self.shown_part][0]
        sections["metrics"] |= {"part": self.shown_part, **confusion.as_json()}
        context = self.plan.dataset.report.context_length
        return sections | {CLASSIFIER_SECTION: describe(context, self.plan.records)}

    def write_more(self, weights: Weights, folder: Path) -> None:
        super().write_more(weights, folder)
        save_head(folder, weights[KERNEL], weights[BIAS], self.plan.dataset.labels)
        confusion = self.found[self.shown_part][0]
        title = f"{self.shown_part} part: {confusion.accuracy:.2%} right"
        write_picture(folder / CONFUSION_NAME, confusion, title)


def _sample_row(text: str, plan: FineTuningPlan) -> Row:
    """A text as the records are encoded. Raises ConfigError where it cannot be."""
    context = plan.dataset.report.context_length
    try:
        return render(LabelledRecord(0, text, ""), plan.template, context, plan.records)[0]
    except DataError as error:
        raise ConfigError(f"sample_queries={text!r:.40}: {error}") from None
