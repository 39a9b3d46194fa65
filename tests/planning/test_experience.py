"""What is kept of finished runs, and what it does to the next prediction."""

import json

import pytest

from minigpt_tf.config.presets import model_preset, training_preset
from minigpt_tf.planning import experience, prediction
from minigpt_tf.planning.experience import Experience, Factors, Outcome
from minigpt_tf.planning.probe import Speed
from minigpt_tf.planning.workload import text_schedule, text_workload

SPEED = Speed(200e9, 400e9, 50e9, 30e9, 2000)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "minigpt_tf" / "plan.json"


def outcome(method="train", dtype="float32", memory=1.0, step=1.0, rest=1.0):
    return Outcome(method, dtype, memory, step, rest)


def test_the_nearest_runs_decide():
    far = [outcome("lora", step=9.0) for _ in range(5)]
    near = [outcome(step=s, memory=m) for s, m in ((1.5, 0.9), (2.0, 1.0), (4.0, 1.1))]
    assert Experience(outcomes=[*far, *near]).factors("train", "float32") == Factors(
        memory=1.0, step=2.0, rest=1.0, runs=3
    )
    assert Experience(outcomes=[*far, *near[:2]]).factors("train", "float32").step == 9.0
    alone = Experience(outcomes=[outcome(step=8.0), outcome(step=None)])
    assert alone.factors("train", "float32").step == 2.0  # one of three: the cube root
    assert Experience().factors("train", "float32") == Factors()


def test_what_was_learned_is_kept_and_damage_is_nothing(own_cache):
    experience.write_experience(Experience(SPEED, 5.0))
    for _ in range(experience.MOST_RUNS + 3):
        experience.learn(outcome(step=2.0))
    known = experience.read_experience()
    assert known.speed == SPEED and known.probed == 5.0
    assert len(known.outcomes) == experience.MOST_RUNS
    for damage in ("", "[]", "{", json.dumps({experience.machine_name(): {"speed": {"a": 1}}})):
        own_cache.write_text(damage)
        assert experience.read_experience() == Experience()
        experience.learn(outcome())
        assert len(experience.read_experience().outcomes) == 1


def test_a_machine_that_is_as_predicted_after_learning():
    model, training = model_preset("shakespeare"), training_preset("shakespeare", dtype="float32")
    schedule = text_schedule(model, training, steps=100, eval_every=50, scored=1000)
    run = text_workload(model, training)
    first = prediction.predict(run, schedule, speed=SPEED, experience=Experience())
    outcomes = [outcome(memory=1.2, step=3.0, rest=0.5)] * 3
    then = prediction.predict(run, schedule, speed=SPEED, experience=Experience(outcomes=outcomes))
    assert then.bytes == pytest.approx(1.2 * first.bytes)
    assert then.step_seconds == pytest.approx(3 * first.step_seconds)
    assert then.seconds == pytest.approx(
        3 * first.time.steps + 0.5 * (first.seconds - first.time.steps)
    )
    assert then.as_json()["learned_from_runs"] == 3
