"""HDF5 files that lead elsewhere: nothing outside the file is opened, and every search ends."""

import os
import zlib

import h5py
import numpy as np
import pytest

from minigpt_tf.errors import ModelFolderError
from minigpt_tf.storage import hdf5_judge
from minigpt_tf.storage.hdf5 import (
    check_dataset,
    child,
    children,
    datasets,
    open_hdf5,
    text_attribute,
    texts_attribute,
    while_looking,
)
from minigpt_tf.storage.plain_hdf5 import NotPlain, plain_datasets


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.h5"


@pytest.fixture
def fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    return str(tmp_path / "fifo")


def found(path):
    with open_hdf5(path) as file, while_looking(path):
        return {name: np.array(dataset) for name, dataset in datasets(file)}


def test_datasets_and_attributes(path):
    with h5py.File(path, "w") as file:
        file["a/b/c"], file["d"] = np.arange(6.0).reshape(2, 3), np.float32(1)
        file.attrs["text"], file.attrs["bytes"] = "é", "é".encode()
        file.attrs["names"] = ["x", "y"]
        file.attrs["cut0"], file.attrs["cut1"] = [b"x"], ["y", "z"]
    values = found(path)
    assert set(values) == {"a/b/c", "d"}
    np.testing.assert_array_equal(values["a/b/c"], [[0, 1, 2], [3, 4, 5]])
    with open_hdf5(path) as file:
        assert text_attribute(file, "text") == text_attribute(file, "bytes") == "é"
        assert text_attribute(file, "names") is text_attribute(file, "none") is None
        assert texts_attribute(file, "names") == ["x", "y"]
        assert texts_attribute(file, "cut") == ["x", "y", "z"]
        assert texts_attribute(file, "none") is None
        assert child(file, "a", "b", "c").shape == (2, 3)
        assert child(file, "a", "b", "c", "d") is child(file, "x") is None


def test_groups_that_contain_themselves_are_entered_once(path):
    with h5py.File(path, "w") as file:
        file["group/values"] = [1.0]
        for i in range(30):
            file["group"][f"again{i}"] = file["group"]
    assert list(found(path)) == ["group/values"]


@pytest.mark.parametrize("kind", ["external link", "soft link", "virtual", "external storage"])
def test_what_lies_elsewhere_is_refused_unopened(kind, path, fifo):
    with h5py.File(path, "w") as file:
        if kind == "external link":
            file["x"] = h5py.ExternalLink(fifo, "/x")
        elif kind == "soft link":
            file["x"] = h5py.SoftLink("/y")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((2,), "f4")
            layout[:] = h5py.VirtualSource(fifo, "x", (2,))
            file.create_virtual_dataset("x", layout)
        else:
            file.create_dataset("x", (2,), "f4", external=[(fifo, 0, 8)])
    words = "is only a link" if kind == "soft link" else "lies in another file"
    with pytest.raises(ModelFolderError, match=f"/x {words}"):
        found(path)
    if "link" in kind:
        with open_hdf5(path) as file, pytest.raises(ModelFolderError, match=words):
            list(children(file))


def test_shapes_without_values_are_refused(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (2**40,), "f4")
    with pytest.raises(ModelFolderError, match="the file stores 0 bytes of it"):
        found(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (8,), "f4", chunks=(2**24,), maxshape=(None,))
    with pytest.raises(ModelFolderError, match=r"has the shape \(8,\), but"):
        found(path)
    with h5py.File(path, "w") as file:
        file["x"] = h5py.Empty("f4")
    with pytest.raises(ModelFolderError, match="/x is empty"):
        found(path)


def test_what_is_not_an_hdf5_file(path, fifo, tmp_path):
    for name, words in [
        (fifo, "is not a regular file"),
        (str(tmp_path), "is not a regular file"),
        (str(path), "cannot be read: No such file"),
    ]:
        with pytest.raises(ModelFolderError, match=words), open_hdf5(name):
            pass
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(1000.0)
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFolderError, match="is damaged or not an"):
            found(path)


def test_a_heap_without_end_is_refused(path):
    """One damaged byte lets HDF5 1.14 look for the next object of a heap for ever."""
    with h5py.File(path, "w") as file:
        file.attrs["text"], file["x"] = "a text", np.arange(5000.0)
    whole = path.read_bytes()
    with open_hdf5(path) as file:
        assert text_attribute(file, "text") == "a text"
    first_object = whole.index(b"GCOL\x01") + 16
    size = first_object + 8
    for damaged in (2**64 - 16, 2**40, 2**64 - 15):  # a step of 0; beyond the heap
        content = whole[:size] + damaged.to_bytes(8, "little") + whole[size + 8 :]
        path.write_bytes(content)
        with (
            pytest.raises(ModelFolderError, match="a heap of texts has no end"),
            open_hdf5(path),
        ):
            pass
    free = whole.index(b"a text") + 8  # the rest of the heap is an object of the index 0
    path.write_bytes(whole[: free + 8] + bytes(8) + whole[free + 16 :])
    with (
        pytest.raises(ModelFolderError, match="a heap of texts has no end"),
        open_hdf5(path),
    ):
        pass


