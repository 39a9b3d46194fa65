"""What happens inside a model, against Keras's layers, the engine and loops over single numbers."""

import keras
import numpy as np
import pytest

import minigpt_tf as mg
from minigpt_tf.config import MODEL_NAME
from minigpt_tf.config.presets import PRESETS
from minigpt_tf.errors import DataError, ModelFolderError
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.weights import weights_of
from minigpt_tf.inspection.inside import inside_of, most_likely
from minigpt_tf.inspection.opening import Opened
from minigpt_tf.metrics import softmax
from minigpt_tf.model import build_gpt_model
from tests.conftest import SAMPLE, tiny_config

IDS = np.array([3, 1, 4, 1, 5, 9, 2, 6])


def tiny_model(preset, **switches):
    """A model with weights that are far from their first values, norms too."""
    config = tiny_config(preset, vocab_size=40, context_length=12, **switches)
    model = build_gpt_model(config, seed=1)
    random = np.random.default_rng(2)
    for variable in model.weights:
        variable.assign(np.array(variable) + 0.2 * random.standard_normal(variable.shape))
    return config, model


def looked_at(config, model, ids=IDS):
    tokenizer = mg.Tokenizer.from_words([f"w{i}" for i in range(1, 40)])
    return inside_of(Opened(config, weights_of(model), tokenizer), ids)


SWITCHES = [{}, {"num_heads": 4, "num_kv_heads": 2}, {"norm_first": True}, {"activation": "swiglu"}]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("preset", PRESETS)
def test_logits_are_those_of_keras_and_of_the_engine(preset, switches):
    config, model = tiny_model(preset, **switches)
    found = looked_at(config, model)
    of_keras = np.asarray(model.predict(IDS[None], verbose=0)[0])
    np.testing.assert_allclose(found.logits, of_keras, atol=1e-4)
    np.testing.assert_allclose(
        found.logits, Engine(config, weights_of(model)).all_logits(IDS), atol=1e-4
    )
    p = softmax(of_keras.astype(np.float64))
    wanted = p[np.arange(len(IDS) - 1), IDS[1:]]
    np.testing.assert_allclose(np.exp(found.log_probabilities), wanted, atol=1e-4)
    np.testing.assert_allclose(found.lens_of_next[-1], wanted, atol=1e-4)
    order = np.argsort(-p, axis=1, kind="stable")
    np.testing.assert_array_equal(found.lens_ids[-1], order[:, :5])
    np.testing.assert_allclose(
        found.lens_probabilities[-1], np.take_along_axis(p, order[:, :5], axis=1), atol=1e-4
    )
    ranks = [1 + list(order[t]).index(IDS[t + 1]) for t in range(len(IDS) - 1)]
    assert found.ranks.tolist() == ranks


@pytest.mark.parametrize("preset", ["lecture", "gpt2"])
def test_attention_and_residual_are_those_of_keras_s_layers(preset):
    config, model = tiny_model(preset)
    found = looked_at(config, model)
    x = model.get_layer("position_encoding")(model.get_layer("token_embedding")(IDS[None]))
    head = model.get_layer("logits") if not config.tie_embeddings else None
    for layer in range(config.num_layers):
        np.testing.assert_allclose(
            np.linalg.norm(x[0], axis=1), found.residual_norms[layer], rtol=1e-4
        )
        block = model.get_layer(f"block_{layer}")
        inside = block.get_layer(f"block_{layer}_attention")
        given = block.get_layer(f"block_{layer}_attention_norm")(x) if config.norm_first else x
        mixed, weights = inside(given, given, use_causal_mask=True, return_attention_scores=True)
        np.testing.assert_allclose(found.attention[layer], weights[0], atol=1e-4)
        np.testing.assert_allclose(
            found.attention_norms[layer], np.linalg.norm(mixed[0], axis=1), rtol=1e-4
        )
        if config.norm_first:  # the block's own sum: what is left of it is the feed-forward
            added = block(x) - x - mixed
            np.testing.assert_allclose(
                found.feed_forward_norms[layer], np.linalg.norm(added[0], axis=1), rtol=1e-3
            )
        x = block(x)
        if head is not None and not config.norm_first:  # the lens is the head on the stream
            p = softmax(np.asarray(head(x)[0], dtype=np.float64))
            np.testing.assert_allclose(
                found.lens_probabilities[layer + 1], -np.sort(-p, axis=1)[:, :5], atol=1e-4
            )
    np.testing.assert_allclose(np.linalg.norm(x[0], axis=1), found.residual_norms[-1], rtol=1e-4)


