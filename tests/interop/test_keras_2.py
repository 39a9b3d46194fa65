"""Files of tf.keras 2.x, which older notebooks wrote: another form of the same graph."""

import json

import keras
import pytest

from minigpt_tf.interop.keras_files.recognition import recognize
from tests.interop import lecture
from tests.interop.lecture import spread
from tests.interop.test_keras_files import check_import


def in_form_of_keras_2(model):
    """A model's configuration with its graph as tf.keras 2 writes it (tf_keras 2.21 was looked at).

    The first tensor of a call bears the further arguments; a nested model's calls count from 1.
    """
    config = model["config"]
    nested = {item["config"]["name"] for item in config["layers"] if "layers" in item["config"]}

    def tensor(value):
        name, call, output = value["config"]["keras_history"]
        return [name, call + (name in nested), output]

    def node(call, attention):
        args = call["args"][0] if isinstance(call["args"][0], list) else call["args"]
        kwargs = {k: v for k, v in call["kwargs"].items() if k not in ("mask", "training")}
        if attention:
            kwargs["value"] = tensor(args.pop())
        entries = [[*tensor(value), {}] for value in args]
        entries[0][3] = kwargs
        return entries

    for layer in config["layers"]:
        layer.pop("module", None), layer.pop("registered_name", None)
        settings = layer["config"]
        settings["dtype"] = "float32"
        if "batch_shape" in settings:
            settings["batch_input_shape"] = settings.pop("batch_shape")
        if layer["class_name"] == "LayerNormalization":
            settings["axis"] = [2]
        attention = layer["class_name"] == "MultiHeadAttention"
        layer["inbound_nodes"] = [node(call, attention) for call in layer["inbound_nodes"]]
        if "layers" in settings:
            in_form_of_keras_2(layer)
    for name in ("input_layers", "output_layers"):
        config[name] = [config[name]]
    return {"class_name": "Functional", "config": config}


@pytest.mark.parametrize("nested", [True, False])
def test_the_older_form_is_the_same_model(nested):
    model = json.loads(lecture.build(keras, nested=nested).to_json())
    new = recognize(model)
    old = recognize(in_form_of_keras_2(model))
    assert (old.config, old.head, old.places) == (new.config, new.head, new.places)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nested": False, "add": "+"},
        {"nested": False, "feed_forward": "sequential", "head": "logits"},
        {"feed_forward": "sequential", "add": "+", "head": "softmax layer"},
        {"pre_norm": True, "head": "activation layer"},
    ],
)
def test_files_of_tf_keras(options, suffix, tmp_path, tokenizer_file):
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    model = spread(lecture.build(tf_keras, **options))
    softmax = options.get("head") != "logits"
    check_import(model, tmp_path / f"gpt{suffix}", tokenizer_file, softmax)
