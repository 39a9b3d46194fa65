"""Keras files that are damaged, or made to harm: one sentence each, nothing outside is opened."""

import json
import os
import zipfile

import h5py
import keras
import numpy as np
import pytest

from minigpt_tf import import_model
from minigpt_tf.__main__ import main
from minigpt_tf.errors import ModelFolderError
from minigpt_tf.interop.keras_files.files import open_keras_file
from tests.interop import lecture
from tests.interop.lecture import spread


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The bytes of the lecture's model, by format."""
    folder = tmp_path_factory.mktemp("saved")
    model = spread(lecture.build(keras))
    for suffix in (".h5", ".keras"):
        model.save(folder / f"gpt{suffix}")
    return {suffix: (folder / f"gpt{suffix}").read_bytes() for suffix in (".h5", ".keras")}


@pytest.fixture
def file(saved, tmp_path):
    """Writes a sound file; gives its path."""

    def write(suffix):
        (tmp_path / f"gpt{suffix}").write_bytes(saved[suffix])
        return tmp_path / f"gpt{suffix}"

    return write


def refused(path, tokenizer_file=None):
    """What `open_keras_file` or the import of the file says."""
    with pytest.raises(ModelFolderError) as error:
        source = open_keras_file(path)
        assert tokenizer_file is not None, f"{source.path} was accepted"
        import_model(path, path.parent / "out", tokenizer=tokenizer_file)
    assert "\n" not in str(error.value)
    return str(error.value)


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """Writes a .keras file anew, its members {name: content} changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_files_that_are_cut_off(suffix, saved, tmp_path):
    whole = saved[suffix]
    for size in [0, 3, 8, 100, *range(2000, len(whole) - 1, len(whole) // 15)]:
        (tmp_path / "cut").write_bytes(whole[:size])
        assert "damaged" in refused(tmp_path / "cut")


def test_no_keras_model_at_all(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert "is not a regular file" in refused(tmp_path / "fifo")
    assert "cannot be read: No such file" in refused(tmp_path / "nothing")
    (tmp_path / "text").write_text("a text")
    assert "is damaged or not an .h5 file" in refused(tmp_path / "text")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("readme", "x")
    assert "has no model.weights.h5, found readme" in refused(tmp_path / "zip")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]).save_weights(
        tmp_path / "w.weights.h5"
    )
    assert "holds weights alone (9 numbers in 2 arrays)" in refused(tmp_path / "w.weights.h5")


def test_a_compressed_archive_is_read(file, tokenizer_file):
    path = file(".keras")
    plain = open_keras_file(path)
    rewritten(path, lambda members: None, zipfile.ZIP_DEFLATED)
    packed = open_keras_file(path)
    assert list(packed.weights) == list(plain.weights)
    rewritten(file(".keras"), lambda members: None)
    for name, weights in plain.weights.items():
        for wanted, found in zip(weights, packed.weights[name], strict=True):
            np.testing.assert_array_equal(found.read(), wanted.read())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.pop("config.json"), "has no config.json"),
        (lambda m: m.pop("model.weights.h5"), "has no model.weights.h5"),
        (lambda m: m.update({"config.json": b"{"}), "its architecture is damaged"),
        (lambda m: m.update({"config.json": b"[" * 10**6}), "nested too deeply"),
        (lambda m: m.update({"config.json": b'{"a": 1}'}), "a layer has no class_name"),
        (lambda m: m.update({"config.json": b"\xff\xfe"}), "its architecture is damaged"),
        (lambda m: m.update({"config.json": b" " * (2**25 + 1)}), "is larger than 33,554,432"),
        (lambda m: m.update({"model.weights.h5": b"x" * 999}), "is damaged or not an .h5 file"),
    ],
)
def test_archives_with_wrong_members(change, words, file):
    path = file(".keras")
    rewritten(path, change, zipfile.ZIP_DEFLATED)
    assert words in refused(path)


def test_archives_that_lie_of_their_size(file, tmp_path):
    path = file(".keras")
    rewritten(path, lambda m: m.update({"model.weights.h5": bytes(2**24)}), zipfile.ZIP_DEFLATED)
    assert "its model.weights.h5 unpacks to 16,777,216 bytes" in refused(path)
    content = bytearray(file(".keras").read_bytes())
    member = content.rindex(b"model.weights.h5")  # in the archive's directory
    content[member - 22 : member - 18] = (2**31).to_bytes(4, "little")
    content[member - 26 : member - 22] = (2**31).to_bytes(4, "little")
    path.write_bytes(content)
    assert "model.weights.h5 is cut off" in refused(path)


def h5_changes(fifo):
    """What can be done to an .h5 file -> the words."""

    def first(file):
        names = []
        file["model_weights"].visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        return f"model_weights/{names[0]}"

    def link(kind):
        def change(file):
            name = first(file)
            del file[name]
            file[name] = kind

        return change

    def virtual(file):
        name = first(file)
        shape = file[name].shape
        del file[name]
        layout = h5py.VirtualLayout(shape, "f4")
        layout[...] = h5py.VirtualSource(fifo, "x", shape)
        file.create_virtual_dataset(name, layout)

    def shaped(shape, dtype="f4"):
        def change(file):
            name = first(file)
            del file[name]
            file.create_dataset(name, shape, dtype)

        return change

    def config(text):
        return lambda file: file.attrs.__setitem__("model_config", text)

    def unlisted(file):
        layer = next(iter(file["model_weights"]))
        del file["model_weights"][layer].attrs["weight_names"]

    def nan(file):
        file[first(file)][...] = np.nan

    return {
        "external": (link(h5py.ExternalLink(fifo, "/x")), "lies in another file"),
        "soft": (link(h5py.SoftLink("/nowhere")), "is only a link"),
        "virtual": (virtual, "lies in another file"),
        "huge": (shaped((2**20, 2**20)), "but the file stores 0 bytes of it"),
        "another shape": (shaped((3, 3)), "has the shape (3, 3)"),
        "integers": (shaped((lecture.V,), "i4"), "int32"),
        "no weight": (lambda f: f.__delitem__(first(f)), "lacks the weight"),
        "not listed": (unlisted, "does not list its weights"),
        "no config": (lambda f: f.attrs.__delitem__("model_config"), "holds weights alone"),
        "no JSON": (config("{"), "its architecture is damaged"),
        "too deep": (config("[" * 100_000), "nested too deeply"),
        "a number": (config("3"), "its architecture is damaged"),
        "not finite": (nan, "not finite"),
    }


@pytest.mark.parametrize("case", h5_changes("x"))
def test_h5_files_that_lead_elsewhere_or_lie(case, file, tokenizer_file, tmp_path, capsys):
    os.mkfifo(tmp_path / "fifo")
    change, words = h5_changes(str(tmp_path / "fifo"))[case]
    path = file(".h5")
    with h5py.File(path, "r+") as contents:
        change(contents)
    assert words in refused(path, tokenizer_file)
    assert not (tmp_path / "out").exists()
    assert main(["summary", "--model", str(path)]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_links_in_circles_inside_an_archive(file):
    path = file(".keras")
    with zipfile.ZipFile(path) as archive:
        (path.parent / "w.h5").write_bytes(archive.read("model.weights.h5"))
    with h5py.File(path.parent / "w.h5", "r+") as weights:
        for i in range(30):
            weights["layers/dense"][f"again{i}"] = weights["layers"]
    content = (path.parent / "w.h5").read_bytes()
    rewritten(path, lambda members: members.update({"model.weights.h5": content}))
    source = open_keras_file(path)
    assert len(source.weights) == 1 + 2 * 5 + 1


def test_layers_that_the_architecture_does_not_have(file, tokenizer_file):
    path = file(".h5")
    with h5py.File(path, "r+") as contents:
        extra = contents["model_weights"].create_group("extra")
        extra.attrs["weight_names"] = ["w"]
        extra["w"] = np.ones(3, np.float32)
    assert "layer 'extra' has 1 weights that no part of a GPT uses" in refused(path, tokenizer_file)


def test_no_class_that_a_file_names_is_imported(file, tokenizer_file, tmp_path):
    """Not even one whose import would run something."""
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    path = file(".keras")

    def change(members):
        config = json.loads(members["config.json"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "PositionalEncoding":
                layer["module"], layer["registered_name"] = "trap", None
        members["config.json"] = json.dumps(config).encode()

    rewritten(path, change)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        import_model(path, tmp_path / "out", tokenizer=tokenizer_file)
        assert main(["summary", "--model", str(path)]) == 0
