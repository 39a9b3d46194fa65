"""Which models the recognizer takes for which, and what it says to those that it refuses."""

import copy
import dataclasses
import json
import random

import keras
import numpy as np
import pytest

from minigpt_tf.config.presets import PRESETS
from minigpt_tf.errors import ModelFolderError
from minigpt_tf.inference.weights import weight_shapes, weights_of
from minigpt_tf.interop.keras_files.layer_weights import live_weights, shapes_of
from minigpt_tf.interop.keras_files.recognition import recognize
from minigpt_tf.model import build_gpt_model, build_training_model
from tests.conftest import tiny_config
from tests.inference.test_engine import random_config
from tests.interop import lecture
from tests.model.test_gpt import shaken


def described(model):
    return json.loads(model.to_json())


def recognized(model, **options):
    return recognize(described(model), shapes_of(live_weights(model)), **options)


def distinguishable(config):
    """The configuration without what makes no difference to a model that is made of it."""
    plain = {}
    if config.positions != "rotary":
        plain |= {"rope_theta": 10000.0, "rope_scaling": None}
    if config.tie_embeddings:
        plain["logits_bias"] = False
    return dataclasses.replace(config, **plain)


def check_own(config, model):
    """Asserts that configuration and weights are found again."""
    found = recognized(model)
    assert (found.config, found.head, found.assumptions) == (distinguishable(config), "logits", [])
    variables, wanted = live_weights(model), weights_of(model)
    assert list(found.places) == list(weight_shapes(config)) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(
            found.weight(name, lambda path, i: np.array(variables[path][i])), values
        )
    assert recognize(described(model)).config == found.config  # without the weights' shapes


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("preset", PRESETS)
def test_our_presets(preset, dtype):
    config = tiny_config(preset, vocab_size=30, context_length=12)
    check_own(config, shaken(build_gpt_model(config, dtype=dtype)))
    check_own(config, shaken(build_training_model(config, seed=0, dtype=dtype, remat=True)[0]))


@pytest.mark.parametrize("seed", range(12))
def test_our_switches(seed):
    config = random_config(seed)
    dtype = "mixed_bfloat16" if seed % 3 == 0 else "float32"
    check_own(config, shaken(build_gpt_model(config, dtype=dtype)))


# ---------------------------------------------------------------- what is refused, by its words


@pytest.fixture(scope="module")
def flat():
    """The lecture's model with all layers in one graph, as its configuration."""
    return described(lecture.build(keras, nested=False))


def layers_of(description, class_name):
    """The layers of a class, in order, to be changed."""
    return [item for item in description["config"]["layers"] if item["class_name"] == class_name]


def setting(class_name, number=0, **settings):
    """A change of a layer's settings."""

    def change(description):
        layers_of(description, class_name)[number]["config"].update(settings)

    return change


def called_with(class_name, **arguments):
    """A change of the arguments that a layer is called with."""

    def change(description):
        layers_of(description, class_name)[0]["inbound_nodes"][0]["kwargs"].update(arguments)

    return change


def replaced(class_name, new, number=0, module="keras.layers"):
    """A change of a layer's class."""

    def change(description):
        layer = layers_of(description, class_name)[number]
        layer["class_name"], layer["module"] = new, module

    return change


def tensor(name):
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}


def fed(class_name, argument, source):
    """A layer that takes an argument from another one: (its class, number)."""

    def change(description):
        name = layers_of(description, source[0])[source[1]]["config"]["name"]
        node = layers_of(description, class_name)[0]["inbound_nodes"][0]
        if isinstance(argument, int):
            node["args"][argument] = tensor(name)
        else:
            node["kwargs"][argument] = tensor(name)

    return change


def two_outputs(description):
    dense = layers_of(description, "Dense")[0]["config"]["name"]
    description["config"]["output_layers"] = [
        description["config"]["output_layers"],
        [dense, 0, 0],
    ]


def called_twice(description):
    dense = layers_of(description, "Dense")
    other = dense[2]["config"]["name"]
    text = json.dumps(description).replace(f'["{other}", 0, 0]', '["SHARED", 1, 0]')
    text = text.replace("SHARED", dense[0]["config"]["name"])
    description.clear()
    description.update(json.loads(text))
    first, third = layers_of(description, "Dense")[0], layers_of(description, "Dense")[2]
    first["inbound_nodes"].append(third["inbound_nodes"][0])


