"""No permission, too little memory and damage are told apart, by every loader."""

import json
import struct

import pytest

from minigpt_tf import ModelConfig, ModelFolderError, load_adapter
from minigpt_tf.classification.head import load_head
from minigpt_tf.interop.huggingface import read_safetensors
from minigpt_tf.interop.keras_files.files import open_keras_file
from minigpt_tf.storage.hdf5 import open_hdf5
from minigpt_tf.storage.json_files import LARGEST, read_object
from minigpt_tf.storage.reading import LARGEST_HEADER, why_unreadable


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(13, "x"), "f: cannot be read: Permission denied"),
        (ValueError("I/O error: Permission denied (os error 13)"), "cannot be read: Permission"),
        (OSError("Unable to open (memory allocation failed)"), "f: is odd"),  # a size in it lies
        (RuntimeError("std::bad_alloc"), "not enough memory to read it"),
        (OSError("Unable to open file (bad superblock)"), "f: is odd (Unable to open file (bad"),
        (EOFError(), "f: is odd (EOFError)"),
    ],
)
def test_the_reasons(error, line):
    assert line in why_unreadable("f", error, "is odd")


def read_folder_of_head(file):
    load_head(file.parent, 8)


def open_as_hdf5(file):
    with open_hdf5(file):
        pass


LOADERS = {
    "classifier.safetensors": read_folder_of_head,
    "adapter.safetensors": lambda file: load_adapter(file, ModelConfig()),
    "model.safetensors": read_safetensors.open_file,
    "model.h5": open_as_hdf5,
    "model.keras": open_keras_file,
    "config.json": read_object,
}


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize(
    ("error", "line"),
    [
        (None, "is damaged"),
        (MemoryError(), "not enough memory"),
        (OSError(5, "Input/output error"), "cannot be read: Input/output error"),
    ],
)
def test_each_loader_tells_them_apart(tmp_path, monkeypatch, name, error, line):
    import builtins
    import zipfile

    import h5py
    import safetensors

    file = tmp_path / name
    file.write_bytes(b"PK\3\4" if name.endswith("keras") else b"\1")

    def fail(*arguments, **options):
        raise error

    if error is not None:
        for module, what in ((h5py, "File"), (safetensors, "safe_open"), (zipfile, "ZipFile")):
            monkeypatch.setattr(module, what, fail)
        if name == "config.json":
            monkeypatch.setattr(builtins, "open", fail)
    if name == "config.json" and isinstance(error, MemoryError):
        with pytest.raises(MemoryError):  # the last line of defense has the words
            LOADERS[name](file)
        return
    with pytest.raises(ModelFolderError, match=line) as caught:
        LOADERS[name](file)
    assert str(caught.value).startswith(str(tmp_path))


def test_json_is_bounded_before_it_is_parsed(tmp_path):
    file = tmp_path / "config.json"
    with open(file, "wb") as stream:
        stream.truncate(LARGEST + 1)
    with pytest.raises(ModelFolderError, match="is larger than the 32 MiB that are read"):
        read_object(file)
    for content, reason in (
        (b"[" * 100_000, "is damaged"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is damaged: Exceeds the limit"),
        (b'{"a": "\\ud83d"}', "is damaged"),
        (b"\xff", "is damaged"),
        (b"3", "expected an object"),
    ):
        file.write_bytes(content)
        with pytest.raises(ModelFolderError, match=reason):
            read_object(file)


def test_headers_of_tensors_are_bounded(tmp_path):
    file = tmp_path / "adapter.safetensors"
    with open(file, "wb") as stream:
        stream.write(struct.pack("<Q", LARGEST_HEADER + 1))
        stream.truncate(LARGEST_HEADER + 100)
    with pytest.raises(ModelFolderError, match="its header is longer"):
        load_adapter(file, ModelConfig())
    deep = json.dumps({"__metadata__": {"rank": "[" * 100_000}}).encode()
    file.write_bytes(struct.pack("<Q", len(deep)) + deep)
    with pytest.raises(ModelFolderError, match="is damaged or not an adapter"):
        load_adapter(file, ModelConfig())
