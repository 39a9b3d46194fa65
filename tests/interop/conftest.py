"""Shared by the tests of importers."""

import pytest

from minigpt_tf.text.tokenizers import train_tokenizer
from tests.interop.lecture import V

TEXT = "he was a mathematician and he was born in the town of erode . who was he"


@pytest.fixture
def tokenizer_file(tmp_path):
    """A tokenizer.pkl of words, for the models of `lecture`."""
    file = tmp_path / "tokenizer.pkl"
    file.write_bytes(train_tokenizer("word", [TEXT], V).to_bytes())
    return file
