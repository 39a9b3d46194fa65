"""Datasets of plain files are h5py's; what is not plain is left to h5py."""

import random

import h5py
import numpy as np
import pytest

from minigpt_tf.errors import ModelFolderError
from minigpt_tf.storage.hdf5 import open_datasets
from minigpt_tf.storage.plain_hdf5 import NotPlain, plain_datasets

VALUES = np.arange(24, dtype="<f4").reshape(4, 6)


def datasets_of(path):
    """By this reader, as arrays."""
    with open(path, "rb", buffering=0) as file:
        return {name: item[...] for name, item in plain_datasets(file, "model_weights").items()}


def expected(path):
    """By h5py."""
    found = {}
    with h5py.File(path) as file:
        file["model_weights"].visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def write(path, make, **settings):
    with h5py.File(path, "w", **settings) as file:
        make(file.create_group("model_weights"))
    return path


def test_a_trained_model(trained_folder):
    found = datasets_of(trained_folder / "model.h5")
    assert len(found) > 20
    assert_same(found, expected(trained_folder / "model.h5"))


def test_many_groups_types_and_shapes(tmp_path):
    def make(group):
        for i in range(300):  # more than a node of the tree of names has
            below = group.create_group(f"layer {i}/{'x' * i}")
            below.attrs["note"] = "an attribute" * i
            for k, dtype in enumerate(("<f2", "<f4", "<f8")):
                shape = (3,) * (i % 5)
                below[f"{k}"] = np.full(shape, i / 8, dtype)

    path = write(tmp_path / "a.h5", make)
    found = datasets_of(path)
    assert len(found) == 900
    assert_same(found, expected(path))


def test_rows(tmp_path):
    path = write(tmp_path / "a.h5", lambda group: group.create_dataset("a", data=VALUES))
    with open_datasets(path, "model_weights") as found:
        for rows in (slice(None), slice(1, 3), slice(3, 99), slice(2, 2)):
            np.testing.assert_array_equal(found["a"][rows], VALUES[rows])
        assert np.asarray(found["a"], dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize(
    "make",
    [
        lambda group: group.create_dataset("a", data=VALUES, chunks=(2, 3)),
        lambda group: group.create_dataset("a", data=VALUES, compression="gzip"),
        lambda group: group.create_dataset("a", data=VALUES, maxshape=(None, 6)),
        lambda group: group.create_dataset("a", data=VALUES.astype(">f4")),
        lambda group: group.create_dataset("a", data=VALUES.astype("i4")),
        lambda group: group.create_dataset("a", data=h5py.Empty("f4")),
        lambda group: group.create_dataset("a", (4, 6), "f4"),  # never written
        lambda group: group.create_dataset("a", (4, 6), "f4", external=[("b", 0, 96)]),
        lambda group: group.__setitem__("a", h5py.SoftLink("/b")),
        lambda group: group.__setitem__("a", h5py.ExternalLink("b.h5", "/b")),
        lambda group: group.__setitem__("a", group),
        lambda group: group.create_group("é"),
        lambda group: group.__setitem__("a", group.create_group("b")),
        lambda group: group.file.__setitem__("model", np.dtype("f4")),
    ],
)
def test_what_is_not_plain_is_left_to_h5py(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.h5", make)
    if "model" in h5py.File(path):  # outside of the group: not looked at
        assert datasets_of(path) == {}
        return
    with pytest.raises(NotPlain):
        datasets_of(path)


def test_newer_versions_of_the_format_are_left_to_h5py(tmp_path):
    path = write(tmp_path / "a.h5", lambda group: group.create_dataset("layer/a", data=VALUES))
    newer = write(
        tmp_path / "b.h5",
        lambda group: group.create_dataset("layer/a", data=VALUES),
        libver="latest",
    )
    with pytest.raises(NotPlain):
        datasets_of(newer)
    for file in (path, newer):
        with open_datasets(file, "model_weights") as found:
            np.testing.assert_array_equal(found["layer/a"][...], VALUES)
        with open_datasets(file, "absent") as found:
            assert found is None


def test_damaged_files_are_refused_or_read_as_h5py_does(tmp_path):
    def make(group):
        group["layer/kernel"] = VALUES
        group["layer/bias"] = VALUES[0]
        group.attrs["names"] = ["layer"]

    path = write(tmp_path / "a.h5", make)
    whole, draw = path.read_bytes(), random.Random(0)
    read = 0
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            found = datasets_of(path)
        except NotPlain:
            continue
        read += 1
        assert all(len(values.tobytes()) <= len(whole) for values in found.values())
    assert read > 50  # the values, and what nobody reads
    for length in range(0, len(whole), 200):
        path.write_bytes(whole[:length])
        with pytest.raises(NotPlain):
            datasets_of(path)


def test_a_file_that_is_cut_short_meanwhile(tmp_path):
    path = write(tmp_path / "a.h5", lambda group: group.create_dataset("a", data=VALUES))
    with (
        pytest.raises(ModelFolderError, match="is damaged"),
        open_datasets(path, "model_weights") as found,
    ):
        path.write_bytes(b"")
        found["a"][...]
