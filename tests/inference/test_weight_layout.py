"""int8 weights: their arithmetic, and the file they are kept in."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest

from minigpt_tf.config import EngineConfig, SamplingConfig
from minigpt_tf.config.presets import PRESETS
from minigpt_tf.errors import ModelFolderError
from minigpt_tf.inference import stored_weights, weight_layout
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.inference.weight_layout import lay_out_weights
from minigpt_tf.inference.weights import weights_of
from minigpt_tf.model import build_gpt_model
from tests.conftest import tiny_config
from tests.model.test_gpt import shaken


def rounded(matrix):
    """Each 32 inputs of a row rounded to 8 bits, in float64 but for the scale."""
    result = np.empty_like(matrix)
    for first in range(0, matrix.shape[1], 32):
        part = matrix[:, first : first + 32].astype(np.float64)
        d = np.float16(np.abs(part).max(axis=1, keepdims=True) / 127).astype(np.float64)
        result[:, first : first + 32] = np.rint(part / np.where(d > 0, d, 1)).clip(-127, 127) * d
    return result


def rounded_weights(weights):
    """Named weights rounded to 8 bits, worked out from their names."""
    result = {}
    for name, weight in weights.items():
        part, kind = name.split("/")[-2:]
        result[name] = weight
        if kind == "embeddings" and part != "position_encoding":
            result[name] = rounded(weight)
        if kind == "kernel" and part == "attention_output":  # blocks end at the end of a head
            result[name] = np.stack([rounded(head.T).T for head in weight])
        elif kind == "kernel":
            result[name] = rounded(weight.reshape(len(weight), -1).T).T.reshape(weight.shape)
    return result


@pytest.mark.parametrize("preset", PRESETS)
def test_int8_matrices_are_rounded_by_blocks_and_inputs_too(preset):
    config = tiny_config(preset, vocab_size=40, context_length=24)
    model = shaken(build_gpt_model(config, seed=1))
    weights = weights_of(model)
    engine = Engine(config, lay_out_weights(weights, config, "test", "int8"))
    exact = Engine(config, lay_out_weights(rounded_weights(weights), config, "test"))
    for index in range(len(engine.weights.layout)):
        np.testing.assert_allclose(
            engine.weights.matrix(index), exact.weights.matrix(index), rtol=1e-6, atol=1e-9
        )
    ids = np.random.default_rng(0).integers(0, 40, 20)
    expected = exact.all_logits(ids)  # with inputs in float32
    difference = np.abs(engine.all_logits(ids) - expected)
    assert 0 < difference.max() < 0.1 * np.abs(expected).max()


def test_a_row_of_zeros_stays_zero():
    config = tiny_config("gpt2", vocab_size=40, context_length=24)
    weights = weights_of(build_gpt_model(config, seed=1))
    weights["token_embedding/embeddings"][3] = 0
    laid_out = lay_out_weights(weights, config, "test", "int8")
    assert not laid_out.rows(0, [3]).any() and np.isfinite(laid_out.matrix(0)).all()


INT8 = EngineConfig(quantize="int8")
GREEDY = SamplingConfig(greedy=True, max_new_tokens=5)


def stamp(folder):
    return (folder / "model.int8.h5").stat().st_mtime_ns


def test_the_int8_file_is_made_once(folder_copy):
    first = TextGenerator.load(folder_copy, INT8)
    made = stamp(folder_copy)
    second = TextGenerator.load(folder_copy, INT8)
    assert stamp(folder_copy) == made and first.notice == second.notice == ""
    for name in ("panels", "biases", "norms", "positions"):
        ours, theirs = (getattr(g.engine.weights, name) for g in (first, second))
        assert np.array_equal(ours, theirs)
    assert not list(folder_copy.glob(".saving*"))
    exact = TextGenerator.load(folder_copy).engine.weights
    assert first.engine.weights.panels.nbytes < 0.35 * exact.panels.nbytes


def test_a_copied_folder_keeps_its_int8_file(folder_copy):
    TextGenerator.load(folder_copy, INT8)
    os.utime(folder_copy / "model.h5")
    made = stamp(folder_copy)
    TextGenerator.load(folder_copy, INT8)
    assert stamp(folder_copy) == made


def test_other_weights_are_rounded_anew(folder_copy):
    before = TextGenerator.load(folder_copy, INT8)
    made = stamp(folder_copy)

    def enlarge(name, item):
        if isinstance(item, h5py.Dataset) and item.ndim:
            item[...] = item[...] * np.float32(1.5)

    with h5py.File(folder_copy / "model.h5", "r+") as file:
        file["model_weights"].visititems(enlarge)
    description = json.loads((folder_copy / "config.json").read_text())
    del description["files"]["model.h5"]  # by whom it was meant
    (folder_copy / "config.json").write_text(json.dumps(description))
    after = TextGenerator.load(folder_copy, INT8)
    assert stamp(folder_copy) != made
    np.testing.assert_allclose(
        after.engine.weights.matrix(1), 1.5 * before.engine.weights.matrix(1), atol=1e-3
    )


def test_weights_that_change_while_they_are_rounded_are_not_kept(folder_copy, monkeypatch):
    pack = stored_weights.lay_out_weights

    def replaced_meanwhile(*arguments):
        laid_out = pack(*arguments)
        os.utime(folder_copy / "model.h5")
        return laid_out

    monkeypatch.setattr(stored_weights, "lay_out_weights", replaced_meanwhile)
    assert TextGenerator.load(folder_copy, INT8).generate("he was", GREEDY).ids
    assert not (folder_copy / "model.int8.h5").exists()


def test_an_int8_file_that_lies_about_its_size_is_not_read(folder_copy):
    TextGenerator.load(folder_copy, INT8)
    with h5py.File(folder_copy / "model.int8.h5", "r+") as file:
        del file["panels"]
        file.create_dataset("panels", shape=(10**15,), dtype=np.uint8, chunks=(2**20,))
    assert TextGenerator.load(folder_copy, INT8).generate("he was", GREEDY).ids


def test_weights_in_circles_or_in_other_files_are_refused(folder_copy, tmp_path):
    (tmp_path / "numbers").write_bytes(bytes(4 * 500))
    with h5py.File(folder_copy / "model.h5", "r+") as file:
        file["model_weights/loop"] = file["model_weights"]
    with pytest.raises(ModelFolderError, match="beyond its configuration"):
        TextGenerator.load(folder_copy)
    with h5py.File(folder_copy / "model.h5", "r+") as file:
        del file["model_weights/loop"]
        outside = [(str(tmp_path / "numbers"), 0, 2000)]
        group = file["model_weights/logits"]
        file["model_weights"].create_dataset("logits/foreign", (500,), np.float32, external=outside)
        assert len(group) > 0
    with pytest.raises(ModelFolderError, match="foreign lies in another file"):
        TextGenerator.load(folder_copy)


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:3000]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not HDF5"),
    "folderless": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_int8_file_is_made_anew(damage, folder_copy):
    before = TextGenerator.load(folder_copy, INT8).generate("he was", GREEDY)
    DAMAGES[damage](folder_copy / "model.int8.h5")
    after = TextGenerator.load(folder_copy, INT8)
    assert after.generate("he was", GREEDY).ids == before.ids and after.notice == ""
    assert h5py.is_hdf5(folder_copy / "model.int8.h5")


@pytest.mark.parametrize("name", ["panels", "biases", "norms"])
def test_an_int8_file_of_other_shapes_is_made_anew(name, folder_copy):
    TextGenerator.load(folder_copy, INT8)
    with h5py.File(folder_copy / "model.int8.h5", "r+") as file:
        values = file[name][...].ravel()[:-1]
        del file[name]
        file[name] = values
    loaded = TextGenerator.load(folder_copy, INT8).engine.weights
    assert getattr(loaded, name).size == values.size + 1


def test_where_it_cannot_be_kept_generation_goes_on_and_says_so(folder_copy, monkeypatch):
    def full(folder, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored_weights, "reserve_space", full)
    generator = TextGenerator.load(folder_copy, INT8)
    assert "could not be kept for the next time" in generator.notice
    assert "No space left on device" in generator.notice
    assert len(generator.generate("he was", GREEDY).ids) == 5
    assert not (folder_copy / "model.int8.h5").exists()


def test_rounding_hardly_changes_what_a_trained_model_says(trained_folder, tmp_path):
    folder = shutil.copytree(trained_folder, tmp_path / "copy")
    exact, rounded = TextGenerator.load(folder), TextGenerator.load(folder, INT8)
    ids = exact.tokenizer.encode("ramanujan was the son of a clerk in a shop").tolist()
    difference = exact.engine.all_logits(ids) - rounded.engine.all_logits(ids)
    assert 0 < np.abs(difference).max() < 0.05


def test_too_little_memory_is_an_error_that_says_how_much(trained_folder, monkeypatch):
    contents = load_folder(trained_folder)

    def empty(shape, dtype):
        raise MemoryError

    monkeypatch.setattr(weight_layout.np, "empty", empty)
    with pytest.raises(
        ModelFolderError, match=r"model\.h5: there is not enough memory left for its weights"
    ):
        Engine.load(contents)
