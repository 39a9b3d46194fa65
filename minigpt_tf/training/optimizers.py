"""Optimizers and the learning rate schedule, from a TrainingConfig."""

import math

import keras
from keras import ops

from ..config import TrainingConfig

LONGEST_WARMUP = 100
"""Steps of warm-up where none are asked for: a tenth of the run, but no more than this."""

FINAL_SHARE = 0.1
"""The cosine schedule ends at this share of the highest learning rate."""


@keras.saving.register_keras_serializable("minigpt_tf")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A pure function of the step: linear rise, then constant or a cosine down to a tenth."""

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
        cosine = 0.5 * (1 + ops.cos(math.pi * progress))
        return self.learning_rate * rise * (FINAL_SHARE + (1 - FINAL_SHARE) * cosine)

    def get_config(self) -> dict:
        names = ("learning_rate", "warmup_steps", "total_steps", "schedule")
        return {name: getattr(self, name) for name in names}


def build_optimizer(config: TrainingConfig, total_steps: int) -> keras.optimizers.Optimizer:
    """The optimizer that `config` names, with its schedule over `total_steps` steps.

    Weight decay spares norms, biases and embeddings of positions and tokens.
    """
    warmup_steps = config.warmup_steps
    if warmup_steps is None:
        warmup_steps = min(LONGEST_WARMUP, total_steps // 10)
    schedule = WarmupCosine(config.learning_rate, warmup_steps, total_steps, config.schedule)
    clipping = {"global_clipnorm": config.clip_norm or None}
    if config.optimizer == "adam":
        return keras.optimizers.Adam(schedule, beta_2=config.beta_2, **clipping)
    optimizer = keras.optimizers.AdamW(
        schedule, beta_2=config.beta_2, weight_decay=config.weight_decay, **clipping
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma", "scale", "embeddings"])
    return optimizer
