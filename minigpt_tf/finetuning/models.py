"""A base model in training on records: all of its weights, or low-rank updates."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import LoraConfig, ModelConfig, TrainingConfig
from ..inference.weights import Weights, named_variables
from ..model import build_training_model
from ..model.adapted import assign_base, build_adapted_model, low_rank_updates
from ..model.output_head import OutputHead
from ..planning.limits import LOGITS_AT_ONCE
from ..training.job import TrainableModel
from ..training.losses import linear_cross_entropy


class FineTunedModel(TrainableModel):
    """The model that a method trains, with the base's weights in it.

    Args:
        config: the base's configuration.
        base: its weights by name, arrays or datasets.
        training: the seed, the batch size, and whether blocks are computed again.
        dtype: float32 or mixed_bfloat16.
        lora: what is updated (None: all weights are trained).
        quantize: how Keras holds the base's kernels under LoRA, none | int8 | int4.
    """

    most_targets: int
    """Targets that count in a batch, at most. It starts as all of a batch of the longest rows; the
    job, which has seen the records, may set fewer."""

    def __init__(
        self,
        config: ModelConfig,
        base: Mapping[str, np.ndarray],
        training: TrainingConfig,
        dtype: str,
        lora: LoraConfig | None = None,
        quantize: str = "none",
    ) -> None:
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

    @abstractmethod
    def signature(self, rows: int | None) -> Sequence[tf.TensorSpec]:
        """Shapes and types of what `loss` takes, with so many rows (None: any number)."""

    def named_variables(self) -> dict[str, keras.Variable]:
        """What is trained: weights by name, or the factors of the updates, "NAME:a" (inputs, rank)
        and "NAME:b" (rank, outputs)."""
        if self.lora is None:
            return named_variables(self.keras_model)
        updates = low_rank_updates(self.keras_model).items()
        return {f"{name}:{f}": v for name, pair in updates for f, v in zip("ab", pair, strict=True)}

    def weights(self) -> Weights:
        """A float32 copy of what is trained, by the names of `named_variables`."""
        return {name: np.array(v, dtype=np.float32) for name, v in self.named_variables().items()}


class SupervisedModel(FineTunedModel):
    """A model that is trained on the targets of rows, (B, T)."""

    def signature(self, rows: int | None) -> Sequence[tf.TensorSpec]:
        """x, y and weights, (B, T) each, in rows of any length."""
        return [tf.TensorSpec((rows, None), dtype) for dtype in (tf.int32, tf.int32, tf.float32)]

    def loss(
        self, x: tf.Tensor, y: tf.Tensor, weights: tf.Tensor, *, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Weighted sums over the targets. Logits of targets whose weight is 0 are not computed.

        Args:
            x: token ids (B, T).
            y: the token after each, (B, T).
            weights: what each target counts, (B, T).
            training: whether dropout is on.

        Returns:
            Sum of weight times loss in nats, and of weight times hit: two scalars.
        """
        hidden = tf.reshape(self.body(x, training=training), (-1, self.config.embed_dim))
        y, weights = tf.reshape(y, (-1,)), tf.reshape(weights, (-1,))
        counted = tf.where(weights != 0)[:, 0]
        chunks = math.ceil(self.most_targets * self.config.vocab_size / LOGITS_AT_ONCE)
        head = OutputHead.of(self.keras_model)
        sums = []
        for first in range(chunks):
            chosen = counted[first::chunks]
            states, targets, counts = (tf.gather(t, chosen) for t in (hidden, y, weights))
            sums.append(linear_cross_entropy(states, head, targets, weights=counts))
        losses, hits = zip(*sums, strict=True)
        return tf.add_n(losses), tf.add_n(hits)


def target_weights(mask: np.ndarray, accumulate: int) -> np.ndarray:
    """Weights with which a batch's loss is the mean over its targets that count.

    Args:
        mask: 1 for targets that count, (B, T).
        accumulate: steps of a batch, over which the weighted sums are averaged.

    Returns:
        A weight for each target, (B, T), float32.
    """
    return (mask * (accumulate / max(1.0, float(mask.sum())))).astype(np.float32)
