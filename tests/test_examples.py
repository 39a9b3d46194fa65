"""The examples in the docstrings are true."""

import doctest
import importlib

import numpy as np
import pytest

import minigpt_tf as mg
from tests.conftest import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "minigpt_tf").rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)

USED = ("Tokenizer", "tokenizer_from_json")
"""Public names that examples use without importing them."""


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    module, public = importlib.import_module(name), {name: getattr(mg, name) for name in USED}
    result = doctest.testmod(module, optionflags=options, extraglobs={**public, "np": np})
    assert result.attempted and not result.failed
