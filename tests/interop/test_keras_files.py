"""`minigpt import gpt.h5`: notebooks' models, ours and the lecture's own, against Keras itself."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from minigpt_tf import import_model
from minigpt_tf.__main__ import main
from minigpt_tf.errors import ConfigError, DataError, ModelFolderError
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.weights import read_weights
from minigpt_tf.model import build_gpt_model
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.conftest import ROOT, tiny_config
from tests.interop import lecture, relatives
from tests.interop.lecture import T, V, positional_encoding, spread


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def check_import(model, file, tokenizer_file, softmax, **options):
    """Saves the model, imports the file, and compares the engine with Keras."""
    model.save(file)
    out = import_model(file, file.parent / "out", tokenizer=tokenizer_file, **options)
    folder = load_folder(out)
    length = min(T, folder.model.context_length)
    ids = np.random.default_rng(1).integers(0, V, length)
    wanted = np.asarray(model(ids[None], training=False))[0]
    wanted = np.log(wanted) if softmax else wanted
    engine, _ = Engine.load(folder)
    found = engine.all_logits(ids)
    found = log_softmax(found) if softmax else found
    assert np.ptp(wanted) > 1  # else a tolerance would say nothing
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    return folder


VARIANTS = {
    "nested": {},
    "flat": {"nested": False},
    "flat, added by +": {"nested": False, "add": "+"},
    "nested, added by +": {"add": "+"},
    "feed-forward in a Sequential": {"feed_forward": "sequential"},
    "flat, feed-forward in a Sequential": {"nested": False, "feed_forward": "sequential"},
    "logits": {"head": "logits"},
    "a Softmax layer": {"head": "softmax layer"},
    "an Activation layer": {"head": "activation layer", "nested": False},
    "any length": {"length": None},
    "norms before": {"pre_norm": True, "head": "logits"},
    "no biases in attention": {"use_bias": False},
}


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_lecture_s_own_classes(variant, suffix, tmp_path, tokenizer_file):
    options = VARIANTS[variant]
    model = spread(lecture.build(keras, **options))
    softmax = options.get("head", "softmax") != "logits"
    folder = check_import(model, tmp_path / f"gpt{suffix}", tokenizer_file, softmax)
    source = folder.description["source"]
    assert source["format"] == f"Keras {suffix}"
    assert source["head"] == ("softmax" if softmax else "logits")
    assert "sinusoidal" in source["assumptions"][0]
    assert folder.model.context_length == T and folder.model.dropout == 0.1


def test_our_own_models(tmp_path, tokenizer_file):
    for preset, suffix in [("lecture", ".h5"), ("gpt2", ".keras"), ("modern", ".h5")]:
        config = tiny_config(preset, vocab_size=V, context_length=T)
        folder = tmp_path / preset
        folder.mkdir()
        model = spread(build_gpt_model(config))
        found = check_import(model, folder / f"gpt{suffix}", tokenizer_file, False).model
        assert found == config
        again = import_model(folder / "out" / "model.h5", folder / "b", tokenizer=tokenizer_file)
        assert load_folder(again).model == config


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_other_models_of_keras_layers(suffix, tmp_path, tokenizer_file):
    for number, (name, (model, expected)) in enumerate(relatives.models().items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = check_import(spread(model), folder / f"gpt{suffix}", tokenizer_file, False).model
        wanted = {key: getattr(found, key) for key in expected}
        assert wanted == expected, name


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_model_as_fit_leaves_it(suffix, tmp_path, tokenizer_file):
    """Compiled, with the optimizer's state, and with frozen layers, whose weights come last."""
    model = spread(lecture.build(keras))
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            layer.layers[1].trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    ids = np.random.default_rng(0).integers(0, V, (4, T))
    model.fit(ids, ids, verbose=0)
    check_import(model, tmp_path / f"gpt{suffix}", tokenizer_file, True)


def in_low_precision(dtype):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        return spread(lecture.build(keras, head="logits", nested=False))
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "mixed_bfloat16", "float64"])
def test_other_numbers(dtype, suffix, tmp_path, tokenizer_file):
    """The values of the weights are the file's, of whatever type."""
    model = in_low_precision(dtype)
    model.save(tmp_path / f"gpt{suffix}")
    out = import_model(tmp_path / f"gpt{suffix}", tmp_path / "out", tokenizer=tokenizer_file)
    wanted = [np.array(weight).astype(np.float32) for weight in model.weights]
    found = list(read_weights(out / "model.h5", load_folder(out).model).values())
    assert len(found) == len(wanted)
    for values in wanted:  # each is somewhere: which is where, the logits of float32 tell
        assert any(np.array_equal(values, there) for there in found)


