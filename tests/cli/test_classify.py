# ruff: noqa: F811  (fixtures of another file)
"""`minigpt classify`, and the classifier that `minigpt finetune` makes for it."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.classification.classifier import Classifier
from minigpt_tf.finetuning.trainer import finetune
from tests.finetuning.test_classifier import ROWS, files, plan_of, write_jsonl  # noqa: F401


@pytest.fixture(scope="module")
def trained(files):
    """A classifier whose last layer alone was trained, beside its base."""
    plan = plan_of(files, "last", steps=12, eval_every=6, learning_rate=0.02)
    finetune(plan, files / "out-last")
    return files


def test_a_classifier_from_records_to_labels(files, tmp_path, capsys):
    words = ["finetune", "--base", str(files / "llama"), "--data", str(files / "rows.jsonl")]
    words += ["--method", "classify"]
    run = ["--steps", "12", "--batch-size", "4", "--dtype", "float32", "--test-split", "0.15"]
    run += ["--learning-rate", "0.02"]
    out = str(tmp_path / "out")
    assert main([*words, *run, "--out", out]) == 0
    said = capsys.readouterr().out
    assert "an example:\n" in said and "[[" not in said and "perplexity" not in said
    assert "before training, on the validation set: loss" in said
    assert "val_accuracy" in said and "test: 5 texts, loss" in said
    assert (
        "label" in said and "precision" in said and f'minigpt classify "TEXT" --model {out}' in said
    )
    assert main(["classify", "this is a saw", "one more pear", "--model", out]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("%" in line for line in lines) and "'one more pear'" in lines[1]
    assert main(["classify", "this is a saw", "--model", out, "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    (result,) = described["results"]
    assert sum(result["probabilities"].values()) == pytest.approx(1)
    assert result["label"] == max(result["probabilities"], key=result["probabilities"].get)
    guesses = [Classifier.load(out).classify(row["text"]).label for row in ROWS]
    right = np.mean([g == row["label"] for g, row in zip(guesses, ROWS, strict=True)])
    assert main(["classify", "--data", str(files / "rows.jsonl"), "--model", out, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["accuracy"] == right and figures["texts"] == len(ROWS)
    assert sum(sum(row.values()) for row in figures["confusion"].values()) == len(ROWS)
    assert main(["classify", "--data", str(files / "rows.jsonl"), "--model", out]) == 0
    assert f"{right:.2%} right" in capsys.readouterr().out
    assert main(["generate", "this", "--model", out, "--max-new-tokens", "2", "--no-stream"]) == 0
    assert "is a classifier, which minigpt classify asks" in capsys.readouterr().err
    assert main(["classify", "a" * 999, "--model", out]) == 0
    assert "longer than the 160 tokens" in capsys.readouterr().err


def test_what_the_commands_refuse(trained, tmp_path, capsys):
    words = ["finetune", "--base", str(trained / "llama"), "--data", str(trained / "rows.jsonl")]
    words += ["--out", str(tmp_path / "out")]
    model = ["--model", str(trained / "out-last")]
    unseen = write_jsonl(tmp_path / "unseen.jsonl", [*ROWS, {"text": "a", "label": "animal"}])
    answers = write_jsonl(tmp_path / "answers.jsonl", [{"instruction": "a", "output": "b"}])
    for command, reason in (
        ([*words, "--method", "classify", "--rank", "2"], "--rank is for --method"),
        ([*words, "--method", "classify", "--beta", "2"], "--beta is for --method dpo"),
        ([*words, "--method", "classify", "--train-on", "everything"], "--train-on is for"),
        ([*words, "--classify-layers", "all"], "--classify-layers is for --method classify"),
        ([*words, "--method", "lora"], "instruction"),
        (["classify", "a", "--model", str(trained / "llama")], "is not a classifier"),
        (["classify", *model], "give a TEXT"),
        (["classify", "a", "--data", "b", *model], "give a TEXT"),
        (["classify", "a", "--encoding", "utf-8", *model], "says how --data is read"),
        (["classify", "", *model], "its text has no tokens"),
        (["classify", "--data", str(tmp_path / "no.csv"), *model], "no such file"),
        (["classify", "--data", str(unseen), *model], "line 33: the classifier does not know"),
        (["classify", "--data", str(answers), *model], "labeled records"),
    ):
        assert main(command) == 2, command
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_classifier_is_asked_without_tensorflow(trained):
    script = (
        "import sys; from minigpt_tf.__main__ import main; "
        f"main(['classify', 'a saw', '--model', {str(trained / 'out-last')!r}]); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0 and "%" in found.stdout
    assert keras.backend.backend() == "tensorflow"