def test_what_only_looks_like_a_heap_is_let_be(path):
    with h5py.File(path, "w") as file:
        file.attrs["text"] = "a text"
        file["x"] = np.frombuffer(b"GCOL\x01\0\0\0" + b"\xff" * 8 + bytes(5000), np.uint8)
        file["y"] = np.frombuffer(b"GCOL\x01\0\0\0" + bytes(8) + bytes(5000), np.uint8)
    with open_hdf5(path) as file:
        assert text_attribute(file, "text") == "a text"


def test_a_file_as_keras_writes_it_is_judged_without_another_process(
    path, trained_folder, monkeypatch
):
    monkeypatch.setattr(hdf5_judge, "_judge_by_library", None)
    hdf5_judge._judged.clear()
    with open_hdf5(trained_folder / "model.h5") as file:
        assert "layers" in text_attribute(file, "model_config")
        assert len(texts_attribute(file["model_weights"], "layer_names")) > 4
    with h5py.File(path, "w") as file:
        file["numbers"], file["one"], file["none"] = np.arange(9), 1, np.zeros((0, 3))
        file.attrs["numbers"], file.attrs["texts"] = np.arange(9.0), ["a", "ü" * 99]
        file.attrs["bytes"] = np.array([b"abc", b"d"])
        for number in range(50):
            file.create_group(f"group {number}").attrs["name"] = "x" * number
        file.create_dataset("unwritten", (3,))
        del file["group 7"]
    with open_hdf5(path) as file:
        assert file["numbers"][8] == 8 and texts_attribute(file, "texts") == ["a", "ü" * 99]


def test_other_files_are_read_by_another_process_first(path, monkeypatch):
    asked = []
    run = hdf5_judge.subprocess.run
    monkeypatch.setattr(
        hdf5_judge.subprocess, "run", lambda *a, **k: asked.append(a) or run(*a, **k)
    )
    with h5py.File(path, "w", libver="latest") as file:
        file["x"] = np.arange(5000.0)
        file.create_dataset("packed", data=np.arange(5000), compression="gzip", chunks=(100,))
        for number in range(40):  # beyond what lies in the object itself
            file.attrs[f"text{number}"] = "a text" * number
    assert found(path)["packed"][4999] == 4999
    with open_hdf5(path) as file:
        assert text_attribute(file, "text39") == "a text" * 39
    assert len(asked) == 1  # and then it is known
    whole = path.read_bytes()
    heap = whole.index(b"GCOL\x01") + 24
    path.write_bytes(whole[:heap] + (2**64 - 16).to_bytes(8, "little") + whole[heap + 8 :])
    monkeypatch.setattr(hdf5_judge, "SECONDS", 2)
    with pytest.raises(ModelFolderError, match="takes more than 2 seconds"), open_hdf5(path):
        pass
    monkeypatch.setattr(hdf5_judge.sys, "executable", "/nowhere/python")
    with pytest.raises(ModelFolderError, match="in another process"), open_hdf5(path):
        pass


def test_what_unpacks_to_more_than_its_chunks_is_refused(path):
    """A chunk of 1 MiB that unpacks to 1.5 GiB: HDF5 unpacks all of it."""
    packer, many = zlib.compressobj(9), 1500
    first, again, end = (
        packer.compress(bytes(2**20 * last)) + packer.flush(how)
        for last, how in ((1, zlib.Z_FULL_FLUSH), (1, zlib.Z_FULL_FLUSH), (0, zlib.Z_FINISH))
    )
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", (2**18,), "f4", chunks=(2**18,), compression="gzip")
        data.id.write_direct_chunk((0,), first + again * many + end)
    with pytest.raises(ModelFolderError, match="takes more than 1 GiB"), open_hdf5(path):
        pass


def test_structures_of_any_kind_end(path, fifo):
    """What is damaged or hostile is refused or read, and soon: in the process of the test."""
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("a")
        group["b"] = group["c"] = group["d"] = file["a"]
        layout = h5py.VirtualLayout((2,), "f4")
        layout[:] = h5py.VirtualSource(fifo, "x", (2,))
        file.create_virtual_dataset("v", layout)
        file["soft"], file["other"] = h5py.SoftLink("/soft"), h5py.ExternalLink(fifo, "/x")
        file.create_dataset("e", (2,), "f4", external=[(fifo, 0, 8)])
    with open_hdf5(path) as file, while_looking(path):
        assert list(datasets(child(file, "a"))) == []
        for name in ("v", "soft", "other", "e"):
            with pytest.raises(ModelFolderError, match=r"is only a link|lies in another file"):
                check_dataset(child(file, name))


def test_many_names_of_one_large_object_do_not_take_long(path):
    with h5py.File(path, "w") as file:
        file["x"] = 1.0
        for number in range(25):
            file["x"].attrs[f"a{number}"] = np.zeros(4000)
        for number in range(5000):
            file[f"y{number}"] = file["x"]
    with open(path, "rb", buffering=0) as file, pytest.raises(NotPlain, match="too large"):
        plain_datasets(file, "")
    with open_hdf5(path) as file:  # once is enough for the judge
        assert file["y4999"][()] == 1
