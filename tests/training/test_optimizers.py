"""The learning rate schedule and the optimizers' settings."""

import math

import keras
import numpy as np
import pytest

from minigpt_tf.config import TrainingConfig
from minigpt_tf.training.optimizers import LearningRate, build_optimizer


def test_the_schedule_rises_then_falls_as_it_is_told():
    schedule = LearningRate(0.5, warmup_steps=4, total_steps=104, schedule="cosine")
    rates = [float(schedule(step)) for step in range(105)]
    np.testing.assert_allclose(rates[:4], [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    for step in (4, 29, 54, 104):
        cosine = 0.5 * (1 + math.cos(math.pi * (step - 4) / 100))
        assert rates[step] == pytest.approx(0.5 * (0.1 + 0.9 * cosine), rel=1e-5)
    assert rates[104] == pytest.approx(0.05, rel=1e-5)
    linear = LearningRate(0.5, warmup_steps=4, total_steps=104, schedule="linear")
    assert [float(linear(step)) for step in (4, 29, 104)] == pytest.approx([0.5, 0.375, 0.0])
    constant = LearningRate(0.5, warmup_steps=0, total_steps=10, schedule="constant")
    assert [float(constant(step)) for step in (0, 5, 50)] == [0.5, 0.5, 0.5]


def test_the_schedule_survives_serialisation():
    schedule = LearningRate(0.5, warmup_steps=4, total_steps=104, schedule="cosine")
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert float(twin(30)) == float(schedule(30))


def step_once(config, gradient):
    kernel, bias = (
        keras.Variable(np.ones((2, 2), "float32"), name="kernel"),
        keras.Variable(np.ones(2, "float32"), name="bias"),
    )
    optimizer = build_optimizer(config, total_steps=100)
    optimizer.build([kernel, bias])
    optimizer.apply([np.full((2, 2), gradient, "float32"), np.full(2, gradient, "float32")])
    return np.asarray(kernel), np.asarray(bias)


def test_weight_decay_spares_biases():
    settings = {"learning_rate": 0.1, "warmup_steps": 0, "schedule": "constant"}
    kernel, bias = step_once(TrainingConfig(**settings, optimizer="adamw", weight_decay=0.5), 0.0)
    np.testing.assert_allclose(kernel, 1 - 0.1 * 0.5, rtol=1e-5)
    np.testing.assert_allclose(bias, 1.0)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_a_first_step_is_the_learning_rate_long(optimizer):
    settings = {"learning_rate": 0.1, "warmup_steps": 0, "schedule": "constant", "clip_norm": 0.0}
    kernel, bias = step_once(TrainingConfig(**settings, optimizer=optimizer), 3.0)
    np.testing.assert_allclose(kernel, 0.9, rtol=1e-4)
    np.testing.assert_allclose(bias, 0.9, rtol=1e-4)
