"""Pickles: Keras's Tokenizer under any of its names is read, everything else is refused unrun."""

import collections
import os
import pickle
import random
import sys
import tracemalloc
import types

import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.text.tokenizers import Tokenizer, load_tokenizer
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


def record(state, module="keras.preprocessing.text"):
    """A pickle of a Tokenizer with these attributes."""
    return b"".join(
        [b"c", module.encode(), b"\nTokenizer\n)\x81", pickle.dumps(state, 2)[2:-1], b"b."]
    )


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
    assert {name: getattr(tokenizer, name) for name in vars(fitted)} == vars(fitted)
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
        ({"<OOV>": 1, "hardy": 5}, [5]),
        ({"<OOV>": 1, "hardy": 2, "taxi": 2}, None),
        ({"<OOV>": 1, "hardy": 2**31}, None),
    ],
)
def test_ids_are_kept_as_they_are_or_refused(word_index, known, tmp_path):
    from keras.src.legacy.preprocessing.text import Tokenizer

    fitted = Tokenizer(oov_token="<OOV>")
    fitted.word_index = word_index
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(fitted))
    if known is None:
        with pytest.raises(DataError, match="word_index whose ids are not from 0 to"):
            load_tokenizer(tmp_path / "tokenizer.pkl")
    else:
        tokenizer = load_tokenizer(tmp_path / "tokenizer.pkl")
        assert tokenizer.encode("Hardy").tolist() == known
        assert tokenizer.decode(known) == "hardy" and tokenizer.vocab_size == known[0] + 1


def test_what_somebody_added_to_a_keras_tokenizer_is_left_out(tmp_path):
    from keras.src.legacy.preprocessing.text import Tokenizer

    fitted = Tokenizer()
    fitted.fit_on_texts([TEXT])
    fitted.longest_line = 7
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(fitted))
    assert not hasattr(load_tokenizer(tmp_path / "tokenizer.pkl"), "longest_line")


def test_attributes_that_an_older_keras_had_not_are_completed(tmp_path):
    """Keras 2.0 had no oov_token and no index_word; Keras 1 called num_words nb_words."""
    state = {"num_words": 3, "filters": ".", "lower": True, "split": " ", "char_level": False}
    state |= {"word_counts": {"a": 2, "b": 1}, "word_index": {"a": 1, "b": 2}}
    (tmp_path / "tokenizer.pkl").write_bytes(record(state))
    tokenizer = load_tokenizer(tmp_path / "tokenizer.pkl")
    assert tokenizer.encode("B a c.").tolist() == [2, 1] and tokenizer.decode([1]) == "a"
    (tmp_path / "tokenizer.pkl").write_bytes(
        record({"nb_words": 2, "word_index": {"a": 1, "b": 2}})
    )
    assert load_tokenizer(tmp_path / "tokenizer.pkl").encode("b a").tolist() == [1]


@pytest.mark.parametrize("module", ["keras.preprocessing.text", "minigpt_tf"])
def test_a_tokenizer_that_was_not_fitted_is_refused(module, tmp_path):
    (tmp_path / "tokenizer.pkl").write_bytes(record({"num_words": 5, "analyzer": None}, module))
    with pytest.raises(DataError, match=r"tokenizer\.pkl: holds a Tokenizer that was not fitted"):
        load_tokenizer(tmp_path / "tokenizer.pkl")


PYTHON_2 = {
    0: b"(dp0\nS'kind'\np1\nS'word'\np2\nsS'words'\np3\n(lp4\nV\\u00e9t\\u00e9\np5\na"
    b"S'caf\\xc3\\xa9'\nasS'num_words'\nL50L\nsS'oov_token'\nNsS'filters'\nS''\nsS'lower'\nI01\ns"
    b"S'split'\nS' '\ns.",
    2: b"\x80\x02}q\x01(U\x04kindU\x04wordU\x05words]q\x02(X\x05\0\0\0\xc3\xa9t\xc3\xa9"
    b"T\x05\0\0\0caf\xc3\xa9eU\x09num_words\x8a\x01\x32U\x09oov_tokenNU\x07filtersU\0"
    b"U\x05lower\x88U\x05splitU\x01 u.",
}


