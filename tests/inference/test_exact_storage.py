"""Blocks of imported GGUF files: exact in the engine, and kept in model.exact.h5."""

import errno
import json
import os
import shutil
import tempfile

import gguf
import h5py
import numpy as np
import pytest

from minigpt_tf.config import SamplingConfig
from minigpt_tf.errors import ModelFolderError
from minigpt_tf.inference import weight_layout
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.inference.panels import Storage
from minigpt_tf.inference.weight_layout import lay_out_weights
from minigpt_tf.inference.weights import read_weights
from minigpt_tf.interop.gguf.read_gguf import open_gguf
from minigpt_tf.interop.source import write_model_folder
from minigpt_tf.storage.model_folder import EXACT_NAME
from tests.inference.exact_weights import same_bits
from tests.interop.test_gguf_import import llama_metadata, llama_tensors, write_gguf

GREEDY = SamplingConfig(greedy=True, max_new_tokens=5)
IDS = np.random.default_rng(0).integers(0, 250, 30)
TYPES = {
    "Q8_0": Storage.BLOCKS8,
    "Q4_0": Storage.BLOCKS4,
    "Q4_1": Storage.BLOCKS4,
    "BF16": Storage.BFLOAT16,
}


def gguf_file(path, kind):
    """A tiny Llama with heads of 32, so that no block ends within a head."""
    sizes = {"embedding_length": 64, "feed_forward_length": 96, "attention.head_count": 2}
    sizes |= {"attention.head_count_kv": 1, "rope.dimension_count": 32}
    values = llama_metadata(**{f"llama.{name}": size for name, size in sizes.items()})
    kind = getattr(gguf.GGMLQuantizationType, kind)
    return write_gguf(path, llama_tensors(ff=96, width=64), values, kind=kind)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """By type: the folder of an imported file."""
    folder = tmp_path_factory.mktemp("imported")
    for kind in TYPES:
        write_model_folder(open_gguf(gguf_file(folder / f"{kind}.gguf", kind)), folder / kind)
    return folder


@pytest.fixture
def folder(imported, tmp_path, monkeypatch):
    """A copy of the Q4_1 folder, of which a compact file is made."""
    monkeypatch.setattr(weight_layout, "COMPACT_FROM", 0)
    return shutil.copytree(imported / "Q4_1", tmp_path / "model")


def load(folder):
    return Engine.load(load_folder(folder))


def stamp(folder):
    return (folder / EXACT_NAME).stat().st_mtime_ns


@pytest.mark.parametrize("kind", TYPES)
def test_blocks_of_a_file_stay_blocks_and_give_the_bits_of_float32(
    kind, imported, tmp_path, monkeypatch
):
    folder = load_folder(shutil.copytree(imported / kind, tmp_path / kind))
    full, _ = Engine.load(folder)
    assert not (folder.path / EXACT_NAME).exists()  # so small a model is not worth it
    monkeypatch.setattr(weight_layout, "COMPACT_FROM", 0)
    compact, notice = Engine.load(folder)
    again, _ = Engine.load(folder)
    assert notice == "" and (folder.path / EXACT_NAME).is_file()
    for engine in (compact, again):
        assert {engine.weights.storage(i) for i in range(len(engine.weights.layout))} == {
            TYPES[kind]
        }
        assert same_bits(engine.all_logits(IDS), full.all_logits(IDS))
    bits = {"Q8_0": 8.5, "Q4_0": 5, "Q4_1": 5, "BF16": 16}[kind]
    assert compact.weights.panels.nbytes < 1.2 * bits / 32 * full.weights.panels.nbytes


def test_the_file_is_made_at_the_first_use_and_read_at_the_second(folder, monkeypatch):
    first, _ = load(folder)
    made = stamp(folder)

    def refused(*arguments):
        raise AssertionError("it is read, and not made again")

    monkeypatch.setattr("minigpt_tf.inference.stored_weights.lay_out_weights", refused)
    second, notice = load(folder)
    assert stamp(folder) == made and notice == "" and not list(folder.glob(".saving*"))
    for name in ("panels", "biases", "norms", "positions", "layout"):
        assert np.array_equal(getattr(first.weights, name), getattr(second.weights, name))


