"""A finished run's config.json says what was predicted and what was measured."""

import contextlib
import json

from minigpt_tf.planning.experience import read_experience
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
    assert (outcome.method, outcome.dtype) == ("train", "float32")
    predicted = section["predicted"]["step_seconds"]
    assert abs(outcome.step - measured["step_seconds"] / predicted) < 0.2 * outcome.step


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
