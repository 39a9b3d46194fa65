"""Direct preference optimization: answers that people preferred become more likely than the others.

Rafailov et al., 2023, "Direct Preference Optimization". With LoRA the base is what the model is
before its first step: its log-probabilities are computed once, and there is no second model.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from ..model.output_head import OutputHead
from ..records.dataset import RecordSet
from .models import FineTunedModel
from .plan import FineTuningPlan
from .supervised import SupervisedJob


class PreferenceModel(FineTunedModel):
    """A model that is trained on pairs of answers, B pairs of rows of T tokens at a time."""

    beta: float
    """How strongly it is held to its base."""

    def signature(self, rows: int | None) -> Sequence[tf.TensorSpec]:
        """x, y and mask, (B, 2, T) each, and the reference (B, 2)."""
        types = (tf.int32, tf.int32, tf.float32)
        batch = [tf.TensorSpec((rows, 2, None), dtype) for dtype in types]
        return [*batch, tf.TensorSpec((rows, 2), tf.float32)]

    def log_probabilities(
        self, x: tf.Tensor, y: tf.Tensor, mask: tf.Tensor, *, training: bool
    ) -> tf.Tensor:
        """Log-probabilities of answers. Logits are computed for the targets that count alone.

        Args:
            x: token ids of the chosen and the rejected rows, (B, 2, T).
            y: the token after each, (B, 2, T).
            mask: which targets count, (B, 2, T).
            training: whether dropout is on.

        Returns:
            The sum over each answer's targets, (B, 2), in nats.
        """
        rows, length = tf.shape(x)[0] * 2, tf.shape(x)[2]
        hidden = self.body(tf.reshape(x, (rows, length)), training=training)  # (2 B, T, D)
        places = tf.where(tf.reshape(mask, (rows, length)) != 0)  # (N, 2)
        targets = tf.gather_nd(tf.reshape(y, (rows, length)), places)
        logits = OutputHead.of(self.keras_model).logits(tf.gather_nd(hidden, places))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)  # (N,)
        sums = tf.math.unsorted_segment_sum(-losses, places[:, 0], rows)
        return tf.reshape(sums, (-1, 2))

    def loss(
        self, x: tf.Tensor, y: tf.Tensor, mask: tf.Tensor, reference: tf.Tensor, *, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss of DPO (equation 7 of the paper).

        Args:
            x, y, mask, training: as in `log_probabilities`.
            reference: the base's log-probabilities of the answers, (B, 2).

        Returns:
            Mean of -log sigmoid(margin) over the pairs, where a margin is the chosen answer's
            reward less the rejected one's, and the fraction of margins above 0: two scalars.
        """
        found = self.log_probabilities(x, y, mask, training=training)
        rewards = self.beta * (found - reference)
        margins = rewards[:, 0] - rewards[:, 1]
        loss = tf.reduce_mean(tf.nn.softplus(-margins))
        return loss, tf.reduce_mean(tf.cast(margins > 0, tf.float32))


class PreferenceJob(SupervisedJob):
    """A plan of preference pairs as the training loop takes it. Arguments as in SupervisedJob."""

    model: PreferenceModel
    model_type = PreferenceModel
    loss_per = "pair"

    def __init__(self, plan: FineTuningPlan, out: Path, dtype: str) -> None:
        super().__init__(plan, out, dtype)
        self.model.beta = plan.tuning.beta
        self._log_probabilities = tf.function(
            lambda *batch: self.model.log_probabilities(*batch, training=False),
            autograph=False,
            input_signature=self.model.signature(None)[:3],
        )
        self.splits = (plan.dataset.train, plan.dataset.validation, plan.dataset.test)
        self.references = [self._reference(split) for split in self.splits]  # of the base itself

    def _reference(self, split: RecordSet) -> np.ndarray:
        """The base's log-probabilities (examples, 2) of a split's answers."""
        found = np.zeros((len(split.examples), 2), dtype=np.float32)
        if split.examples:
            batches = self.plan.batches(split)
            for places, batch in zip(
                batches.scoring_places(), batches.scoring_batches(), strict=True
            ):
                found[places] = self._log_probabilities(*map(tf.constant, pairs(batch)))
        return found

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        reference = self.references[0][self.batches.places(step)]
        return *pairs(self.batches.batch(step)), reference

    def score(self, split: RecordSet) -> dict[str, float] | None:
        """As in SupervisedJob: means over the pairs of the loss and of trl's DPO metrics."""
        if not split.examples:
            return None
        batches, found = self.plan.batches(split), []
        reference = next(r for r, s in zip(self.references, self.splits, strict=True) if s is split)
        for places, batch in zip(batches.scoring_places(), batches.scoring_batches(), strict=True):
            log_probabilities = self._log_probabilities(*map(tf.constant, pairs(batch))).numpy()
            found.append(np.stack([log_probabilities, reference[places]]))
        policy, base = np.concatenate(found, axis=1)  # (pairs, 2) each
        rewards = self.plan.tuning.beta * (policy - base)
        margins = rewards[:, 0] - rewards[:, 1]
        return {
            "loss": float(np.logaddexp(0, -margins).mean()),
            "rewards/chosen": float(rewards[:, 0].mean()),
            "rewards/rejected": float(rewards[:, 1].mean()),
            "rewards/accuracies": float((margins > 0).mean()),
            "rewards/margins": float(margins.mean()),
            "logps/chosen": float(policy[:, 0].mean()),
            "logps/rejected": float(policy[:, 1].mean()),
        }


def pairs(batch: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Arrays (2 B, T), first all chosen answers, as (B, 2, T)."""
    return tuple(
        np.ascontiguousarray(array.reshape(2, -1, array.shape[-1]).swapaxes(0, 1))
        for array in batch
    )
