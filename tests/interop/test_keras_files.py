"""`minigpt import gpt.h5`: notebooks' models, ours and the lecture's own, against Keras itself."""

import keras
import numpy as np
import pytest

from minigpt_tf import import_model
from minigpt_tf.inference.engine import Engine
from minigpt_tf.modelfolder import load_folder
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.interop import lecture
from tests.interop.lecture import T, V, spread

TEXT = "he was a mathematician and he was born in the town of erode . who was he"


@pytest.fixture
def tokenizer_file(tmp_path):
    file = tmp_path / "tokenizer.pkl"
    file.write_bytes(train_tokenizer("word", [TEXT], V).to_bytes())
    return file


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
