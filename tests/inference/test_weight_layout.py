"""int8 weights: their arithmetic, and the file they are kept in."""

import os
import shutil

import h5py
import numpy as np
import pytest

from minigpt_tf.config import EngineConfig, SamplingConfig
from minigpt_tf.config.presets import PRESETS
from minigpt_tf.errors import ModelFolderError
from minigpt_tf.inference import weight_layout
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.inference.weights import assign_weights, weights_of
from minigpt_tf.model import build_gpt_model
from tests.conftest import tiny_config
from tests.model.test_gpt import logits_of, shaken


def rounded(weights):
    """Named weights rounded to 8 bits for each output, worked out from their names."""
    result = {}
    for name, weight in weights.items():
        part, kind = name.split("/")[-2:]
        result[name] = weight
        if kind == "embeddings" and part == "position_encoding":
            continue
        if kind in ("kernel", "embeddings"):
            inputs = {"embeddings": (1,), "attention_output": (0, 1)}.get(part, (0,))
            inputs = (1,) if kind == "embeddings" else inputs
            scale = np.abs(weight).max(axis=inputs, keepdims=True) / 127
            result[name] = (np.rint(weight / scale) * scale).astype(np.float32)
    return result


@pytest.mark.parametrize("preset", PRESETS)
def test_int8_logits_are_keras_s_with_rounded_weights(preset):
    config = tiny_config(preset, vocab_size=40, context_length=24)
    model = shaken(build_gpt_model(config, seed=1))
    laid_out = weight_layout.lay_out_weights(weights_of(model), config, "test", np.int8)
    assert laid_out.matrices.dtype == np.int8 and np.abs(laid_out.matrices).max() == 127
    assign_weights(model, rounded(weights_of(model)))
    ids = np.random.default_rng(0).integers(0, 40, 20)
    expected = logits_of(model, ids[None])[0]
    engine = Engine(config, laid_out)
    np.testing.assert_allclose(engine.all_logits(ids), expected, atol=2e-4)
    np.testing.assert_allclose(engine.prefill(ids[:5]), expected[4], atol=2e-4)
    np.testing.assert_allclose(engine.decode_step(ids[5]), expected[5], atol=2e-4)


def test_a_row_of_zeros_stays_zero():
    config = tiny_config("gpt2", vocab_size=40, context_length=24)
    weights = weights_of(build_gpt_model(config, seed=1))
    weights["token_embedding/embeddings"][3] = 0
    laid_out = weight_layout.lay_out_weights(weights, config, "test", np.int8)
    assert not laid_out.matrix(0)[3].any() and np.isfinite(laid_out.scales).all()


INT8 = EngineConfig(quantize="int8")
GREEDY = SamplingConfig(greedy=True, max_new_tokens=5)


def stamp(folder):
    return (folder / "model.int8.h5").stat().st_mtime_ns


def test_the_int8_file_is_made_once(folder_copy):
    first = TextGenerator.load(folder_copy, INT8)
    made = stamp(folder_copy)
    second = TextGenerator.load(folder_copy, INT8)
    assert stamp(folder_copy) == made and first.notice == second.notice == ""
    for name in ("matrices", "scales", "biases", "norms", "positions"):
        ours, theirs = (getattr(g.engine.weights, name) for g in (first, second))
        assert np.array_equal(ours, theirs)
    assert not list(folder_copy.glob(".saving*"))
    size = (folder_copy / "model.int8.h5").stat().st_size
    assert size < 0.4 * (folder_copy / "model.h5").stat().st_size


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
    after = TextGenerator.load(folder_copy, INT8)
    assert stamp(folder_copy) != made
    np.testing.assert_allclose(
        after.engine.weights.scales, 1.5 * before.engine.weights.scales, rtol=1e-6
    )


def test_weights_that_change_while_they_are_rounded_are_not_kept(folder_copy, monkeypatch):
    pack = weight_layout.lay_out_weights

    def replaced_meanwhile(*arguments):
        laid_out = pack(*arguments)
        os.utime(folder_copy / "model.h5")
        return laid_out

    monkeypatch.setattr(weight_layout, "lay_out_weights", replaced_meanwhile)
    assert TextGenerator.load(folder_copy, INT8).generate("he was", GREEDY).ids
    assert not (folder_copy / "model.int8.h5").exists()


def test_an_int8_file_that_lies_about_its_size_is_not_read(folder_copy):
    TextGenerator.load(folder_copy, INT8)
    with h5py.File(folder_copy / "model.int8.h5", "r+") as file:
        del file["matrices"]
        file.create_dataset("matrices", shape=(10**15,), dtype=np.int8, chunks=(2**20,))
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


@pytest.mark.parametrize("name", ["matrices", "scales", "norms"])
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

    monkeypatch.setattr(weight_layout, "reserve_space", full)
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
        ModelFolderError, match=r"model\.h5: its weights need 0\.\d\d GiB of memory"
    ):
        Engine.load(contents)
