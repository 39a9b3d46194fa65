"""A finished run's config.json says what was predicted and what was measured."""

import contextlib
import json

import pytest

from minigpt_tf.planning import record
from minigpt_tf.planning.experience import read_experience
from minigpt_tf.planning.prediction import predict
from minigpt_tf.training.trainer import train
from tests.conftest import tiny_plan


def test_a_run_notes_what_it_was_predicted_to_take_and_took(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = tiny_plan()
    folder = train(plan, tmp_path / "m").out
    section = json.loads((folder / "config.json").read_text())["plan"]
    assert section["predicted"]["memory"] > 0 and section["predicted"]["seconds"] > 0
    measured = section["measured"]
    assert measured["steps"] == 6 and measured["seconds"] > 5 * measured["step_seconds"] > 0
    (outcome,) = read_experience().outcomes
    assert (outcome.method, outcome.dtype, outcome.step) == ("train", "float32", None)


def test_longer_steps_teach_how_long_steps_take(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(record, "LEAST_SECONDS", 0.0)
    plan = tiny_plan()
    prediction = predict(plan.workload, plan.schedule)
    run = record.RunRecord(prediction)
    for seconds in (9.0, *[2 * prediction.step_seconds] * 5):  # the first compiles
        run.after_step(seconds)
    run.learn()
    (outcome,) = read_experience().outcomes
    assert outcome.step == pytest.approx(2)


def test_a_run_that_was_interrupted_teaches_nothing(tmp_path, monkeypatch):
    from minigpt_tf.events import Listener

    class Stopping(Listener):
        """Its reader goes away."""

        def progress(self, progress):
            raise BrokenPipeError

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with contextlib.suppress(BrokenPipeError):
        train(tiny_plan(), tmp_path / "m", listener=Stopping())
    section = json.loads((tmp_path / "m" / "config.json").read_text())["plan"]
    assert section["measured"]["steps"] < 6
    assert not read_experience().outcomes
