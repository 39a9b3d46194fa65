"""`minigpt models`: every folder, a damaged one with its fault; no weights are read."""

import json
import shutil

import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.interop.known_models import KNOWN
from minigpt_tf.planning.bases import BASES


@pytest.fixture
def models(tmp_path, trained_folder):
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copytree(trained_folder, folder / "trained")
    (folder / "notes").mkdir()
    for name, change in {
        "tuned": {"finetuning": {"method": "lora", "base": "/elsewhere/base"}},
        "taken": {"source": {"architecture": "qwen3", "license": "apache-2.0"}},
        "damaged": {"model": {"vocab_size": -1}},
    }.items():
        shutil.copytree(trained_folder, folder / name)
        file = folder / name / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
        (folder / name / "model.h5").write_bytes(b"not weights")
    return folder


def test_every_folder_is_named(models, trained_folder, capsys):
    assert main(["models", "--models-dir", str(models), "--json"]) == 0
    found = {entry.pop("path"): entry for entry in json.loads(capsys.readouterr().out)["models"]}
    named = {path.rsplit("/", 1)[1]: entry for path, entry in found.items()}
    assert list(named) == ["damaged", "taken", "trained", "tuned"]
    assert (named["tuned"]["method"], named["tuned"]["base"]) == ("lora", "base")
    assert (named["taken"]["method"], named["taken"]["family"]) == ("import", "qwen3")
    assert named["taken"]["license"] == "apache-2.0" and named["trained"]["method"] == "training"
    metrics = json.loads((trained_folder / "config.json").read_text())["metrics"]
    assert named["trained"]["parameters"] == metrics["parameters"]
    assert "config.json" in named["damaged"]["fault"] and named["damaged"]["parameters"] is None


def test_the_table(models, tmp_path, capsys):
    assert main(["models", "--models-dir", str(models)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["model", "made"] and len(lines) == 5
    assert lines[-1].startswith("damaged: ")
    (tmp_path / "none").mkdir()
    assert main(["models", "--models-dir", str(tmp_path / "none")]) == 0
    assert "contains no model" in capsys.readouterr().out
    assert main(["models", "--models-dir", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.id)
def test_a_known_base_has_as_many_parameters_as_its_makers_count(known):
    assert BASES[known.base].parameter_count == known.parameters


def test_the_known_bases(capsys):
    assert main(["models", "--known", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    sizes = [row["lora_bytes"] for row in described["models"]]
    assert len(sizes) == len(KNOWN) and all(2**30 < size < 2**37 for size in sizes)
    assert main(["models", "--known"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"]
