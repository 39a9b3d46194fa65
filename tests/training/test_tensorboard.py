"""Event files of --tensorboard, read back by TensorFlow."""

import csv
import subprocess
import sys

import pytest
import tensorflow as tf

from minigpt_tf.errors import ModelFolderError
from minigpt_tf.training.tensorboard import TensorBoard
from tests.conftest import ROOT, SAMPLE


def values_of(folder):
    """(step, value) by the name of what was written."""
    found = {}
    for file in sorted(folder.glob("*.v2")):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                tensor = tf.make_ndarray(value.tensor)
                found.setdefault(value.tag, []).append((event.step, tensor.tolist()))
    return found


def test_the_command_writes_what_history_has(tmp_path):
    (tmp_path / "text.txt").write_text(SAMPLE.read_text() * 3)
    words = [
        "train",
        "--data",
        "text.txt",
        "--steps",
        "6",
        "--eval-every",
        "3",
        "--batch-size",
        "2",
    ]
    words += ["--embed-dim", "8", "--num-heads", "2", "--num-layers", "1", "--context-length", "8"]
    words += ["--out", "models/small", "--tensorboard"]
    command = [sys.executable, "-m", "minigpt_tf", *words]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    subprocess.run(command, cwd=tmp_path, check=True, env=environment, capture_output=True)
    found = values_of(tmp_path / "logs" / "small")
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4, 5, 6]
    with open(tmp_path / "models" / "small" / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for name, column in (("validation/loss", "val_loss"), ("train/learning_rate", "learning_rate")):
        written = [(int(row["step"]), float(row[column])) for row in rows]
        assert found[name] == [(step, pytest.approx(value, rel=1e-4)) for step, value in written]
    assert found["train/loss"][-1][1] == pytest.approx(float(rows[-1]["loss"]), rel=1e-4)
    assert len(found["sample"]) == 2


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(ModelFolderError, match="logs: cannot be written to"):
        TensorBoard(tmp_path / "logs")
