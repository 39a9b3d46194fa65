"""A base model in training on records: all of its weights, or changes of low rank."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import LoraConfig, ModelConfig, TrainingConfig
from ..inference.weights import Weights, named_variables
from ..model import build_training_model
from ..model.adapted import assign_base, build_adapted_model, low_rank_changes
from ..model.output_head import OutputHead
from ..training.job import TrainableModel
from ..training.losses import linear_cross_entropy
from ..training.memory import MOST_LOGITS

PIECES = 4
"""The head's logits are made for at most so many times MOST_LOGITS at once: most targets of a
batch of records do not count, and those are left out before."""


class FineTunedModel(TrainableModel):
    """The model that a method trains, with the base's weights in it."""

    most_targets: int
    """That count in a batch, at most: the job, which knows the records, may know that it is less
    than all of a batch of the longest rows."""

    def __init__(
        self,
        config: ModelConfig,
        base: Mapping[str, np.ndarray],
        training: TrainingConfig,
        dtype: str,
        lora: LoraConfig | None = None,
        quantize: str = "none",
    ) -> None:
        """`base`: the weights by name, arrays or datasets; without `lora` all of them are trained.

        `quantize`: how Keras keeps the base's kernels under the changes, none | int8 | int4.
        """
        self.config, self.lora = config, lora
        self.most_targets = training.batch_size * config.context_length
        settings: dict[str, Any] = {"seed": training.seed, "dtype": dtype, "remat": training.remat}
        if lora is None:
            self.keras_model, self.body = build_training_model(config, **settings)
        else:
            self.keras_model, self.body = build_adapted_model(
                config, lora, quantize=quantize, **settings
            )
        assign_base(self.keras_model, base)
        self.variables = self.keras_model.trainable_variables

    def signature(self, rows: int | None) -> list[tf.TensorSpec]:
        """Shapes and types of what `loss` takes: x, y and weights, in rows of any length."""
        return [tf.TensorSpec((rows, None), dtype) for dtype in (tf.int32, tf.int32, tf.float32)]

    def loss(
        self, x: tf.Tensor, y: tf.Tensor, weights: tf.Tensor, *, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum over the targets y (B, T) of weight times loss in nats, and of weight times hit.

        Targets whose weight is 0 cost nothing: their logits are not computed.
        """
        hidden = tf.reshape(self.body(x, training=training), (-1, self.config.embed_dim))
        y, weights = tf.reshape(y, (-1,)), tf.reshape(weights, (-1,))
        counted = tf.where(weights != 0)[:, 0]
        pieces = math.ceil(self.most_targets * self.config.vocab_size / (PIECES * MOST_LOGITS))
        head = OutputHead.of(self.keras_model)
        sums = []
        for first in range(pieces):
            chosen = counted[first::pieces]
            sums.append(
                linear_cross_entropy(
                    tf.gather(hidden, chosen),
                    head,
                    tf.gather(y, chosen),
                    weights=tf.gather(weights, chosen),
                )
            )
        losses, hits = zip(*sums, strict=True)
        return tf.add_n(losses), tf.add_n(hits)

    def named_variables(self) -> dict[str, keras.Variable]:
        """What is trained by name: weights, or the factors "NAME:a" and "NAME:b" of the changes."""
        if self.lora is None:
            return named_variables(self.keras_model)
        changes = low_rank_changes(self.keras_model).items()
        return {f"{name}:{f}": v for name, pair in changes for f, v in zip("ab", pair, strict=True)}

    def weights(self) -> Weights:
        """A float32 copy of what is trained."""
        return {name: np.array(v, dtype=np.float32) for name, v in self.named_variables().items()}


def target_weights(mask: np.ndarray, parts: int) -> np.ndarray:
    """Weights (B, T) with which the mean over `parts` of the sums is the mean over all targets that
    count."""
    return (mask * (parts / max(1.0, float(mask.sum())))).astype(np.float32)
