"""`minigpt summary`: from a folder, a Keras file, a preset; no file's code is run."""

import json
import sys

import h5py
import keras
import numpy as np
import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.inference.folder import load_folder


def summary(arguments, capsys):
    assert main(["summary", *arguments]) == 0
    return capsys.readouterr().out


def test_a_preset_is_shown_without_training(capsys):
    table = summary(["--preset", "lecture"], capsys)
    assert "13,085,576" in table and "2,630,144" in table
    assert table.count("(Functional)") == 4 and "MultiHeadAttention" not in table


def test_overrides_and_expansion(capsys):
    table = summary(["--num-layers", "2", "--embed-dim", "16", "--expand"], capsys)
    assert table.count("(MultiHeadAttention)") == 2 and "attention_output" not in table
    assert table.count("feed_forward_up") >= 2


@pytest.mark.parametrize("name", ["", "model.h5"])
def test_a_trained_model_is_shown(name, trained_folder, capsys):
    table = summary(["--model", str(trained_folder / name)], capsys)
    parameters = load_folder(trained_folder).model.parameter_count
    assert table.count("(Functional)") == 2 and f"Total params: {parameters:,}" in table


def error_of(arguments, capsys):
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ") and output.err.count("\n") == 1
    return output.err


def test_bad_files_get_one_line(tmp_path, folder_copy, capsys):
    file = folder_copy / "model.h5"
    assert "no such model file" in error_of(["summary", "--model", str(tmp_path / "no.h5")], capsys)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    for verb in ("summary", "view"):
        assert "is damaged or not an .h5 file" in error_of([verb, "--model", str(file)], capsys)
    with h5py.File(file, "w") as empty:
        empty["x"] = 1
    assert "contains no Keras model" in error_of(["summary", "--model", str(file)], capsys)
    huge = ["summary", "--vocab-size", "999999999"]
    assert "GiB, this machine has" in error_of(huge, capsys)
    both = ["summary", "--preset", "gpt2", "--model", str(file)]
    assert "drop --preset" in error_of(both, capsys)
    assert "port 99999 cannot be used" in error_of(
        ["view", "--model", str(_keras_file(tmp_path)), "--port", "99999"], capsys
    )


def _keras_file(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.save(tmp_path / "plain.h5")
    return tmp_path / "plain.h5"


def test_code_in_a_model_file_is_shown_and_not_run(tmp_path, capsys):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2)])
    for name in ("lambda.h5", "lambda.keras"):
        model.save(tmp_path / name)
        assert "(Lambda)" in summary(["--model", str(tmp_path / name)], capsys)

    file = _keras_file(tmp_path)
    with h5py.File(file, "r+") as contents:
        architecture = json.loads(contents.attrs["model_config"])
        architecture["config"]["layers"][1]["module"] = "antigravity"
        contents.attrs["model_config"] = json.dumps(architecture)
    assert "(Dense)" in summary(["--model", str(file)], capsys)
    assert "antigravity" not in sys.modules


def test_a_model_that_is_not_ours_is_shown_too(tmp_path, capsys):
    assert "Total params: 3" in summary(["--model", str(_keras_file(tmp_path))], capsys)


def test_a_subclassed_model_shows_its_weights(tmp_path, capsys):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(4)

        def call(self, x):
            return self.dense(x)

    model = Own()
    model(np.zeros((1, 3)))
    model.save(tmp_path / "own.keras")
    shown = summary(["--model", str(tmp_path / "own.keras")], capsys)
    assert "dense" in shown and "Total params: 16" in shown


def test_weights_alone_say_what_they_are(tmp_path, capsys):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.save_weights(tmp_path / "w.weights.h5")
    said = error_of(["summary", "--model", str(tmp_path / "w.weights.h5")], capsys)
    assert "holds weights alone (3 numbers in 2 arrays)" in said and "model.save(" in said


def test_names_cannot_steer_the_terminal(tmp_path, capsys):
    file = _keras_file(tmp_path)
    with h5py.File(file, "r+") as contents:
        config = contents.attrs["model_config"]
        contents.attrs["model_config"] = config.replace("Dense", "De\\u001b[31mnse\\u0007")
    shown = summary(["--model", str(file)], capsys)
    assert r"De\x1b[31mnse\x07" in shown
    assert "\x1b" not in shown and "\x07" not in shown
