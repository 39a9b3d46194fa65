"""The verb `doctor`: what it reports is what the machine says, and each fault has a remedy."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys

import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.cli import doctor
from minigpt_tf.compiled import SUFFIX


def report(capsys, *options):
    """The exit status, and the findings by name."""
    status = main(["doctor", "--json", *options])
    return status, {item["what"]: item for item in json.loads(capsys.readouterr().out)}


def test_it_reports_what_the_machine_has(capsys):
    status, found = report(capsys)
    assert status == int(any(item["remedy"] for item in found.values()))
    assert f"Python {platform.python_version()}" in found["minigpt_tf"]["found"]
    for library in doctor.LIBRARIES:
        version = importlib.metadata.version(library)
        assert f"{library} {version}" in found["libraries"]["found"]
    assert f"{len(os.sched_getaffinity(0))} by affinity" in found["cores"]["found"]


def test_a_table_for_people(capsys):
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("minigpt_tf")
    assert any(line.startswith("machine code") for line in lines)


def test_an_untried_version_is_named_with_what_to_do(capsys, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "99.0" if name == "keras" else real(name)
    )
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["keras<3.16,>=3.15"])
    status, found = report(capsys)
    assert status == 1
    assert found["libraries"]["remedy"].startswith("keras 99.0 is outside the versions")


@pytest.mark.parametrize(
    ("name", "value", "what", "remedy"),
    [
        ("core_quota", 0.5, "cores", "less than one core"),
        ("memory_size", 2**30, "memory", "choose small models"),
    ],
)
def test_a_narrow_container_is_named(capsys, monkeypatch, name, value, what, remedy):
    monkeypatch.setattr(doctor, name, lambda: value)
    status, found = report(capsys)
    assert status == 1
    assert remedy in found[what]["remedy"]


def test_a_cache_that_cannot_be_written(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    status, found = report(capsys)
    assert status == 1
    assert found["cache"]["remedy"].startswith(f"make {tmp_path} writable")


def test_warmed_up_the_first_answer_compiles_nothing(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "minigpt_tf", "doctor", "--warm-up"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    compiled = {path: path.stat().st_mtime_ns for path in tmp_path.rglob(f"*{SUFFIX}")}
    assert compiled
    code = """
import numpy as np, minigpt_tf as mg
from minigpt_tf.inference.weights import weight_shapes
for preset in ("lecture", "gpt2", "shakespeare", "modern"):
    config = mg.model_preset(preset, vocab_size=50, num_layers=2, embed_dim=16, num_heads=4,
                             num_kv_heads=4, head_dim=4, ff_dim=24, context_length=20)
    weights = {n: np.ones(s, "float32") for n, s in weight_shapes(config).items()}
    mg.Engine(config, weights).prefill([1, 2, 3])
"""
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob(f"*{SUFFIX}")} == compiled


def test_the_files_of_a_model_are_compared_with_their_hashes(capsys, folder_copy):
    status, found = report(capsys, "--model", str(folder_copy))
    files = ["history.csv", "loss.png", "model.h5", "samples.txt", "tokenizer.pkl"]
    assert [found[name]["found"] for name in files] == ["as it was written"] * 5
    (folder_copy / "loss.png").write_bytes(b"another")
    (folder_copy / "samples.txt").unlink()
    status, found = report(capsys, "--model", str(folder_copy))
    assert status == 1 and "of another model" in found["loss.png"]["remedy"]
    assert found["samples.txt"]["found"] == "missing" and found["model.h5"]["remedy"] == ""
    config = json.loads((folder_copy / "config.json").read_text())
    del config["files"]
    (folder_copy / "config.json").write_text(json.dumps(config))
    status, found = report(capsys, "--model", str(folder_copy))
    assert "earlier version" in found[str(folder_copy)]["found"]
