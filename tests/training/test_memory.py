"""What a step takes, against what processes took; what is advised where it does not fit."""

from dataclasses import replace

import pytest
import tensorflow as tf

from minigpt_tf import machine
from minigpt_tf.config.presets import model_preset, training_preset
from minigpt_tf.errors import ConfigError, TrainingError
from minigpt_tf.training import loop, memory, trainer
from tests.conftest import tiny_plan

MEASURED = [  # preset, its switches, batch, remat, dtype, ru_maxrss of a process in MB
    ("lecture", {"head_dim": 32}, 64, False, "mixed_bfloat16", 1456),
    ("lecture", {"head_dim": 32}, 256, False, "mixed_bfloat16", 2665),
    ("lecture", {"head_dim": 32}, 256, False, "float32", 3536),
    ("lecture", {"head_dim": 32}, 256, True, "mixed_bfloat16", 1582),
    ("shakespeare", {}, 512, False, "mixed_bfloat16", 1899),
    ("gpt2", {"context_length": 256}, 8, False, "mixed_bfloat16", 5054),
    ("gpt2", {"context_length": 256}, 2, False, "mixed_bfloat16", 3674),
]


@pytest.mark.parametrize(("preset", "switches", "batch", "remat", "dtype", "megabytes"), MEASURED)
def test_the_estimate_is_near_what_was_measured(preset, switches, batch, remat, dtype, megabytes):
    training = replace(training_preset(preset), batch_size=batch, remat=remat, dtype=dtype)
    estimate = memory.step_bytes(model_preset(preset, **switches), training)
    assert estimate / 2**20 == pytest.approx(megabytes, rel=0.2)


@pytest.mark.parametrize(
    ("gigabytes", "advice"),
    [(5.5, None), (4.5, "--accumulate 2 fits"), (3.2, "--accumulate 8 fits"), (1, "smaller model")],
)
def test_the_advice_is_the_mildest_change_that_fits(gigabytes, advice, monkeypatch):
    monkeypatch.setattr(machine, "memory_size", lambda: int(gigabytes * 2**30))
    monkeypatch.setattr(memory, "memory_size", machine.memory_size)
    model = model_preset("gpt2", context_length=256)
    training = replace(training_preset("gpt2"), batch_size=8)
    if advice is None:
        memory.check_step_fits(model, training)
        return
    with pytest.raises(ConfigError, match=rf"8 windows at once need 4\.\d GiB.*: .*{advice}"):
        memory.check_step_fits(model, training)


def test_a_step_that_runs_out_of_memory_says_what_needs_less(tmp_path, monkeypatch):
    def exhausted(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "failed to allocate")

    monkeypatch.setattr(loop.TrainingStep, "__call__", exhausted)
    with pytest.raises(
        TrainingError, match=r"a step needs about 0\.6 GiB; --accumulate 2 or --rem"
    ):
        trainer.train(tiny_plan(), tmp_path / "m")


def test_blocks_are_computed_again_where_smaller_parts_are_not_enough(monkeypatch):
    monkeypatch.setattr(machine, "memory_size", lambda: 2**30)
    monkeypatch.setattr(memory, "memory_size", machine.memory_size)
    model = model_preset("shakespeare", num_layers=96, context_length=512)
    training = replace(training_preset("shakespeare"), batch_size=1)
    with pytest.raises(ConfigError, match="--remat fits, and trains the same"):
        memory.check_step_fits(model, training)
