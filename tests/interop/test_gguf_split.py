"""A GGUF model in several files, as the gguf package splits it."""

import shutil

import gguf
import numpy as np
import pytest

from minigpt_tf.errors import ModelFolderError
from minigpt_tf.interop.gguf.header import read_header
from minigpt_tf.interop.gguf.read_gguf import open_gguf
from tests.interop.test_gguf_import import llama_metadata, llama_tensors, write_gguf


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A model in one file, and in three."""
    whole = write_gguf(tmp_path / "whole.gguf", llama_tensors(), llama_metadata())
    writer = gguf.GGUFWriter
    most = -(-len(llama_tensors()) // 3)
    monkeypatch.setattr(gguf, "GGUFWriter", lambda *a: writer(*a, split_max_tensors=most))
    write_gguf(tmp_path / "m.gguf", llama_tensors(), llama_metadata())
    return whole, sorted(tmp_path.glob("m-*.gguf"))


def test_the_model_is_the_one_of_a_single_file(files):
    whole, parts = files
    assert [part.name for part in parts] == [f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    wanted = open_gguf(whole)
    for part in parts:  # whichever is named
        found = open_gguf(part)
        assert found.config == wanted.config
        assert found.tokenizer.encode("ab cd").tolist() == wanted.tokenizer.encode("ab cd").tolist()
        assert found.tensors.keys() == wanted.tensors.keys()
        for name, tensor in wanted.tensors.items():
            assert np.array_equal(found.tensors[name].read(), tensor.read())


def test_a_missing_file_is_named(files):
    _, parts = files
    parts[1].unlink()
    with pytest.raises(ModelFolderError, match="m-00002-of-00003.gguf: is missing: .* in 3 files"):
        open_gguf(parts[0])


def test_files_of_other_models_are_refused(files, tmp_path):
    _, parts = files
    shutil.copy(parts[0], parts[1])
    with pytest.raises(ModelFolderError, match="says that it is part 1 of 3: its name is another"):
        open_gguf(parts[2])
    renamed = tmp_path / "model.gguf"
    shutil.copy(parts[0], renamed)
    with pytest.raises(ModelFolderError, match="give it its own name again"):
        open_gguf(renamed)


def test_tensors_are_counted(files):
    whole, parts = files
    content = parts[2].read_bytes()
    names = [name for name in read_header(parts[2]).tensors]
    first = next(iter(read_header(parts[0]).tensors))
    last = names[-1]
    padded = first.encode().ljust(len(last))[: len(last)]
    if len(first) == len(last):
        parts[2].write_bytes(content.replace(last.encode(), padded, 1))
        with pytest.raises(ModelFolderError, match="as a part before it has"):
            open_gguf(parts[0])
    key = b"split.tensors.count"
    raw = bytearray(parts[0].read_bytes())
    at = raw.index(key) + len(key) + 4
    raw[at] += 1
    parts[0].write_bytes(raw)
    with pytest.raises(ModelFolderError):
        open_gguf(parts[0])