def test_rotary_grouped_attention_is_that_of_loops_over_single_numbers():
    config, model = tiny_model("modern", num_heads=4, num_kv_heads=2)
    found, weights = looked_at(config, model), weights_of(model)
    x = weights["token_embedding/embeddings"][IDS].astype(np.float64)
    x /= np.sqrt((x**2).mean(axis=1, keepdims=True) + config.norm_epsilon)
    x *= weights["block_0/attention_norm/scale"]
    half = config.head_dim // 2

    def rotated(vector, position):
        turned = vector.copy()
        for i in range(half):
            angle = position * config.rope_theta ** (-2 * i / config.head_dim)
            a, b = vector[i], vector[i + half]
            turned[i] = a * np.cos(angle) - b * np.sin(angle)
            turned[i + half] = b * np.cos(angle) + a * np.sin(angle)
        return turned

    for head in range(4):
        query = x @ weights["block_0/attention/query/kernel"][:, head]
        key = x @ weights["block_0/attention/key/kernel"][:, head // 2]
        for t in range(len(IDS)):
            scores = [
                np.exp(rotated(query[t], t) @ rotated(key[s], s) / np.sqrt(config.head_dim))
                for s in range(t + 1)
            ]
            np.testing.assert_allclose(
                found.attention[0, head, t, : t + 1], np.array(scores) / sum(scores), atol=1e-5
            )
    assert not np.triu(found.attention, 1).any()


def test_a_folder_a_loaded_model_and_a_keras_model_show_the_same(trained_folder):
    text = "who was ramanujan"
    generator = mg.load(trained_folder)
    found = mg.attention(trained_folder, text)
    assert found.shape == (2, 2, 3, 3)
    np.testing.assert_array_equal(mg.attention(generator, text), found)
    model = generator.keras_model()
    np.testing.assert_allclose(mg.attention(model, text, generator.tokenizer), found, atol=1e-6)
    assert mg.look_inside(str(trained_folder), text).tokens == text.split()


def test_a_model_with_the_lecture_s_softmax_is_read(trained_folder):
    tokenizer = mg.Tokenizer()
    tokenizer.fit_on_texts(["who is hardy"])
    model = mg.build_gpt_model(4, 8, embed_dim=8, num_heads=2, ff_dim=8, num_layers=1)
    found = mg.look_inside(model, "who is hardy", tokenizer)
    probabilities = np.asarray(model(found.ids[None])[0])
    np.testing.assert_allclose(softmax(found.logits), probabilities, atol=1e-5)


def test_one_token_is_enough(trained_folder):
    found = mg.look_inside(trained_folder, "hardy")
    assert found.surprise.shape == (0,) and found.attention.shape == (2, 2, 1, 1)
    assert found.lens_of_next.shape == (3, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the text is empty"),
        (" \n", "the text is empty"),
        ("xylophone zebra", "knows nothing of the text .'xylophone', 'zebra'."),
        ("he was " * 20, "40 tokens, and the model's context 16: leave out 24"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused(text, words, trained_folder):
    with pytest.raises(DataError, match=words):
        mg.look_inside(trained_folder, text)


def test_a_damaged_or_foreign_model_is_refused(folder_copy):
    with pytest.raises(ModelFolderError, match="no such model folder"):
        mg.attention(folder_copy / "none", "who")
    (folder_copy / MODEL_NAME).write_bytes(b"nothing")
    with pytest.raises(ModelFolderError, match=MODEL_NAME):
        mg.attention(folder_copy, "who")
    with pytest.raises(ModelFolderError, match="not a Keras model"):
        mg.attention(SAMPLE.read_text, "who")
    model = mg.build_gpt_model(4, 8, embed_dim=8, num_heads=2, ff_dim=8, num_layers=1)
    with pytest.raises(DataError, match="tokenizer="):
        mg.attention(model, "who")
    with pytest.raises(ModelFolderError, match="do not belong together"):
        mg.attention(model, "who", mg.Tokenizer.from_words(["who"] * 9, num_words=9))
    with pytest.raises(ModelFolderError):
        mg.attention(keras.Sequential([keras.layers.Dense(3)]), "who", mg.Tokenizer())


def test_equal_logits_come_in_the_order_of_their_ids():
    logits = np.random.default_rng(0).integers(0, 6, (50, 30)).astype(np.float32)
    wanted = np.argsort(-logits, axis=1, kind="stable")
    for count in (1, 5, 30, 99):
        found = most_likely(logits, count)
        np.testing.assert_array_equal(
            np.take_along_axis(logits, found, 1), np.take_along_axis(logits, wanted[:, :count], 1)
        )
        assert (np.diff(found)[np.diff(np.take_along_axis(logits, found, 1)) == 0] > 0).all()
