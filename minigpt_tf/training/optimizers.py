"""Optimizers, the learning rate schedule and gradient clipping, from a TrainingConfig."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf
from keras import ops

from ..config import TrainingConfig
from ..model.keras_internals import MuonHooks, WholeStep, adam_averages
from ..model.tensorflow_internals import apply_adam

LONGEST_WARMUP = 100
"""Most steps of the default warm-up, which is a tenth of the run."""

FINAL_FRACTION = 0.1
"""The cosine schedule ends at this fraction of the highest learning rate."""

NO_WEIGHT_DECAY = ["bias", "beta", "gamma", "scale", "embeddings"]
"""Names of the variables that weight decay spares: norms, biases, embeddings."""


@keras.saving.register_keras_serializable("minigpt_tf")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """The schedule, a pure function of the step: a linear warm-up, then one of three shapes.

    Args:
        learning_rate: The highest, which the warm-up ends at.
        warmup_steps: Steps of the warm-up.
        total_steps: Steps of the run, at whose end the decay ends.
        schedule: "constant"; "cosine", down to a tenth; "linear", down to 0.

    Example:
        >>> from minigpt_tf.training.optimizers import LearningRate
        >>> float(LearningRate(1.0, 3, 10, "linear")(0))
        0.25
    """

    def __init__(
        self, learning_rate: float, warmup_steps: int, total_steps: int, schedule: str
    ) -> None:
        self.learning_rate, self.schedule = learning_rate, schedule
        self.warmup_steps, self.total_steps = warmup_steps, total_steps

    def __call__(self, step):
        """The learning rate of a step.

        Args:
            step: Counted from 0.

        Returns:
            A float32 scalar.
        """
        step = ops.cast(step, "float32")
        rise = ops.minimum(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "constant":
            return self.learning_rate * rise
        decay_steps = max(1, self.total_steps - self.warmup_steps)
        progress = ops.clip((step - self.warmup_steps) / decay_steps, 0.0, 1.0)
        if self.schedule == "linear":
            return self.learning_rate * rise * (1 - progress)
        cosine = 0.5 * (1 + ops.cos(math.pi * progress))
        return self.learning_rate * rise * (FINAL_FRACTION + (1 - FINAL_FRACTION) * cosine)

    def get_config(self) -> dict:
        names = ("learning_rate", "warmup_steps", "total_steps", "schedule")
        return {name: getattr(self, name) for name in names}


class _OneStep(WholeStep):
    """Adam's step in one pass over memory, with the powers of the betas computed once a step."""

    iterations: Any
    epsilon: float

    beta_names: ClassVar[tuple[str, str]] = ("beta_1", "beta_2")
    """The attributes that have the decay of Adam's two averages."""

    @property
    def betas(self) -> tuple[float, float]:
        """Decay of Adam's two averages."""
        first, second = self.beta_names
        return getattr(self, first), getattr(self, second)

    _powers: Any = None

    def apply(self, grads, trainable_variables=None):
        """Updates the variables by a step."""
        step = tf.cast(self.iterations + 1, tf.float32)
        self._powers = tf.pow(self.betas[0], step), tf.pow(self.betas[1], step)
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._powers = None  # tensors of the graph in which they were made

    def update_by_adam(self, variable, gradient, learning_rate, m, v) -> None:
        """One step for one variable, whose averages are `m` and `v`."""
        apply_adam(
            variable,
            m,
            v,
            gradient,
            learning_rate=learning_rate,
            betas=self.betas,
            powers=self._powers,
            epsilon=self.epsilon,
        )


class FusedAdam(_OneStep, keras.optimizers.Adam):
    """Keras's Adam with each variable's update in one pass over memory."""

    def update_step(self, gradient, variable, learning_rate):
        self.update_by_adam(variable, gradient, learning_rate, *adam_averages(self, variable))


class FusedAdamW(FusedAdam, keras.optimizers.AdamW):
    """The same with decoupled weight decay (Loshchilov and Hutter, 2019)."""


class Muon(_OneStep, MuonHooks):
    """Keras's Muon, for all matrices of the blocks, those of attention too; AdamW for the rest.

    Jordan et al., 2024, with the step size of Moonlight (Liu et al., 2025), so that learning rate
    and weight decay are AdamW's. Keras leaves attention's kernels (D, N, H) and (N, H, D) to Adam,
    since they have three axes; here they are trained as matrices (D, N H) and (N H, D).
    """

    beta_names = ("adam_beta_1", "adam_beta_2")

    def is_matrix(self, variable) -> bool:
        """Whether the variable is a kernel of a block."""
        return variable.path.endswith("kernel") and not variable.path.startswith("logits")

    def update_matrix(self, path: str, variable, gradient, learning_rate, m) -> None:
        """A step with Nesterov's momentum `m`, along the nearest semi-orthogonal matrix."""
        shape = variable.shape  # a gradient may not know its own
        inputs = math.prod(shape[: -1 if "attention_output" in path else 1])
        self.assign_add(m, gradient + m * (self.momentum - 1))
        direction = tf.reshape(gradient + self.momentum * m, (inputs, -1))
        update = self.scaled(learning_rate * self.orthogonalized(direction))
        self.assign_sub(variable, tf.reshape(update, shape))


def clip_scale(gradients: Sequence[tf.Tensor], clip_norm: float) -> tuple[tf.Tensor, tf.Tensor]:
    """The global norm of the gradients, and the factor that makes it at most `clip_norm`.

    Args:
        gradients: Of all variables.
        clip_norm: The largest norm; 0 does not clip.

    Returns:
        The norm and the factor, scalars. The factor is 0 if the norm is not finite.
    """
    norm = tf.sqrt(2 * tf.add_n([tf.nn.l2_loss(gradient) for gradient in gradients]))
    scale = tf.minimum(1.0, clip_norm / norm) if clip_norm else tf.ones_like(norm)
    return norm, tf.where(tf.math.is_finite(norm), scale, 0.0)


def build_optimizer(config: TrainingConfig, total_steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of a run, with its schedule.

    Weight decay spares norms, biases and embeddings of positions and tokens. The training step
    clips gradients, not the optimizer: see `clip_scale`.

    Args:
        config: Which optimizer, and its settings.
        total_steps: Steps of the run, over which the schedule runs.

    Returns:
        A Keras optimizer, not built yet.
    """
    warmup_steps = config.warmup_steps
    if warmup_steps is None:
        warmup_steps = min(LONGEST_WARMUP, total_steps // 10)
    schedule = LearningRate(config.learning_rate, warmup_steps, total_steps, config.schedule)
    if config.optimizer == "adam":
        return FusedAdam(schedule, beta_2=config.beta_2, epsilon=config.epsilon)
    if config.optimizer == "adamw":
        optimizer = FusedAdamW(
            schedule,
            beta_2=config.beta_2,
            epsilon=config.epsilon,
            weight_decay=config.weight_decay,
        )
    else:
        optimizer = Muon(
            schedule,
            adam_beta_2=config.beta_2,
            adam_weight_decay=config.weight_decay,
            weight_decay=config.weight_decay,
        )
    optimizer.exclude_from_weight_decay(var_names=NO_WEIGHT_DECAY)
    return optimizer
