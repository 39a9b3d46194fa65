"""Pickles: Keras's Tokenizer under any of its names is read, everything else is refused unrun."""

import collections
import os
import pickle
import sys
import types

import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.text.tokenizers import load_tokenizer
from minigpt_tf.text.vocabulary import KERAS_TOKENIZER_MODULES, load_plain_pickle

TEXT = "the cat sat on the mat and the dog lay on the rug"


def pickled_as(module, protocol):
    """A fitted Keras Tokenizer, pickled as if its class lived in `module`."""
    from keras.src.legacy.preprocessing.text import Tokenizer

    fitted = Tokenizer(num_words=6, oov_token="<OOV>")
    fitted.fit_on_texts([TEXT])
    home = types.ModuleType(module)
    home.Tokenizer = type("Tokenizer", (), {"__module__": module})
    twin = home.Tokenizer()
    vars(twin).update(vars(fitted))
    saved = {name: sys.modules.get(name) for name in _parents(module)}
    try:
        for name in saved:
            sys.modules[name] = types.ModuleType(name)
        sys.modules[module] = home
        return fitted, pickle.dumps(twin, protocol=protocol)
    finally:
        for name, original in saved.items():
            if original is None:
                del sys.modules[name]
            else:
                sys.modules[name] = original


def _parents(module):
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("module", sorted(KERAS_TOKENIZER_MODULES))
def test_a_keras_tokenizer_of_any_age_loads(module, protocol, tmp_path):
    fitted, content = pickled_as(module, protocol)
    (tmp_path / "tokenizer.pkl").write_bytes(content)
    tokenizer = load_tokenizer(tmp_path / "tokenizer.pkl")
    assert tokenizer.vocab_size == 6
    assert (
        tokenizer.encode(TEXT + " bird").tolist() == fitted.texts_to_sequences([TEXT + " bird"])[0]
    )


def test_a_tokenizer_that_real_keras_pickled_loads(tmp_path):
    from keras.src.legacy.preprocessing.text import Tokenizer

    fitted = Tokenizer(oov_token="<OOV>")
    fitted.fit_on_texts([TEXT])
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(fitted))
    tokenizer = load_tokenizer(tmp_path / "tokenizer.pkl")
    assert tokenizer.word_index == fitted.word_index
    assert tokenizer.vocab_size == len(fitted.word_index) + 1


@pytest.mark.parametrize(
    ("word_index", "known"),
    [
        ({"<PAD>": 0, "<OOV>": 1, "hardy": 2}, [2]),
        ({"<OOV>": 1, "hardy": 5}, None),
        ({"<OOV>": 1, "hardy": 2, "taxi": 2}, None),
        ({"<OOV>": 1, "hardy": None}, None),
    ],
)
def test_ids_are_kept_as_they_are_or_refused(word_index, known, tmp_path):
    from keras.src.legacy.preprocessing.text import Tokenizer

    fitted = Tokenizer(oov_token="<OOV>")
    fitted.word_index = word_index
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(fitted))
    if known is None:
        with pytest.raises(DataError, match="ids are not 1 to"):
            load_tokenizer(tmp_path / "tokenizer.pkl")
    else:
        assert load_tokenizer(tmp_path / "tokenizer.pkl").encode("Hardy").tolist() == known


class Hostile:
    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_code_in_a_pickle_is_refused_before_it_runs(protocol, tmp_path):
    marker = tmp_path / "marker"
    for hostile in (
        Hostile(os.mkdir, str(marker)),
        Hostile(eval, f"open({str(marker)!r}, 'w')"),
        Hostile(getattr, os, "mkdir"),
        {"kind": "word", "words": [Hostile(os.mkdir, str(marker))]},
    ):
        try:
            content = pickle.dumps(hostile, protocol=protocol)
        except TypeError:  # a module as an argument cannot be pickled
            content = b"cbuiltins\ngetattr\n."
        (tmp_path / "tokenizer.pkl").write_bytes(content)
        with pytest.raises(DataError, match="nothing else is loaded from it"):
            load_tokenizer(tmp_path / "tokenizer.pkl")
        assert not marker.exists()


def test_other_classes_of_keras_are_refused():
    content = b"\x80\x02ckeras.preprocessing.text\nhashing_trick\n."
    with pytest.raises(DataError, match=r"keras\.preprocessing\.text\.hashing_trick"):
        load_plain_pickle(content)


def test_plain_containers_load():
    values = {"a": [1, 2.5, None, True], "b": collections.OrderedDict(x="y")}
    assert load_plain_pickle(pickle.dumps(values)) == values
