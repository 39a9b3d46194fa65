"""Where GPT-2's files are looked for."""

import hashlib
import shutil
import tempfile

import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.text import gpt2_files


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No file can be found unless a test puts it somewhere."""
    for variable in ("MINIGPT_ASSETS", "TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    monkeypatch.setattr(gpt2_files, "_hugging_face", lambda local_files_only: iter(()))


def test_tiktokens_cache_is_found(nowhere, monkeypatch, tmp_path, assets):
    for name in ("encoder.json", "vocab.bpe"):
        address = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/" + name
        cached = tmp_path / hashlib.sha1(address.encode()).hexdigest()
        shutil.copy(assets / "gpt2-bpe" / name, cached)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    vocabulary, merges = gpt2_files.find()
    assert len(vocabulary) == 50257 and len(merges) == 50000
    assert vocabulary["<|endoftext|>"] == 50256 and merges[0] == ("Ġ", "t")


def test_a_search_in_vain_says_what_to_do(nowhere):
    with pytest.raises(DataError, match="set MINIGPT_ASSETS=FOLDER"):
        gpt2_files.find()


def test_damaged_files_are_refused(nowhere, monkeypatch, tmp_path):
    (tmp_path / "gpt2-bpe").mkdir()
    (tmp_path / "gpt2-bpe" / "encoder.json").write_text('{"a": 0}')
    (tmp_path / "gpt2-bpe" / "vocab.bpe").write_text("#version: 0.2\na b\n")
    monkeypatch.setenv("MINIGPT_ASSETS", str(tmp_path))
    with pytest.raises(DataError, match="expected GPT-2's 50,257 tokens"):
        gpt2_files.find()