REFUSED = {
    "no causal mask": (
        called_with("MultiHeadAttention", use_causal_mask=False),
        "(MultiHeadAttention) is called without use_causal_mask=True",
    ),
    "a mask of one's own": (
        fed("MultiHeadAttention", "attention_mask", ("Embedding", 0)),
        "is given attention_mask",
    ),
    "cross attention": (fed("MultiHeadAttention", 1, ("Embedding", 0)), "cross attention"),
    "value_dim": (setting("MultiHeadAttention", value_dim=8), "has value_dim=8 and key_dim=16"),
    "output_shape": (setting("MultiHeadAttention", output_shape=[8]), "has output_shape=[8]"),
    "sliding window": (setting("MultiHeadAttention", sliding_window=4), "has sliding_window"),
    "heads": (setting("MultiHeadAttention", 1, num_heads=4), "block 1 has num_heads=4, where"),
    "no number": (setting("MultiHeadAttention", num_heads="2"), "has num_heads='2'"),
    "tanh": (setting("Dense", activation="tanh"), "the activation tanh: minigpt_tf's feed-forward"),
    "no activation": (setting("Dense", activation="linear"), "the activation linear"),
    "activation after": (setting("Dense", 1, activation="relu"), "ends a feed-forward with"),
    "lambda activation": (
        setting("Dense", activation={"class_name": "__lambda__", "config": {"value": "4wEA"}}),
        "is a lambda, which holds code",
    ),
    "sigmoid head": (setting("Dense", -1, activation="sigmoid"), "has the activation sigmoid"),
    "another head": (setting("Dense", -1, units=41), "40 rows and its output head 41 outputs"),
    "ff_dim": (setting("Dense", 2, units=64), "block 1 has ff_dim=64, where block 0 has 32"),
    "epsilon": (setting("LayerNormalization", 3, epsilon=1e-3), "has norm_epsilon=0.001, where"),
    "axis": (setting("LayerNormalization", axis=[1]), "over another axis than the last"),
    "rms_scaling": (setting("LayerNormalization", rms_scaling=True), "has rms_scaling"),
    "training": (called_with("Dropout", training=True), "is called with training=True"),
    "Lambda": (replaced("Dropout", "Lambda"), "(Lambda) holds code, which is never run"),
    "BatchNormalization": (
        replaced("LayerNormalization", "BatchNormalization"),
        "(BatchNormalization) is not supported: it mixes the texts of a batch",
    ),
    "LSTM": (replaced("Dense", "LSTM"), "(LSTM) is not supported"),
    "a custom layer": (
        replaced("Dense", "SwiGLU", module="my.code"),
        "(SwiGLU) is a custom class, and what it computes is not in the file",
    ),
    "no positions": (
        replaced("PositionalEncoding", "Dropout"),
        "its blocks do not know the order of the tokens",
    ),
    "tokens and positions": (
        fed("PositionalEncoding", 0, ("InputLayer", 0)),
        "a custom class that takes the token ids",
    ),
    "a residual from elsewhere": (
        fed("Dense", 0, ("Dropout", 0)),
        "but does not compute it from that",
    ),
    "no residual": (fed("LayerNormalization", 0, ("Dropout", 0)), "is where a residual should be"),
    "two outputs": (two_outputs, "it has 2 outputs"),
    "shared weights": (called_twice, "is used 2 times with the same weights"),
    "cycle": (fed("Embedding", 0, ("Dense", 1)), "is its own input"),
    "no such layer": (
        lambda d: layers_of(d, "Dense")[0]["inbound_nodes"][0].update(args=[tensor("x")]),
        "no layer is called 'x'",
    ),
    "input of a picture": (
        setting("InputLayer", batch_shape=[None, 8, 8, 3]),
        "its input has the shape [None, 8, 8, 3]",
    ),
    "odd width": (setting("Embedding", output_dim=15), "sinusoidal positions need an even width"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_engine_cannot_run_is_named(case, flat):
    change, words = REFUSED[case]
    description = copy.deepcopy(flat)
    change(description)
    with pytest.raises(ModelFolderError) as error:
        recognize(description, where="gpt.h5")
    assert str(error.value).startswith("gpt.h5: ") and words in str(error.value)
    assert "\n" not in str(error.value)


def test_heads_that_are_no_heads():
    twice = described(lecture.build(keras, head="softmax layer", nested=False))
    setting("Dense", -1, activation="softmax")(twice)
    with pytest.raises(ModelFolderError, match="is a softmax of an activation: keep only one"):
        recognize(twice)
    tied = described(build_gpt_model(tiny_config("gpt2", vocab_size=30, context_length=12)))
    layers_of(tied, "ReversibleEmbedding")[0]["inbound_nodes"][1]["kwargs"].clear()
    with pytest.raises(ModelFolderError, match="is called without reverse=True"):
        recognize(tied)
    setting("ReversibleEmbedding", tie_weights=False)(tied)
    layers_of(tied, "ReversibleEmbedding")[0]["inbound_nodes"][1]["kwargs"]["reverse"] = True
    with pytest.raises(ModelFolderError, match="has tie_weights=False"):
        recognize(tied)


def test_weights_that_do_not_fit_are_named():
    model = lecture.build(keras, nested=False)
    description, shapes = described(model), shapes_of(live_weights(model))
    dense = next(path for path in shapes if path[0].startswith("dense"))
    for found, words in [
        ([(16, 32)], "the weight block_0/feed_forward_up/bias is missing"),
        ([(16, 32), (33,)], "feed_forward_up/bias has the shape (33,)"),
        ([(16, 32), (32,), (1,)], "has 1 weights that no part of a GPT uses"),
    ]:
        with pytest.raises(ModelFolderError) as error:
            recognize(description, {**shapes, dense: found})
        assert words in str(error.value)
    extra = {**shapes, ("positional_encoding",): [(3, 3)]}
    path = next(path for path in shapes if path[0].startswith("positional"))
    with pytest.raises(ModelFolderError, match="has weights of the shapes"):
        recognize(description, {**shapes, path: [(3, 3)]})
    with pytest.raises(ModelFolderError, match="no part of a GPT uses"):
        recognize(description, {**extra, ("elsewhere",): [(2,)]})


# ---------------------------------------------------------------- what a file may throw at it


def test_damaged_configurations_end_in_one_sentence(flat):
    """Any value in the place of any other: recognized, or refused in words."""
    nested = described(lecture.build(keras))
    pick = random.Random(0)
    junk = [None, 0, -1, 2**40, "x", [], {}, [[]], {"class_name": "x"}, True, 1.5, ["a", 0, 0]]
    refused = 0
    for turn in range(500):
        description = copy.deepcopy(flat if turn % 2 else nested)
        for _ in range(pick.choice([1, 1, 3])):
            parent, key = pick.choice(list(places_in(description)))
            if pick.random() < 0.3 and isinstance(parent, dict):
                parent.pop(key)
            else:
                parent[key] = copy.deepcopy(pick.choice(junk))
        try:
            recognize(description)
        except ModelFolderError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 600
    assert 100 < refused < 500


def places_in(value):
    """(container, key) of every value in nested data."""
    keys = value if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places_in(value[key])


@pytest.mark.parametrize("value", [None, 3, [], "x", {}, {"class_name": "Functional"}])
def test_what_is_no_configuration(value):
    with pytest.raises(ModelFolderError, match="architecture is damaged"):
        recognize(value)


def sequential(*inner, name="s"):
    config = {"name": name, "layers": list(inner)}
    return {"class_name": "Sequential", "config": config}


def test_thousands_of_layers_are_no_trouble():
    """As many as a graph may have, in a chain; recursion would end at a thousand."""
    drops = [{"class_name": "Dropout", "config": {"name": f"d{i}"}} for i in range(20_000)]
    embedding = {"class_name": "Embedding", "config": {"name": "e", "input_dim": 2}}
    with pytest.raises(ModelFolderError, match="ends in the layer 'e'"):
        recognize(sequential(embedding, *drops))
    chain = [{"class_name": "InputLayer", "name": "i", "config": {"name": "i"}}]
    before = "i"
    for i in range(20_000):
        args = [tensor(before)]
        chain.append({"class_name": "Dropout", "config": {"name": f"d{i}"}})
        chain[-1]["inbound_nodes"] = [{"args": args, "kwargs": {}}]
        before = f"d{i}"
    config = {"name": "f", "layers": chain, "input_layers": ["i", 0, 0]}
    config["output_layers"] = [before, 0, 0]
    with pytest.raises(ModelFolderError, match="it ends in the layer 'i'"):
        recognize({"class_name": "Functional", "config": config})


def test_models_that_multiply_are_refused():
    """Each calls the one below a hundred times: 10^16 layers in 20 kB."""
    model = {"class_name": "Dropout", "config": {"name": "d"}}
    for level in range(8):
        calls, before = [], "i"
        for i in range(100):
            calls.append({"args": [tensor(before)], "kwargs": {}})
            calls[-1]["args"][0]["config"]["keras_history"][1] = i - 1 if i else 0
            before = f"m{level}"
        inner = {**model, "name": f"m{level}", "inbound_nodes": calls}
        outer = [{"class_name": "InputLayer", "name": "i", "config": {"name": "i"}}, inner]
        config = {"name": f"m{level + 1}", "layers": outer, "input_layers": ["i", 0, 0]}
        config["output_layers"] = [f"m{level}", 99, 0]
        model = {"class_name": "Functional", "config": config}
    with pytest.raises(ModelFolderError, match="calls more than 200,000 layers"):
        recognize(model)


def test_deep_nesting_is_refused():
    model = {"class_name": "Dropout", "config": {"name": "d"}}
    for i in range(100):
        model = sequential(model, name=f"s{i}")
    with pytest.raises(ModelFolderError, match="nested more than 16 deep"):
        recognize(model)
    value = []
    for _ in range(900):
        value = [value]
    deep = {"class_name": "Dropout", "config": {"name": "d"}}
    deep["inbound_nodes"] = [{"args": value, "kwargs": {}}]
    config = {"name": "f", "layers": [deep], "input_layers": ["d", 0, 0]}
    config["output_layers"] = ["d", 0, 0]
    with pytest.raises(ModelFolderError):
        recognize({"class_name": "Functional", "config": config})
