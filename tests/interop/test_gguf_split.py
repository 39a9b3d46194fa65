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
    with pytest.raises(ModelFolderError, match=r"m-00002-of-00003\.gguf: is missing: .* 3 files"):
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
    _, parts = files
    key = b"split.tensors.count"
    content = bytearray(parts[0].read_bytes())
    content[content.index(key) + len(key) + 4] += 1
    parts[0].write_bytes(content)
    count = len(llama_tensors())
    with pytest.raises(ModelFolderError, match=f"{count} tensors, the first one says {count + 1}"):
        open_gguf(parts[1])


def test_a_tensor_in_two_files_is_refused(files):
    _, parts = files
    names = [list(read_header(part).tensors) for part in parts]
    first, name = next((a, b) for a in names[0] for b in names[1] + names[2] if len(a) == len(b))
    for part in parts[1:]:
        part.write_bytes(part.read_bytes().replace(name.encode(), first.encode(), 1))
    with pytest.raises(ModelFolderError, match="as a part before it has"):
        open_gguf(parts[0])
