"""A classifier on a pretrained model: a linear head on what the model makes of the last token."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..config import LoraConfig, ModelConfig, TrainingConfig
from ..errors import ModelFolderError
from ..inference.weights import Weights
from .models import FineTunedModel

HEAD_NAME = "classifier.safetensors"
INITIAL_STDDEV = 0.02


class ClassifierModel(FineTunedModel):
    """Texts (B, T), padded at their ends -> a score for each of C labels.

    The head sees the hidden state of the last token that is no padding; attention is causal, so
    padding changes nothing.
    """

    def __init__(
        self,
        config: ModelConfig,
        base: Mapping[str, np.ndarray],
        training: TrainingConfig,
        dtype: str,
        num_labels: int,
        layers: str,
        lora: LoraConfig | None = None,
    ) -> None:
        """`layers`: what is trained beside the head, last (block and norm) | lora | all."""
        super().__init__(config, base, training, dtype, lora if layers == "lora" else None)
        random = np.random.default_rng(training.seed)
        kernel = random.normal(scale=INITIAL_STDDEV, size=(config.embed_dim, num_labels))
        self.kernel = keras.Variable(kernel.astype(np.float32), name="classifier_kernel")
        self.bias = keras.Variable(np.zeros(num_labels, np.float32), name="classifier_bias")
        trained = super().named_variables()
        if layers == "last":
            kept = (f"block_{config.num_layers - 1}/", "final_norm/")
            trained = {name: v for name, v in trained.items() if name.startswith(kept)}
        elif layers == "all":  # the output head is not used
            trained = {name: v for name, v in trained.items() if not name.startswith("logits/")}
        self._trained = trained | {"classifier:kernel": self.kernel, "classifier:bias": self.bias}
        self.variables = list(self._trained.values())

    def named_variables(self) -> dict[str, keras.Variable]:
        """What is trained by name."""
        return self._trained

    def scores(self, x: tf.Tensor, lengths: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Logits (B, C) of texts x (B, T) of the given lengths (B,)."""
        hidden = self.body(x, training=training)  # (B, T, D)
        last = tf.gather(hidden, lengths - 1, batch_dims=1)  # (B, D)
        return tf.matmul(tf.cast(last, tf.float32), self.kernel.value) + self.bias.value

    def loss(
        self, x: tf.Tensor, lengths: tf.Tensor, labels: tf.Tensor, *, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean cross-entropy of the labels (B,), and the share of right guesses."""
        scores = self.scores(x, lengths, training=training)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
        right = tf.argmax(scores, axis=-1, output_type=labels.dtype) == labels
        return tf.reduce_mean(losses), tf.reduce_mean(tf.cast(right, tf.float32))


@dataclass(frozen=True)
class Head:
    """The linear head of a trained classifier."""

    kernel: np.ndarray
    """(D, C)"""
    bias: np.ndarray
    """(C,)"""
    labels: list[str]


def save_head(file: Path, weights: Weights, labels: Sequence[str]) -> None:
    """Writes the head among the trained weights."""
    tensors = {name: weights[f"classifier:{name}"] for name in ("kernel", "bias")}
    save_file(tensors, file, {"labels": json.dumps(list(labels))})


def load_head(file: Path, embed_dim: int) -> Head:
    """Reads a head. Raises ModelFolderError."""
    try:
        with safe_open(file, framework="numpy") as archive:
            kernel, bias = (archive.get_tensor(name) for name in ("kernel", "bias"))
            labels = json.loads((archive.metadata() or {})["labels"])
    except FileNotFoundError:
        raise ModelFolderError(f"{file.parent}: is no classifier: {file.name} is missing") from None
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelFolderError(f"{file}: is damaged or no classifier: {error}") from None
    sound = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not sound or kernel.shape != (embed_dim, len(labels)) or bias.shape != (len(labels),):
        raise ModelFolderError(f"{file}: does not fit the model")
    return Head(np.float32(kernel), np.float32(bias), labels)


def confusion_matrix(truth: np.ndarray, guesses: np.ndarray, num_labels: int) -> np.ndarray:
    """How often label i was taken for label j: (C, C)."""
    counts = np.zeros((num_labels, num_labels), dtype=np.int64)
    np.add.at(counts, (truth, guesses), 1)
    return counts


def f1_scores(confusion: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall of each label, (C,); 0 where it has neither."""
    right = np.diag(confusion).astype(np.float64)
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.divide(2 * right, both, out=np.zeros_like(right), where=both > 0)
