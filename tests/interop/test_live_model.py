"""A model in a notebook -> text and a model folder, and back to Keras."""

import pickle

import keras
import numpy as np
import pytest

import minigpt_tf as mg
from minigpt_tf.__main__ import main
from minigpt_tf.config.presets import PRESETS
from minigpt_tf.errors import ConfigError, DataError, ModelFolderError
from tests.conftest import tiny_config
from tests.interop import lecture
from tests.interop.lecture import D, T, V, positional_encoding, spread

WORDS = " ".join(f"word{number}" for number in range(V - 3))


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = mg.Tokenizer(oov_token="<OOV>")
    tokenizer.fit_on_texts([WORDS])
    assert tokenizer.vocab_size <= V
    return tokenizer


def outputs(model, ids):
    return keras.ops.convert_to_numpy(model(ids, training=False))


@pytest.mark.parametrize("head", ["softmax", "logits"])
@pytest.mark.parametrize("preset", PRESETS)
def test_our_models_go_to_a_folder_and_come_back(preset, head, tokenizer, tmp_path):
    config = tiny_config(preset, vocab_size=V, context_length=T)
    model = spread(mg.build_gpt_model(config, head=head, seed=1))
    out = mg.save_model_folder(model, tokenizer, tmp_path / "mine")
    loaded = mg.load(out)
    assert (loaded.engine.config.num_heads, loaded.engine.config.positions) == (
        config.num_heads,
        config.positions,
    )
    ids = np.random.default_rng(0).integers(0, V, (2, T))
    np.testing.assert_array_equal(outputs(loaded.keras_model(), ids), outputs(model, ids))
    expected = outputs(model, ids[:1])[0]
    found = loaded.engine.all_logits(ids[0])
    if head == "softmax":
        found = np.exp(found) / np.exp(found).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_generate_text_is_what_the_folder_generates(tokenizer, tmp_path):
    model = spread(mg.build_gpt_model(V, T, D, 2, 32, 2))
    settings = {"temperature": 0.8, "seed": 3, "max_new_tokens": 9}
    said = mg.generate_text(model, tokenizer, "word1 word2", **settings)
    folder = mg.save_model_folder(model, tokenizer, tmp_path / "mine")
    assert said == "word1 word2" + mg.load(folder).generate("word1 word2", **settings).text
    assert len(said.split()) == 11
    with pytest.raises(ConfigError, match="temprature: unknown setting"):
        mg.generate_text(model, tokenizer, "word1", temprature=1.0)


def test_the_lectures_own_model_and_keras_own_tokenizer(tmp_path, capsys):
    from keras.src.legacy.preprocessing.text import Tokenizer

    theirs = Tokenizer(oov_token="<OOV>")
    theirs.fit_on_texts([WORDS])
    model = spread(lecture.build(keras))
    out = mg.save_model_folder(model, theirs, tmp_path / "mine")
    ids = np.arange(T)[None]
    np.testing.assert_allclose(
        outputs(mg.load(out).keras_model(), ids), outputs(model, ids), atol=1e-6
    )
    (tmp_path / "theirs.pkl").write_bytes(pickle.dumps(theirs))
    again = mg.save_model_folder(model, tmp_path / "theirs.pkl", tmp_path / "again")
    assert main(["generate", "word1", "--model", str(again), "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("word1 word")


def test_positions_of_another_kind_are_found_out(tokenizer, tmp_path):
    """A class says that it adds positions; what it computes is not in the model's layers."""
    layer = positional_encoding(keras)()
    table = np.concatenate([layer.table[..., 0::2], layer.table[..., 1::2]], axis=-1)
    layer.table = table  # sines, then cosines
    model = spread(lecture.build(keras, positions=layer))
    with pytest.raises(ModelFolderError, match="computes something else than its layers say"):
        mg.save_model_folder(model, tokenizer, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_what_cannot_be_saved_is_named(tokenizer, tmp_path):
    model = mg.build_gpt_model(V, T, D, 2, 32, 1)
    many = mg.Tokenizer()
    many.fit_on_texts([WORDS + " and a few words more than the model knows"])
    with pytest.raises(
        ModelFolderError, match=f"has {many.vocab_size} ids and the model knows {V}"
    ):
        mg.save_model_folder(model, many, tmp_path / "mine")
    few = mg.Tokenizer(num_words=V - 5)
    few.fit_on_texts([WORDS])
    with pytest.raises(ModelFolderError, match=f"has {V - 5} ids and the model knows {V}"):
        mg.save_model_folder(model, few, tmp_path / "mine")
    with pytest.raises(DataError, match="list is not a tokenizer"):
        mg.save_model_folder(model, ["a"], tmp_path / "mine")
    unfitted = mg.Tokenizer(num_words=V)
    with pytest.raises(DataError):
        mg.save_model_folder(model, unfitted, tmp_path / "mine")
    without_mask = lecture.build(keras, use_causal_mask=False)
    with pytest.raises(ModelFolderError, match="causal"):
        mg.save_model_folder(without_mask, tokenizer, tmp_path / "mine")
    classifier = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ModelFolderError, match="the model: "):
        mg.save_model_folder(classifier, tokenizer, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    out = mg.save_model_folder(model, tokenizer, tmp_path / "mine")
    with pytest.raises(ModelFolderError, match="exists"):
        mg.save_model_folder(model, tokenizer, out)
    mg.save_model_folder(model, tokenizer, out, overwrite=True)


def test_mixed_precision_is_saved_in_float32(tokenizer, tmp_path):
    model = spread(mg.build_gpt_model(V, T, D, 2, 32, 2, dtype="mixed_bfloat16"))
    loaded = mg.load(mg.save_model_folder(model, tokenizer, tmp_path / "mine")).keras_model()
    assert {str(weight.dtype) for weight in loaded.weights} == {"float32"}
    for a, b in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_not_a_keras_model_is_named(tmp_path):
    tokenizer = mg.Tokenizer.from_words(["<OOV>", "he"])
    with pytest.raises(ModelFolderError, match="int is not a Keras model"):
        mg.save_model_folder(5, tokenizer, tmp_path / "a")
    with pytest.raises(ModelFolderError, match="str is not a Keras model"):
        mg.generate_text("gpt.h5", tokenizer, "he")
