"""HDF5 files that lead elsewhere: nothing outside the file is opened, and every search ends."""

import os

import h5py
import numpy as np
import pytest

from minigpt_tf.errors import ModelFolderError
from minigpt_tf.storage.hdf5 import (
    child,
    children,
    datasets,
    open_hdf5,
    text_attribute,
    texts_attribute,
    while_looking,
)


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
    with open_hdf5(path, attributes=True) as file:
        assert text_attribute(file, "text") == "a text"
    first_object = whole.index(b"GCOL\x01") + 16
    size = first_object + 8
    for damaged in (2**64 - 16, 2**40, 2**64 - 15):  # a step of 0; beyond the heap
        content = whole[:size] + damaged.to_bytes(8, "little") + whole[size + 8 :]
        path.write_bytes(content)
        with (
            pytest.raises(ModelFolderError, match="a heap of texts has no end"),
            open_hdf5(path, attributes=True),
        ):
            pass
    free = whole.index(b"a text") + 8  # the rest of the heap is an object of the index 0
    path.write_bytes(whole[: free + 8] + bytes(8) + whole[free + 16 :])
    with (
        pytest.raises(ModelFolderError, match="a heap of texts has no end"),
        open_hdf5(path, attributes=True),
    ):
        pass


def test_what_only_looks_like_a_heap_is_let_be(path):
    with h5py.File(path, "w") as file:
        file.attrs["text"] = "a text"
        file["x"] = np.frombuffer(b"GCOL\x01\0\0\0" + b"\xff" * 8 + bytes(5000), np.uint8)
        file["y"] = np.frombuffer(b"GCOL\x01\0\0\0" + bytes(8) + bytes(5000), np.uint8)
    with open_hdf5(path, attributes=True) as file:
        assert text_attribute(file, "text") == "a text"
