"""OpenAI's checkpoints: the same model as from Hugging Face's files of the same weights."""

import json
import shutil

import h5py
import numpy as np
import pytest

from minigpt_tf import import_model
from minigpt_tf.errors import MiniGPTError
from minigpt_tf.inference.folder import load_folder
from tests.interop import checkpoints
from tests.interop.checkpoints import VOCABULARY, change_json
from tests.interop.test_huggingface_tokenizer import write_byte_pairs

SIZES = {"n_vocab": VOCABULARY, "n_ctx": 20, "n_embd": 24, "n_head": 3, "n_layer": 2}


def openai_tensors(model):
    """OpenAI's names and shapes of the weights of a GPT2LMHeadModel."""
    tensors = {}
    for name, parameter in model.named_parameters():
        words = name.removeprefix("transformer.").split(".")
        if words[0] == "h":
            words = [f"h{words[1]}", *words[2:]]
        kernel = words[-1] == "weight" and words[-2].startswith("c_")
        norm = words[-2].startswith("ln")
        last = {"weight": "g" if norm else "w", "bias": "b"}[words[-1]]
        words = words[:-1] if words[0] in ("wte", "wpe") else [*words[:-1], last]
        values = parameter.detach().numpy()
        tensors["/".join(["model", *words])] = values[None] if kernel else values
    assert len(tensors) == len(list(model.parameters()))
    return tensors


def write_checkpoint(folder, tensors, name="model.ckpt"):
    """A checkpoint in TensorFlow's second format, as its Saver writes it."""
    import tensorflow as tf

    folder.mkdir(exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(folder / name),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(values) for values in tensors.values()],
    )
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{name}"\n')
    change_json(folder / "hparams.json", **SIZES)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The same weights in a Hugging Face folder and in OpenAI's."""
    folder = tmp_path_factory.mktemp("pair")
    model = checkpoints.gpt2(folder / "hf")
    write_checkpoint(folder / "openai", openai_tensors(model))
    write_byte_pairs(folder / "openai", ("encoder.json", "vocab.bpe"))
    vocabulary = json.loads((folder / "openai" / "encoder.json").read_text())
    change_json(folder / "openai" / "encoder.json", **{**vocabulary, "<|endoftext|>": 258})
    return folder


@pytest.fixture
def copy(pair, tmp_path):
    """OpenAI's folder, to damage."""
    return shutil.copytree(pair / "openai", tmp_path / "copy")


def test_it_is_the_same_model(pair, tmp_path):
    folders = [import_model(pair / kind, tmp_path / kind) for kind in ("hf", "openai")]
    contents = [load_folder(folder) for folder in folders]
    assert contents[0].model == contents[1].model
    weights = []
    for folder in folders:
        with h5py.File(folder / "model.h5") as file:
            found = {}
            file.visititems(lambda name, item, found=found: found.update({name: item}))
            weights.append(
                {name: item[()] for name, item in found.items() if hasattr(item, "shape")}
            )
    assert weights[0].keys() == weights[1].keys() and len(weights[0]) > 20
    for name in weights[0]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name])
    text = "the theatre<|endoftext|>"
    assert (
        contents[0].tokenizer.encode(text).tolist() == contents[1].tokenizer.encode(text).tolist()
    )
    assert contents[1].tokenizer.end_ids == {258} and contents[1].start_ids == [258]


def test_gpt2s_tokenizer_is_found_where_the_folder_has_none(copy, tmp_path, gpt2_files):
    """It has more ids than this tiny model, which is told."""
    (copy / "encoder.json").unlink()
    with pytest.raises(MiniGPTError, match="ids up to 50256, but its token embedding has 300"):
        import_model(copy, tmp_path / "out")


def test_a_table_of_positions_is_cut(pair, tmp_path):
    whole = load_folder(import_model(pair / "openai", tmp_path / "whole"))
    cut = load_folder(import_model(pair / "openai", tmp_path / "cut", context_length=8))
    assert (whole.model.context_length, cut.model.context_length) == (20, 8)
    path = "model_weights/position_encoding/position_encoding/embeddings"
    with h5py.File(whole.path / "model.h5") as one, h5py.File(cut.path / "model.h5") as other:
        np.testing.assert_array_equal(one[path][:8], other[path][:])
    with pytest.raises(MiniGPTError, match=r"context_length=21: .* has only 20 positions"):
        import_model(pair / "openai", tmp_path / "longer", context_length=21)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n_layer": 3}, r"lacks the tensor model/h2/ln_1/g"),
        ({"n_layer": 1}, r"has, beyond its architecture, the tensor model/h1"),
        ({"n_embd": 48}, r"has shape \(300, 24\), the configuration needs \(300, 48\)"),
        ({"n_head": 5}, r"hparams\.json: .*num_heads=5"),
        ({"n_vocab": None}, r"hparams\.json: lacks n_vocab"),
        ({"n_vocab": "many"}, r"hparams\.json: n_vocab='many': expected a number"),
    ],
)
def test_sizes_that_do_not_fit(copy, tmp_path, values, words):
    change_json(copy / "hparams.json", **values)
    with pytest.raises(MiniGPTError, match=words):
        import_model(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_checkpoints(copy, tmp_path):
    for file in copy.glob("model.ckpt.*"):
        shutil.copy(file, copy / file.name.replace("model", "second"))
    (copy / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/second.ckpt"\n')
    assert import_model(copy, tmp_path / "out").is_dir()
    (copy / "checkpoint").unlink()
    with pytest.raises(MiniGPTError, match=r"one checkpoint.* found model\.ckpt, second\.ckpt"):
        import_model(copy, tmp_path / "other")


def test_integers_are_no_weights(copy, tmp_path):
    write_checkpoint(copy, {"model/wte": np.zeros((300, 24), np.int64)})
    with pytest.raises(MiniGPTError, match="model/wte holds int64; known are float32"):
        import_model(copy, tmp_path / "out")


def test_a_damaged_checkpoint_is_told_in_one_sentence(copy, tmp_path):
    random, refused = np.random.default_rng(0), 0
    for pattern in ("*.index", "*.data-*", "hparams.json", "encoder.json"):
        (file,) = copy.glob(pattern)
        content = file.read_bytes()
        for _ in range(15):
            damaged = bytearray(content)
            for place in random.integers(0, len(content), 3):
                damaged[place] = random.integers(256)
            if random.random() < 0.3:
                damaged = damaged[: random.integers(len(damaged))]
            file.write_bytes(damaged)
            try:
                import_model(copy, tmp_path / "out", overwrite=True)
            except MiniGPTError as error:
                refused += 1
                assert "\n" not in str(error)
        file.write_bytes(content)
    assert refused > 30