def test_the_context_s_length(tmp_path, tokenizer_file, capsys):
    nameless = positional_encoding(keras, config=())
    shorter = positional_encoding(keras, config=("max_len",))
    cases = [
        ({"length": None, "positions": nameless()}, None, "give it by --context-length N"),
        ({"length": None, "positions": nameless()}, 9, 9),
        ({"length": None, "positions": shorter(max_len=30)}, None, 30),
        ({"length": None, "positions": shorter(max_len=30)}, 20, 20),
        ({"length": T, "positions": shorter(max_len=30)}, None, T),
        ({"length": T, "positions": nameless()}, None, T),
        ({"length": T, "positions": nameless()}, 50, "has only 12 positions"),
    ]
    for number, (options, given, expected) in enumerate(cases):
        file, out = tmp_path / "gpt.h5", tmp_path / f"out{number}"
        lecture.build(keras, **options).save(file)
        words = ["import", str(file), "--tokenizer", str(tokenizer_file), "--out", str(out)]
        words += ["--context-length", str(given)] if given else []
        status = main(words)
        said = capsys.readouterr()
        if isinstance(expected, str):
            assert status == 2 and expected in said.err and said.err.count("\n") == 1
            assert not out.exists()
        else:
            assert status == 0 and f"context:       {expected} tokens" in said.out
            assert load_folder(out).model.context_length == expected


def test_what_it_says_and_what_can_be_done_with_it(tmp_path, tokenizer_file, capsys):
    file, out = tmp_path / "gpt.keras", tmp_path / "out"
    lecture.build(keras).save(file)
    words = ["import", str(file), "--out", str(out)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "add --tokenizer tokenizer.pkl" in said and said.count("\n") == 1
    assert main([*words, "--tokenizer", str(tmp_path / "no.pkl")]) == 2
    assert "no such tokenizer file" in capsys.readouterr().err
    assert main([*words, "--tokenizer", str(tokenizer_file)]) == 0
    said = capsys.readouterr().out
    count = f"{load_folder(out).model.parameter_count:,} parameters"
    for part in [
        ".keras (Keras .keras)",
        "2 layers of width 16, 2 heads",
        count,
        "tokenizer:     word",
    ]:
        assert part in said
    assert "assumed:       the code of" in said and "sine in the even places" in said
    assert main(["generate", "he was", "--model", str(out), "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("he was")
    assert main(["summary", "--model", str(out)]) == 0


def test_other_verbs_say_how_a_model_folder_is_made(tmp_path, capsys):
    file = tmp_path / "gpt.h5"
    lecture.build(keras).save(file)
    capsys.readouterr()
    for words in (["generate", "he was", "--model"], ["finetune", "--data", "x", "--base"]):
        assert main([*words, str(file)]) == 2
        said = capsys.readouterr().err
        assert f"minigpt import {file} --tokenizer tokenizer.pkl" in said


def test_tokenizers(tmp_path, tokenizer_file):
    file = tmp_path / "gpt.h5"
    lecture.build(keras).save(file)
    large = tmp_path / "large.pkl"
    words = " ".join(f"word{i}" for i in range(60))
    large.write_bytes(train_tokenizer("word", [words], 60).to_bytes())
    with pytest.raises(ModelFolderError, match="its tokenizer has ids up to 59, but its token"):
        import_model(file, tmp_path / "out", tokenizer=large)
    (tmp_path / "bad.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match="bad"):
        import_model(file, tmp_path / "out", tokenizer=tmp_path / "bad.pkl")
    with pytest.raises(ConfigError, match="--tokenizer is for Keras files"):
        import_model(tmp_path, tmp_path / "out", tokenizer=tokenizer_file)
    assert not (tmp_path / "out").exists()
    characters = tmp_path / "char.pkl"
    characters.write_bytes(train_tokenizer("char", ["he was\n"], V).to_bytes())
    folder = load_folder(import_model(file, tmp_path / "char", tokenizer=characters))
    assert folder.start_ids == folder.tokenizer.encode("\n").tolist()
    import tokenizers

    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"he": 0, "was": 1}, "he"))
    backend.save(str(tmp_path / "tokenizer.json"))
    out = import_model(file, tmp_path / "json", tokenizer=tmp_path / "tokenizer.json")
    assert load_folder(out).tokenizer.encode("he was").tolist()[0] == 0


def test_bad_files_are_told_before_tensorflow_is_imported(tmp_path, tokenizer_file):
    lecture.build(keras, use_causal_mask=False).save(tmp_path / "gpt.h5")
    words = ["import", str(tmp_path / "gpt.h5"), "--out", str(tmp_path / "out")]
    words += ["--tokenizer", str(tokenizer_file)]
    code = (
        f"import sys\nfrom minigpt_tf.__main__ import main\nassert main({words}) == 2\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "is called without use_causal_mask=True" in done.stderr
