"""The model folder: reading, refusing what is damaged, replacing files without losing any."""

import json
import os
import shutil
import threading

import h5py
import numpy as np
import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.errors import ModelFolderError
from minigpt_tf.inference.folder import load_folder, replacing_model
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.storage.model_folder import check_output, claim_output, newest_folder
from minigpt_tf.storage.replacing import staging
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.conftest import SAMPLE, tiny_config
from tests.interop.folders import make_folder


def change_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def config_of(folder):
    return json.loads((folder / "config.json").read_text())["model"]


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def edit_weights(folder, edit):
    with h5py.File(folder / "model.h5", "r+") as file:
        edit(file["model_weights"])


def without_a_weight(weights):
    del weights["block_1/block_1_attention/key/kernel"]


def with_a_nan(weights):
    weights["logits/logits/kernel"][0, 0] = np.nan


def without_numbers(weights):
    del weights["logits/logits/bias"]
    weights["logits/logits/bias"] = ["text"] * 500


DAMAGES = {
    "no config.json": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "no model.h5": (lambda f: (f / "model.h5").unlink(), "model.h5 is missing"),
    "no tokenizer.pkl": (lambda f: (f / "tokenizer.pkl").unlink(), "tokenizer.pkl is missing"),
    "no folder": (shutil.rmtree, "no such model folder"),
    "half a config": (lambda f: truncate(f / "config.json"), "config.json: is damaged"),
    "half a model": (lambda f: truncate(f / "model.h5"), "model.h5: is damaged"),
    "half a tokenizer": (
        lambda f: truncate(f / "tokenizer.pkl"),
        "tokenizer.pkl: is not a readable",
    ),
    "empty model": (lambda f: (f / "model.h5").write_bytes(b""), "model.h5: is damaged"),
    "foreign model": (
        lambda f: h5py.File(f / "model.h5", "w").close(),
        "or not a Keras model file",
    ),
    "foreign config": (lambda f: (f / "config.json").write_text("{}"), "has no format_version"),
    "a list as config": (lambda f: (f / "config.json").write_text("[]"), "expected an object"),
    "foreign tokenizer": (
        lambda f: (f / "tokenizer.pkl").write_bytes(b"cos\nsystem\n."),
        "names os.system",
    ),
    "newer version": (lambda f: change_config(f, format_version=99), "version 99 is newer"),
    "other sizes": (
        lambda f: change_config(f, model={**config_of(f), "ff_dim": 64}),
        r"feed_forward_up/kernel has shape \(16, 32\), the configuration needs \(16, 64\)",
    ),
    "small vocabulary": (
        lambda f: change_config(f, model={**config_of(f), "vocab_size": 50}),
        "has 500 ids, but the model",
    ),
    "unknown tokenizer": (lambda f: change_config(f, tokenizer="morse"), "tokenizer='morse'"),
    "endless context": (
        lambda f: change_config(f, model={**config_of(f), "context_length": 2_000_000_000}),
        "weights and cache of this model need",
    ),
    "other kind": (lambda f: change_config(f, tokenizer="char"), "where char was expected"),
    "no start": (lambda f: change_config(f, start_ids=[]), r"start_ids=\[\]"),
    "bad start": (lambda f: change_config(f, start_ids=["x"]), "expected token ids"),
    "missing weight": (
        lambda f: edit_weights(f, without_a_weight),
        "lacks the weight block_1/attention/key",
    ),
    "nan weight": (
        lambda f: edit_weights(f, with_a_nan),
        "logits/kernel holds values that are not finite",
    ),
    "text weight": (
        lambda f: edit_weights(f, without_numbers),
        "logits/bias holds object, not floating-point numbers",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused_in_one_line(damage, folder_copy, capsys):
    harm, message = DAMAGES[damage]
    harm(folder_copy)
    with pytest.raises(ModelFolderError, match=message):
        TextGenerator.load(folder_copy)
    assert main(["generate", "he was", "--model", str(folder_copy)]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("error: ") and output.err.count("\n") == 1


def test_a_sound_folder_loads(trained_folder):
    contents = load_folder(trained_folder)
    assert contents.model.num_layers == 2 and contents.tokenizer.kind == "word"
    assert contents.description["metrics"]["parameters"] == contents.model.parameter_count
    assert contents.start_ids == [int(contents.tokenizer.encode("A")[0])]


def test_the_newest_folder_is_the_default(tmp_path, trained_folder):
    with pytest.raises(ModelFolderError, match=r"no model in .* yet: train one"):
        newest_folder(tmp_path)
    for age, name in ((50, "older"), (10, "newer"), (90, "oldest")):
        shutil.copytree(trained_folder, tmp_path / name)
        stamp = (trained_folder / "config.json").stat().st_mtime - age
        os.utime(tmp_path / name / "config.json", (stamp, stamp))
    (tmp_path / "not-a-model").mkdir()
    assert newest_folder(tmp_path) == tmp_path / "newer"


def test_an_output_that_is_taken_is_refused(tmp_path, trained_folder):
    with pytest.raises(ModelFolderError, match="--overwrite replaces it, --resume continues"):
        check_output(trained_folder, overwrite=False, resume=False)
    check_output(trained_folder, overwrite=True, resume=False)
    check_output(tmp_path / "new", overwrite=False, resume=False)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ModelFolderError, match="no checkpoint/ to resume from"):
        check_output(tmp_path, overwrite=False, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFolderError, match="is a file, not a folder"):
        check_output(tmp_path / "file", overwrite=True, resume=False)


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "below"
    with (
        pytest.raises(ModelFolderError, match="cannot be written to"),
        claim_output(below, overwrite=False, resume=False),
    ):
        pass


def test_staging_replaces_all_or_nothing(tmp_path):
    (tmp_path / "a").write_text("old")
    with staging(tmp_path) as scratch:
        (scratch / "a").write_text("new")
        (scratch / "b").write_text("new")
        assert (tmp_path / "a").read_text() == "old"
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "new"

    with pytest.raises(ValueError, match="stop"), staging(tmp_path) as scratch:
        (scratch / "a").write_text("newer")
        raise ValueError("stop")
    with pytest.raises(ModelFolderError, match="No space left"), staging(tmp_path) as scratch:
        (scratch / "a").write_text("newer")
        raise OSError(28, "No space left on device")
    assert (tmp_path / "a").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_model_that_is_replaced_while_it_is_read_is_the_old_or_the_new(tmp_path, trained_folder):
    """Weights of one model with the tokenizer of another would write something else."""
    other, folder = tmp_path / "other", tmp_path / "model"
    tokenizer = train_tokenizer("char", [SAMPLE.read_text()], 100)
    make_folder(other, tiny_config("modern", vocab_size=tokenizer.vocab_size), tokenizer)
    shutil.copytree(trained_folder, folder)

    def answer(path):
        generator = TextGenerator.load(path)
        settings = {"greedy": True, "max_new_tokens": 8}
        return generator.tokenizer.kind, generator.generate("he was", **settings).text

    answers = [answer(path) for path in (trained_folder, other)]
    ended, seen = threading.Event(), []

    def replace():
        while not ended.is_set():
            for source in (other, trained_folder):
                with replacing_model(folder) as scratch:
                    for name in ("config.json", "model.h5", "tokenizer.pkl"):
                        shutil.copyfile(source / name, scratch / name)
                ended.wait(0.02)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(40):
            seen.append(answer(folder))
    finally:
        ended.set()
        thread.join()
    assert set(seen) <= set(answers)
    assert answer(folder) == answers[0]


def test_a_model_of_files_of_two_models_is_refused(trained_folder, tmp_path, capsys):
    """The sizes fit; only the hashes tell the models apart."""
    folder = shutil.copytree(trained_folder, tmp_path / "model")
    with h5py.File(folder / "model.h5", "r+") as file:
        weights = file["model_weights/token_embedding/token_embedding/embeddings"]
        weights[...] = np.roll(weights, 1, axis=0)
    for command in (["generate", "he was"], ["evaluate", "--data", str(SAMPLE)]):
        assert main([*command, "--model", str(folder)]) == 2
        assert "model.h5: is damaged or of another model" in capsys.readouterr().err
    out = str(tmp_path / "out.gguf")
    assert main(["export", "--format", "gguf", "--out", out, "--model", str(folder)]) == 2
    assert not os.path.exists(out)
    description = json.loads((folder / "config.json").read_text())
    del description["files"]["model.h5"]  # by whom it was meant
    (folder / "config.json").write_text(json.dumps(description))
    assert main(["generate", "he was", "--model", str(folder)]) == 0