@pytest.mark.parametrize("protocol", [0, 2])
def test_what_python_2_wrote_loads(protocol, tmp_path):
    (tmp_path / "tokenizer.pkl").write_bytes(PYTHON_2[protocol])
    tokenizer = load_tokenizer(tmp_path / "tokenizer.pkl")
    assert tokenizer.words == ["été", "café"] and tokenizer.num_words == 50


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


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_loads(protocol):
    values = {"a": [1, 2.5, None, True, False, -1, 255, 65535, -(2**31), 2**62, "", "é\ud800😀\n"]}
    values |= {
        "b": ("x", ("y",), ()),
        7: {"long": "long" * 99},
        "c": [[], {}],
        "d": [1, 2, 3] * 999,
    }
    values["again"] = values["a"]
    loaded = load_plain_pickle(pickle.dumps(values, protocol))
    assert loaded == values and loaded["again"] is loaded["a"]
    counts = collections.defaultdict(int, x=3)
    pairs = [collections.OrderedDict(b=1, a=2), counts, collections.OrderedDict()]
    loaded = load_plain_pickle(pickle.dumps(pairs, protocol))
    assert loaded == [{"b": 1, "a": 2}, {"x": 3}, {}] and {*map(type, loaded)} == {dict}


def test_python_2_wrote_an_ordered_dict_as_pairs():
    content = b"ccollections\nOrderedDict\n((l(lS'b'\naI1\naa(lS'a'\naI2\naatR."
    assert list(load_plain_pickle(content).items()) == [("b", 1), ("a", 2)]


DICT = b"ccollections\nOrderedDict\n)R"
NEW = b"cminigpt_tf\nTokenizer\n)\x81"


@pytest.mark.parametrize(
    "content",
    [
        DICT + b"}\x8c\x03getK\x01sb.",  # an attribute that hides a method
        b"}}\x8c\x03getK\x01sb.",
        NEW + b"}}b}b.",  # attributes twice
        NEW + b"}b}b.",
        NEW + b"N}\x8c\x09__class__K\x01s\x86b.",  # slots
        NEW + b"}K\x01K\x01sb.",
        NEW + b"}\x8c\x0c__setstate__cbuiltins\nint\nsbK\x01b.",
        b"cminigpt_tf\nTokenizer\n}\x8c\x06encodeK\x01sb.",  # attributes of the class itself
        b"cminigpt_tf\nTokenizer\n(K\x05tR.",  # arguments
        b"cminigpt_tf\nTokenizer\nK\x05\x85\x81.",
        b"cbuiltins\nint\n\x8c\x0299\x85R.",
        b"ccollections\nOrderedDict\n]K\x01a\x85R.",
        b"ccollections\ndefaultdict\nccollections\nOrderedDict\n\x85R.",
        b"ccopyreg\n_reconstructor\n(cbuiltins\nint\ncbuiltins\nobject\nNtR.",
        b"}K\x01K\x01K\x02e.",  # what belongs to lists, with dicts, and the reverse
        b"}K\x01a.",
        b"]K\x01K\x02s.",
        NEW + b"K\x01K\x02s.",
        b"}NK\x02s.",  # keys of other types
        b"})" + b"\x85" * 9 + b"K\x02s.",
        b"(NNd.",
        b"(K\x01d.",
        b"h\x07.",  # nothing is kept there
        b"g-1\n.",
        b"L" + b"9" * 5000 + b"L\n.",
        b"\x8b\xff\xff\xff\x7f.",
        b"\x8a\xff" + b"9" * 255 + b".",
        b"X\xff\xff\xff\xff.",
        b"\x8d" + b"\xff" * 8 + b".",
        b"T\xff\xff\xff\xff.",
        b"S'a\n.",
        b"Fone\n.",
        b"X\x01\x00\x00\x00\xff.",
        b"e.",
        b"R.",
        b"t.",
        b"0.",
        b".",
        b"K",
        b"(K\x01",
        b"\x93.",
        b"NN\x93.",
        b"cbuiltins\nint.",
        b"P1\n.",  # instructions for more than plain data
        b"K\x01Q.",
        b"\x82\x01.",
        b"(ios\nsystem\n.",
        b"(cos\nsystem\no.",
        NEW + b"}\x92.",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\x00.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x00.",
        b"\x97.",
        b"\x8f.",
    ],
)
def test_a_hostile_pickle_is_refused_in_one_line(content):
    with pytest.raises(DataError) as caught:
        load_plain_pickle(content)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize("put", [b"r\x00\x00\x00\x10", b"r\xff\xff\xff\xff", b"p1073741824\n"])
