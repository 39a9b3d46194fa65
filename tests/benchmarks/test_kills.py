"""A short form of `benchmarks/kills.py`: killed commands leave the old model or the new one."""

import random

import kills
import pytest


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with kills.Launcher() as launcher:
        yield launcher


def test_killed_commands_leave_the_old_or_the_new(tmp_path, launcher):
    names = ["train", "finetune lora", "import gguf", "export hf", "export gguf", "quantize int8"]
    rng = random.Random(5)
    for command in kills.commands(tmp_path, launcher, names):
        outcome = kills.campaign(launcher, command, 3, rng, tmp_path / f"{command.name}.log")
        assert outcome.kills == 3 and outcome.old + outcome.new == 3
        assert not outcome.mixed and not outcome.left


def test_what_a_model_holds_is_told_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.h5").write_text("x")
        (tmp_path / name / "history.csv").write_text(name)
        (tmp_path / name / "config.json").write_text('{"metrics": {"seconds": 1}}')
    assert kills.identity(tmp_path / "a") == kills.identity(tmp_path / "b")
    (tmp_path / "b" / "extra").write_text("")
    assert kills.identity(tmp_path / "a") != kills.identity(tmp_path / "b")
