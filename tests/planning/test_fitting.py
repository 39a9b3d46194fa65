"""What does not fit is refused, with settings that would fit."""

import re

import pytest
import tensorflow as tf

from minigpt_tf import machine
from minigpt_tf.config.presets import model_preset, training_preset
from minigpt_tf.errors import ConfigError, TrainingError
from minigpt_tf.planning import fitting
from minigpt_tf.planning.fitting import check_fits
from minigpt_tf.planning.memory import memory_of
from minigpt_tf.planning.workload import text_workload
from minigpt_tf.training import loop, trainer
from tests.conftest import tiny_plan
from tests.planning.test_memory import run_of


def with_memory(monkeypatch, bytes_):
    monkeypatch.setattr(machine, "memory_size", lambda: int(bytes_))
    monkeypatch.setattr(fitting, "memory_size", machine.memory_size)


def gpt2_run(**training):
    settings = {"batch_size": 8, "dtype": "mixed_bfloat16", **training}
    return text_workload(
        model_preset("gpt2", context_length=256), training_preset("gpt2", **settings)
    )


def test_the_advice_is_the_mildest_change_that_fits(monkeypatch):
    run = gpt2_run()
    needed = {n: memory_of(gpt2_run(accumulate=n)).total for n in (1, 2, 4, 8)}
    with_memory(monkeypatch, needed[1] + 1)
    check_fits(run)
    for enough in (2, 4, 8):
        with_memory(monkeypatch, needed[enough] + 1)
        with pytest.raises(ConfigError, match="training with 8 windows of 256 tokens at once need"):
            check_fits(run)
        with pytest.raises(ConfigError, match=rf": --accumulate {enough} \(needs .*\) would fit"):
            check_fits(run)
    with_memory(monkeypatch, 2**30)
    with pytest.raises(ConfigError, match=": choose a smaller model or a shorter --context-length"):
        check_fits(run)


def test_blocks_are_computed_again_where_smaller_batches_are_not_enough(monkeypatch):
    model = model_preset("shakespeare", num_layers=96, context_length=512)
    training = training_preset("shakespeare", batch_size=1)
    run = text_workload(model, training)
    with_memory(monkeypatch, memory_of(run.with_training(remat=True)).total + 1)
    with pytest.raises(ConfigError, match=r"at once need .*: --remat \(needs"):
        check_fits(run)


def test_other_methods_are_advised_too(monkeypatch):
    run = run_of("full")
    methods = (("lora", "8"), ("qlora", "8"), ("qlora", "4"))
    lighter = [(f"--method {m} --base-bits {bits}", run_of(m, bits=bits)) for m, bits in methods]
    with_memory(monkeypatch, memory_of(run).total + 2**20)
    check_fits(run)
    for part in (0.9, 0.75, 0.6):
        room = part * memory_of(run).total
        with_memory(monkeypatch, room)
        with pytest.raises(ConfigError, match="--method full with 8 rows of 128 tokens") as found:
            check_fits(run, lambda: lighter)
        said = str(found.value)
        advised = re.findall(r"(--[^()]*?) \(needs (\d\.\d) GiB\)", said.split("GiB: ")[1])
        assert advised, said
        for words, needed in advised:
            method, bits = (
                re.search(r"--method (\w+) --base-bits (.)", words + " ").groups()
                if ("--method" in words)
                else ("full", "8")
            )
            accumulate = re.search(r"--accumulate (\d+)", words)
            tried = run_of(
                method,
                bits=bits,
                remat="--remat" in words,
                accumulate=int(accumulate[1]) if accumulate else 1,
            )
            assert memory_of(tried).total <= room
            assert memory_of(tried).total / 2**30 == pytest.approx(float(needed), abs=0.06)
    with_memory(monkeypatch, 2**29)
    with pytest.raises(ConfigError, match="choose a smaller base, or shorter rows"):
        check_fits(run, lambda: lighter)


def test_a_step_that_runs_out_of_memory_says_what_needs_less(tmp_path, monkeypatch):
    def exhausted(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "failed to allocate")

    monkeypatch.setattr(loop.TrainingStep, "__call__", exhausted)
    with pytest.raises(TrainingError, match=r"out of memory: the run needs about 0\.\d GiB: "):
        trainer.train(tiny_plan(), tmp_path / "m")
