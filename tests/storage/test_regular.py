"""What is not a file is refused at once, wherever a file of a model is expected."""

import os
import shutil

import pytest

from minigpt_tf.classification.head import load_head
from minigpt_tf.config import ModelConfig
from minigpt_tf.errors import DataError, MiniGPTError, ModelFolderError
from minigpt_tf.inference.adapter import load_adapter
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.interop.importing import open_path
from minigpt_tf.interop.license import license_files
from minigpt_tf.storage.regular import lies_within, read_regular
from minigpt_tf.text.tokenizers import load_tokenizer


@pytest.fixture(params=["a FIFO", "a device", "a folder"])
def odd(request, tmp_path):
    """Makes what is not a file at a path."""

    def make(path):
        path.unlink(missing_ok=True)
        if request.param == "a FIFO":
            os.mkfifo(path)
        elif request.param == "a device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
        return path

    return make


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.pkl"])
def test_a_tokenizer(odd, tmp_path, name):
    with pytest.raises(DataError, match="is not a regular file"):
        load_tokenizer(odd(tmp_path / name))


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.h5", "tokenizer.pkl", "chat_template.jinja", "model.int8.h5"],
)
def test_a_file_of_a_model_folder(odd, folder_copy, name):
    odd(folder_copy / name)
    try:
        load_folder(folder_copy)
    except MiniGPTError as error:
        assert name in str(error) and "\n" not in str(error)
    else:
        assert name in ("chat_template.jinja", "model.int8.h5")  # as if it were not there


@pytest.mark.parametrize("name", ["m.gguf", "m.keras", "m.h5"])
def test_a_model_of_another_tool(odd, tmp_path, name):
    with pytest.raises(MiniGPTError, match=r"m.*(not a regular file|neither a|contains no)"):
        open_path(odd(tmp_path / name), tmp_path / name)


def test_adapters_and_heads(odd, tmp_path):
    with pytest.raises(ModelFolderError, match="is not a regular file"):
        load_adapter(odd(tmp_path / "adapter.safetensors"), ModelConfig())
    odd(tmp_path / "classifier.safetensors")
    with pytest.raises(ModelFolderError, match="is not a classifier"):
        load_head(tmp_path, 8)


def test_a_file_larger_than_expected_is_not_read(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 2**20)
    assert len(read_regular(file, 2**20)) == 2**20
    with pytest.raises(ModelFolderError, match="larger than the 0 MiB"):
        read_regular(file, 2**20 - 1)


def test_links_out_of_a_folder_are_not_followed(tmp_path):
    folder, secret = tmp_path / "model", tmp_path / "secret"
    folder.mkdir()
    secret.write_text("a secret of this machine")
    for name, target in (("NOTICE", secret), ("COPYING", folder / "LICENSE")):
        (folder / name).symlink_to(target)
    (folder / "LICENSE").write_text("free")
    assert license_files(folder) == {"LICENSE": b"free", "COPYING": b"free"}
    hub = tmp_path / "hub" / "models--a--b"
    (hub / "snapshots" / "1").mkdir(parents=True)
    (hub / "blobs").mkdir()
    shutil.copy(secret, hub / "blobs" / "abc")
    (hub / "snapshots" / "1" / "LICENSE").symlink_to("../../blobs/abc")
    assert lies_within(hub / "snapshots" / "1" / "LICENSE", hub / "snapshots" / "1")
    (hub / "snapshots" / "1" / "NOTICE").symlink_to(secret)
    assert not lies_within(hub / "snapshots" / "1" / "NOTICE", hub / "snapshots" / "1")
