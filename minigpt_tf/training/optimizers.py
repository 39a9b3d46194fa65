"""Optimizers, the learning rate schedule and gradient clipping, from a TrainingConfig."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from ..config import TrainingConfig

LONGEST_WARMUP = 100
"""Steps of warm-up where none are asked for: a tenth of the run, but no more than this."""

FINAL_SHARE = 0.1
"""The cosine schedule ends at this share of the highest learning rate."""

NO_WEIGHT_DECAY = ["bias", "beta", "gamma", "scale", "embeddings"]
"""Names of the variables that weight decay spares: norms, biases, embeddings."""


@keras.saving.register_keras_serializable("minigpt_tf")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """A pure function of the step: a linear rise, then one of three shapes.

    constant; cosine, down to a tenth; linear, down to nothing.
    """

    def __init__(
        self, learning_rate: float, warmup_steps: int, total_steps: int, schedule: str
    ) -> None:
        self.learning_rate, self.schedule = learning_rate, schedule
        self.warmup_steps, self.total_steps = warmup_steps, total_steps

    def __call__(self, step):
        """The learning rate of the step, counted from 0."""
        step = ops.cast(step, "float32")
        rise = ops.minimum(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "constant":
            return self.learning_rate * rise
        decay_steps = max(1, self.total_steps - self.warmup_steps)
        progress = ops.clip((step - self.warmup_steps) / decay_steps, 0.0, 1.0)
        if self.schedule == "linear":
            return self.learning_rate * rise * (1 - progress)
        cosine = 0.5 * (1 + ops.cos(math.pi * progress))
        return self.learning_rate * rise * (FINAL_SHARE + (1 - FINAL_SHARE) * cosine)

    def get_config(self) -> dict:
        names = ("learning_rate", "warmup_steps", "total_steps", "schedule")
        return {name: getattr(self, name) for name in names}


class _WholeStep:
    """What Keras does for each variable, done once for all of them.

    It adds up the gradients of all replicas, of which the step has taken the mean already; and it
    computes the learning rate and the powers of the betas anew for every variable: with the
    hundreds that LoRA has, that is a quarter of the step's operations.
    """

    iterations: Any
    epsilon: float

    @property
    def betas(self) -> tuple[float, float]:
        """Of its Adam."""
        raise NotImplementedError

    _rate: Any = None
    _powers: Any = None

    def apply(self, grads, trainable_variables=None):
        """Changes the variables by a step."""
        step = tf.cast(self.iterations + 1, tf.float32)
        self._rate = super()._get_current_learning_rate()
        self._powers = [tf.pow(beta, step) for beta in self.betas]
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._rate = self._powers = None

    def _get_current_learning_rate(self):
        return super()._get_current_learning_rate() if self._rate is None else self._rate

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)

    def _adam_update(self, variable, gradient, learning_rate, m, v) -> None:
        """One step of Adam for one variable (Kingma and Ba, 2015), by TensorFlow's one operation:
        one pass over memory instead of a dozen."""
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(m),
            v=_handle(v),
            beta1_power=self._powers[0],
            beta2_power=self._powers[1],
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.betas[0],
            beta2=self.betas[1],
            epsilon=self.epsilon,
            grad=gradient,
        )


class FusedAdam(_WholeStep, keras.optimizers.Adam):
    """Keras's Adam with each variable's update in one pass over memory."""

    @property
    def betas(self) -> tuple[float, float]:
        return self.beta_1, self.beta_2

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        averages = self._momentums[index], self._velocities[index]
        self._adam_update(variable, gradient, learning_rate, *averages)


class FusedAdamW(FusedAdam, keras.optimizers.AdamW):
    """The same with decoupled weight decay (Loshchilov and Hutter, 2019)."""


class Muon(_WholeStep, keras.optimizers.Muon):
    """Keras's Muon, for all matrices of the blocks, those of attention too; AdamW for the rest.

    Jordan et al., 2024, with the step size of Moonlight (Liu et al., 2025), so that learning rate
    and weight decay are AdamW's. Keras leaves attention's kernels (D, N, H) and (N, H, D) to Adam,
    as they have three axes; here they are the matrices (D, N H) and (N H, D) that they stand for.
    """

    @property
    def betas(self) -> tuple[float, float]:
        return self.adam_beta_1, self.adam_beta_2

    def _should_use_adamw(self, variable) -> bool:
        path = variable.path
        return not path.endswith("kernel") or path.startswith("logits")

    def _muon_update_step(self, gradient, variable, lr, m):
        path = self._trainable_variables[self._get_variable_index(variable)].path
        shape = variable.shape  # a gradient may not know its own
        inputs = math.prod(shape[: -1 if "attention_output" in path else 1])
        self.assign_add(m, gradient + m * (self.momentum - 1))
        direction = tf.reshape(gradient + self.momentum * m, (inputs, -1))  # Nesterov
        update = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(direction, self.ns_steps))
        self.assign_sub(variable, tf.reshape(update, shape))

    def _adamw_update_step(self, gradient, variable, learning_rate, m, v):
        self._adam_update(variable, gradient, learning_rate, m, v)


def _handle(variable):
    """The resource of a Keras or TensorFlow variable."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


def clip_scale(gradients: Sequence[tf.Tensor], clip_norm: float) -> tuple[tf.Tensor, tf.Tensor]:
    """The global norm of the gradients, and the factor that makes it at most `clip_norm`.

    The factor is 0 where the norm is no finite number; a `clip_norm` of 0 does not clip.
    """
    norm = tf.sqrt(2 * tf.add_n([tf.nn.l2_loss(gradient) for gradient in gradients]))
    scale = tf.minimum(1.0, clip_norm / norm) if clip_norm else tf.ones_like(norm)
    return norm, tf.where(tf.math.is_finite(norm), scale, 0.0)


def build_optimizer(config: TrainingConfig, total_steps: int) -> keras.optimizers.Optimizer:
    """The optimizer that `config` names, with its schedule over `total_steps` steps.

    Weight decay spares norms, biases and embeddings of positions and tokens. Clipping is not the
    optimizer's: see `clip_scale`.
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