def test_it_is_made_anew_when_the_model_changes(folder, imported):
    load(folder)
    made = stamp(folder)
    shutil.copyfile(imported / "Q8_0" / "model.h5", folder / "model.h5")
    with pytest.raises(ModelFolderError, match=r"model.h5: is damaged or of another model"):
        load(folder)
    shutil.copyfile(imported / "Q8_0" / "config.json", folder / "config.json")
    found, _ = load(folder)
    assert stamp(folder) != made and found.weights.storage(1) == Storage.BLOCKS8
    expected = lay_out_weights(read_weights(folder / "model.h5", found.config), found.config, "")
    assert np.array_equal(found.weights.panels, expected.panels)


def rewritten(**changes):
    def change(path):
        with h5py.File(path, "r+") as file:
            about = json.loads(file["about"][()].tobytes())
            assert set(changes) <= set(about)
            del file["about"]
            file["about"] = np.frombuffer(json.dumps(about | changes).encode(), np.uint8)

    return change


def without(name):
    def change(path):
        with h5py.File(path, "r+") as file:
            del file[name]

    return change


def larger_than_it_is(path):
    with h5py.File(path, "r+") as file:
        del file["panels"]
        file.create_dataset("panels", shape=(10**15,), dtype=np.uint8, chunks=(2**20,))


def not_numbers(path):
    with h5py.File(path, "r+") as file:
        file["norms"][0] = np.nan


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:3000]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not HDF5"),
    "absent": lambda path: path.unlink(),
    "another format": rewritten(format=1),
    "a newer format": rewritten(format=99),
    "no format": rewritten(format="two"),
    "another model": rewritten(model={}),
    "of another model.h5": rewritten(source_sha256="0" * 64),
    "an unknown storage": rewritten(storages=[9] * 12),
    "another storage": rewritten(storages=[int(Storage.FLOAT32)] * 12),
    "too few storages": rewritten(storages=[3]),
    "too many storages": rewritten(storages=[3] * 100),
    "inputs as int8": rewritten(integers=True),
    "float32 with inputs as int8": rewritten(integers=True, storages=[0] * 12),
    "no panels": without("panels"),
    "no norms": without("norms"),
    "lying about its size": larger_than_it_is,
    "not numbers": not_numbers,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_not_sound_is_made_anew(damage, folder):
    before, _ = load(folder)
    DAMAGES[damage](folder / EXACT_NAME)
    after, notice = load(folder)
    assert notice == "" and same_bits(after.all_logits(IDS), before.all_logits(IDS))
    assert np.array_equal(after.weights.panels, before.weights.panels)
    made = stamp(folder)
    load(folder)
    assert stamp(folder) == made


def test_an_exact_file_in_the_place_of_the_int8_file_is_not_used(folder):
    load(folder)
    shutil.copyfile(folder / EXACT_NAME, folder / "model.int8.h5")
    found, _ = Engine.load(load_folder(folder), "int8")
    assert found.weights.integers and found.weights.storage(1) == Storage.BLOCKS8


def test_a_folder_that_cannot_be_written_to_is_used_all_the_same(folder, monkeypatch):
    def refused(*arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "mkdtemp", refused)
    generator = TextGenerator.load(folder)
    assert "compact weights could not be kept for the next time" in generator.notice
    assert "Permission denied" in generator.notice
    assert generator.generate("ab", GREEDY).ids
    assert not (folder / EXACT_NAME).exists()
    assert generator.engine.weights.storage(1) == Storage.BLOCKS4


def test_a_model_that_takes_the_folder_leaves_no_compact_file_of_the_one_before(folder, imported):
    load(folder)
    write_model_folder(open_gguf(imported / "Q8_0.gguf"), folder, overwrite=True)
    assert not (folder / EXACT_NAME).exists()
    assert load(folder)[0].weights.storage(1) == Storage.BLOCKS8