def test_a_memo_takes_the_memory_of_what_is_in_it(put):
    """Python's unpickler makes room up to the key: 4 GB for the first."""
    tracemalloc.start()
    try:
        assert load_plain_pickle(b"\x80\x04N" + put + b".") is None
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_key_that_takes_for_ever_to_hash_is_refused():
    content = b"})" + b"2\x86" * 60 + b"K\x01s."  # a pair of pairs of pairs ...: 2^60 tuples
    with pytest.raises(DataError, match="key that is neither a string nor an integer"):
        load_plain_pickle(content)


def sound_state():
    fitted = Tokenizer(num_words=6, oov_token="<OOV>")
    fitted.fit_on_texts([TEXT])
    return fitted.__getstate__()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encode": 1}, "sets 'encode', which belongs to the class"),
        ({"vocab_size": 5}, "sets 'vocab_size', which belongs to the class"),
        ({"kind": "char"}, "sets 'kind', which belongs to the class"),
        ({"__class__": 1}, "sets '__class__', which belongs to the class"),
        ({"__setstate__": 1}, "sets '__setstate__', which belongs to the class"),
        ({"analyzer": "str.split"}, "has an analyzer"),
        ({"word_index": [1, 2]}, "word_index does not map words to integers from 0 on"),
        ({"word_index": {"a": True}}, "word_index does not map words to integers"),
        ({"word_index": {"a": "b"}}, "word_index does not map"),
        ({"word_index": {"a": -1}}, "word_index does not map"),
        ({"word_index": {1: 1}}, "word_index does not map"),
        ({"word_index": {"a": 1.0}}, "word_index does not map"),
        ({"word_index": None}, "word_index does not map"),
        ({"word_counts": {"a": "b"}}, "word_counts does not map words to integers"),
        ({"word_docs": []}, "word_docs does not map"),
        ({"index_docs": {"a": 1}}, "index_docs does not map integers from 0 on to integers"),
        ({"index_word": {1: 2}}, "index_word does not map integers from 0 on to words"),
        ({"num_words": "5"}, "num_words='5': must be"),
        ({"num_words": 0}, "num_words=0: must be"),
        ({"filters": 5}, "filters=5: must be"),
        ({"split": ""}, "split='': must be"),
        ({"lower": "no"}, "lower='no': must be"),
        ({"oov_token": 5}, "oov_token=5: must be"),
        ({"document_count": -1}, "document_count=-1: must be"),
    ],
)
@pytest.mark.parametrize("module", ["keras.preprocessing.text", "minigpt_tf"])
def test_each_attribute_is_checked(changed, message, module, tmp_path):
    content = record({**sound_state(), **changed}, module)
    (tmp_path / "tokenizer.pkl").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_tokenizer(tmp_path / "tokenizer.pkl")
    assert "\n" not in str(caught.value)
    if module == "minigpt_tf":  # Python's own unpickler hands the attributes to our class
        with pytest.raises(DataError, match=f"the pickled Tokenizer .*{message}"):
            pickle.loads(content)


@pytest.mark.parametrize("seed", range(8))
def test_damage_is_always_a_data_error(seed, tmp_path):
    choices = random.Random(seed)
    fitted = Tokenizer(num_words=6, oov_token="<OOV>")
    fitted.fit_on_texts([TEXT])
    path = tmp_path / "tokenizer.pkl"
    sound = [pickle.dumps(fitted, protocol) for protocol in (0, 2, 4)] + [fitted.to_bytes()]
    refused = 0
    for _ in range(400):
        content = bytearray(choices.choice(sound))
        for _ in range(choices.randrange(1, 4)):
            content[choices.randrange(len(content))] = choices.randrange(256)
        path.write_bytes(content[: choices.choice([None, choices.randrange(len(content))])])
        try:
            load_tokenizer(path).encode(TEXT)
        except DataError:
            refused += 1
    assert refused > 100
