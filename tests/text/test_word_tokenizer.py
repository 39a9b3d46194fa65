"""`Tokenizer` against Keras's own, on random texts and settings."""

import copy
import inspect
import json
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minigpt_tf
from minigpt_tf.config import OOV_TOKEN, WORD_TOKENIZER_FILTERS
from minigpt_tf.errors import ConfigError, DataError
from minigpt_tf.text import word_tokenizer
from minigpt_tf.text.tokenizers import LONG_TEXT, Tokenizer, load_tokenizer, tokenizer_from_json
from minigpt_tf.text.word_index import MATRIX_MODES
from tests.conftest import ROOT

SETTING_NAMES = ("num_words", "filters", "lower", "split", "char_level", "oov_token")
TABLE_NAMES = ("word_counts", "word_docs", "index_docs", "word_index", "index_word")
ATTRIBUTES = (*SETTING_NAMES, "document_count", *TABLE_NAMES)

PARTS = [
    "the",
    "The",
    "a",
    "a",
    "ΣΊΣΥΦΟΣ",
    "İstanbul",
    "STRASSE",
    "ß",
    "日本",
    "は",
    "<OOV>",
    "oov",
]
PARTS += ["OOV", "can't", "é", "e\u0301", "😀", "\ud800", "ab", "b", "naïve", "NAÏVE", "ﬁn"]
PARTS += [" ", " ", " ", " ", "\n", "\t", ".", "--", "\u00a0", "\u2003", "\x1c", "\x0b", "|", ","]

SETTINGS = {
    "num_words": [None, None, 1, 2, 5, 12, 5000],
    "oov_token": [None, "<OOV>", "<OOV>", "oov", "the", ""],
    "lower": [True, True, False],
    "char_level": [False, False, False, True],
    "filters": [None, None, "", ".,", "\n\t |", "日aΣ"],
    "split": [None, None, " ", "\n", "ab", ","],
    "analyzer": [None, None, None, str.split],
}


def random_text(choices):
    return "".join(choices.choices(PARTS, k=choices.randrange(25)))


def random_texts(choices):
    """Texts, empty ones and lists of words among them."""
    texts = [random_text(choices) for _ in range(choices.randrange(4))]
    lists = [choices.choices(PARTS, k=choices.randrange(6)) for _ in range(choices.randrange(2))]
    return choices.sample([*texts, *lists], len(texts) + len(lists))


def both(seed):
    """Ours and Keras's with the same random settings."""
    from keras.src.legacy.preprocessing.text import Tokenizer as KerasTokenizer

    choices = random.Random(seed)
    settings = {name: choices.choice(values) for name, values in SETTINGS.items()}
    for name in ("filters", "split"):
        if settings[name] is None:
            del settings[name]
    return choices, Tokenizer(**settings), KerasTokenizer(**settings)


def attributes(tokenizer):
    return {name: getattr(tokenizer, name) for name in ATTRIBUTES}


@pytest.mark.parametrize("block", range(10))
def test_everything_is_as_in_keras(block):
    for seed in range(40 * block, 40 * (block + 1)):
        choices, ours, keras = both(seed)
        for _ in range(choices.randrange(1, 4)):
            texts = random_texts(choices)
            ours.fit_on_texts(texts)
            keras.fit_on_texts(texts)
            assert attributes(ours) == attributes(keras), seed
        if not ours.document_count:  # Keras gives empty lists, and ours raises
            continue
        others = [random_text(choices), "", *texts, "unheard-of words, 東"]
        sequences = keras.texts_to_sequences(others)
        assert ours.texts_to_sequences(others) == sequences, seed
        assert list(ours.texts_to_sequences_generator(others)) == sequences, seed
        ids = [[choices.randrange(30) for _ in range(9)] for _ in range(4)] + sequences
        assert ours.sequences_to_texts(ids) == keras.sequences_to_texts(ids), seed
        assert list(ours.sequences_to_texts_generator(ids)) == keras.sequences_to_texts(ids), seed
        ours.fit_on_sequences(ids)
        keras.fit_on_sequences(ids)
        assert attributes(ours) == attributes(keras), seed
        if ours.num_words or ours.word_index:
            for mode in MATRIX_MODES:
                expected = keras.sequences_to_matrix(ids, mode)
                assert np.array_equal(ours.sequences_to_matrix(ids, mode), expected), (seed, mode)
                expected = keras.texts_to_matrix(others, mode)
                assert np.array_equal(ours.texts_to_matrix(others, mode), expected), (seed, mode)


@pytest.mark.parametrize("seed", range(60))
def test_json_is_that_of_keras(seed):
    from keras.src.legacy.preprocessing import text as keras_text

    choices, ours, keras = both(seed)
    texts = [*random_texts(choices), "one more"]
    ours.fit_on_texts(texts)
    keras.fit_on_texts(texts)
    mine, theirs = ours.get_config(), keras.get_config()
    for name in TABLE_NAMES:  # the order within one of Keras's tables changes from run to run
        mine[name], theirs[name] = json.loads(mine[name]), json.loads(theirs[name])
    assert mine == theirs and json.loads(ours.to_json()).keys() == {"class_name", "config"}
    again = [
        tokenizer_from_json(keras.to_json()),
        tokenizer_from_json(ours.to_json(indent=1)),
        keras_text.tokenizer_from_json(ours.to_json()),
    ]
    for tokenizer in again:
        assert attributes(tokenizer) == attributes(keras)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_the_same_tokenizer(protocol, tmp_path):
    for seed in range(30):
        choices, ours, _ = both(seed)
        ours.analyzer = None
        ours.fit_on_texts([*random_texts(choices), "one more"])
        content = pickle.dumps(ours, protocol=protocol)
        (tmp_path / "tokenizer.pkl").write_bytes(content)
        text = random_text(choices)
        for again in (
            pickle.loads(content),
            load_tokenizer(tmp_path / "tokenizer.pkl", "word"),
            copy.deepcopy(ours),
        ):
            assert type(again) is Tokenizer and vars(again) == vars(ours)
            assert np.array_equal(again.encode(text), ours.encode(text))
            again.fit_on_texts([text])
            assert again.document_count == ours.document_count + 1


def test_a_pickle_opens_in_a_process_that_has_imported_nothing(tmp_path):
    tokenizer = Tokenizer(oov_token="<OOV>")
    tokenizer.fit_on_texts(["he was a mathematician"])
    with open(tmp_path / "tokenizer.pkl", "wb") as file:
        pickle.dump(tokenizer, file)
    code = "import pickle, sys\nwith open(sys.argv[1], 'rb') as file: t = pickle.load(file)\n"
    code += "print(t.texts_to_sequences(['who was he']), 'keras' in sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "tokenizer.pkl")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[[1, 3, 2]] False\n", done.stderr


@pytest.mark.parametrize("seed", range(60))
def test_the_file_of_a_model_folder_has_the_same_ids(seed, tmp_path):
    choices, ours, _ = both(seed)
    ours.analyzer = None
    ours.fit_on_texts([random_text(choices), "one more"])
    (tmp_path / "tokenizer.pkl").write_bytes(ours.to_bytes())
    again = load_tokenizer(tmp_path / "tokenizer.pkl")
    assert again.word_index == ours.word_index and again.word_counts == {}
    assert again.vocab_size == ours.vocab_size and again.to_bytes() == ours.to_bytes()
    for text in (random_text(choices), "unheard of"):
        ids = ours.encode(text)
        assert np.array_equal(again.encode(text), ids)
        assert np.array_equal(again.chunk_encoder(1)(text), ids)
        assert (ids < ours.vocab_size).all() and again.decode(ids) == ours.decode(ids)
        assert not set(ids) & {*ours.suppressed_ids(ours.vocab_size)} - {ours.oov_id}
    with pytest.raises(DataError, match=r"no word_counts.* fit a new Tokenizer"):
        again.fit_on_texts(["more"])


def test_the_file_is_what_it_was():
    """Byte for byte: checkpoints and caches know a tokenizer by its hash."""
    tokenizer = Tokenizer.train(["b a b"], 5000)
    values = {"kind": "word", "words": [OOV_TOKEN, "b", "a"], "num_words": 5000}
    values |= {"oov_token": OOV_TOKEN, "filters": WORD_TOKENIZER_FILTERS}
    values |= {"lower": True, "split": " "}
    assert tokenizer.to_bytes() == pickle.dumps(values, protocol=4)


def test_an_unknown_word_that_the_texts_have_keeps_the_ids_of_keras():
    """Keras gives it the id of its frequency, which may lie beyond num_words, and id 1 to none."""
    tokenizer = Tokenizer(num_words=3, oov_token="oov")
    tokenizer.fit_on_texts(["a a a b b oov"])
    assert tokenizer.word_index == {"a": 2, "b": 3, "oov": 4}
    assert tokenizer.encode("a b c").tolist() == [2, 4, 4] and tokenizer.vocab_size == 5
    assert tokenizer.words == ["a", "a", "b", "oov"]
    assert tokenizer.suppressed_ids(5).tolist() == [0, 1, 3, 4] and tokenizer.known_size == 2


def test_characters_are_words_of_a_model_too():
    tokenizer = Tokenizer(char_level=True)
    tokenizer.fit_on_texts("To be, or not")  # as in courses: each character is a text here
    ids = tokenizer.encode("not to be")
    assert tokenizer.sequences_to_texts([ids]) == ["n o t   t o   b e"]
    assert tokenizer.decode(ids) == "not to be" and tokenizer.unknown("to x") == ["x"]
    assert tokenizer.document_count == 13 and tokenizer.cut_before == " \n"
    assert tokenizer.chunk_encoder(LONG_TEXT) == tokenizer.encode


def test_half_a_character_is_kept_as_in_keras_and_replaced_for_models():
    half, whole = "a \ud83d b\ude00 \ud83d\ude00", "a \ufffd b\ufffd \U0001f600"
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts([half])  # random ones are compared with Keras above
    assert [*tokenizer.word_index] == half.split()
    trained = Tokenizer.train([half], 20)
    assert trained.word_index == Tokenizer.train([whole], 20).word_index
    assert trained.encode(half).tolist() == trained.encode(whole).tolist() == [2, 3, 4, 5]
    assert trained.chunk_encoder(LONG_TEXT)(half).tolist() == [2, 3, 4, 5]
    assert trained.unknown(half + " x\ud83d") == ["x\ufffd"]


def test_texts_counted_in_many_threads():
    texts = [f"the {place % 7} cat {place}" for place in range(300)]
    serial, fitted = Tokenizer(), Tokenizer()
    serial.fit_on_texts(texts)
    with ThreadPoolExecutor(8) as pool:
        [*pool.map(lambda text: fitted.fit_on_texts([text]), texts)]
    for name in ("document_count", "word_counts", "word_docs"):
        assert getattr(fitted, name) == getattr(serial, name)
    assert fitted.index_word == {i: word for word, i in fitted.word_index.items()}
    counts = [fitted.word_counts[word] for word in fitted.word_index]
    assert counts == sorted(counts, reverse=True)


def test_attributes_may_be_set_by_hand():
    """As some courses do; Keras looks at them anew at each call."""
    tokenizer = Tokenizer(oov_token="<unk>")
    tokenizer.fit_on_texts(["a a a b b c"])
    tokenizer.word_index["<pad>"], tokenizer.index_word[0] = 0, "<pad>"
    assert tokenizer.sequences_to_texts([[0, 2]]) == ["<pad> a"]
    assert tokenizer.vocab_size == 5 and 0 in tokenizer.suppressed_ids(5)
    assert pickle.loads(pickle.dumps(tokenizer)).index_word[0] == "<pad>"
    tokenizer.num_words, tokenizer.filters, tokenizer.lower = 4, "", False
    assert tokenizer.encode("A a b c.").tolist() == [1, 2, 3, 1]


def fitted():
    tokenizer = Tokenizer(oov_token="<OOV>")
    tokenizer.fit_on_texts(["a b"])
    return tokenizer


def with_set(**attributes):
    tokenizer = fitted()
    vars(tokenizer).update(attributes)
    return tokenizer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_words": 0}, "num_words=0: must be an integer from 1 on, or None"),
        ({"num_words": -5}, "num_words=-5: must be"),
        ({"num_words": 5.0}, "num_words=5.0: must be"),
        ({"num_words": "5000"}, "num_words='5000': must be"),
        ({"oov_token": 1}, 'oov_token=1: must be a string, such as "<OOV>"'),
        ({"oov_token": ["<OOV>"]}, "oov_token=.*: must be a string"),
        ({"filters": None}, "filters=None: must be a string of the characters to remove"),
        ({"filters": ["ab"]}, "filters=.*: must be a string of the characters"),
        ({"split": ""}, "split='': must be a string of at least one character"),
        ({"lower": "yes"}, "lower='yes': must be True or False"),
        ({"char_level": None}, "char_level=None: must be True or False"),
        ({"analyzer": "split"}, "analyzer: must be a function"),
        ({"document_count": -1}, "document_count=-1: must be an integer"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Tokenizer(**settings)


def test_settings_of_other_types_that_mean_the_same_are_taken():
    tokenizer = Tokenizer(np.int64(9), filters=[".", ","], lower=np.True_, char_level=0)
    assert attributes(tokenizer) == {**attributes(Tokenizer(9)), "filters": ".,"}
    assert type(tokenizer.num_words) is int and tokenizer.lower is True


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.fit_on_texts("a text"), r"not one text: write \[text\]"),
        (lambda t: t.fit_on_texts(b"a text"), r"not one text: write \[text\]"),
        (lambda t: t.fit_on_texts(None), "expected a list of texts, not None"),
        (lambda t: t.fit_on_texts(["a", None]), r"texts\[1\] is None: expected a string"),
        (lambda t: t.fit_on_texts([float("nan")]), r"texts\[0\] is a float: expected a string"),
        (lambda t: t.fit_on_texts([["a", 3]]), r"texts\[0\] is a list that holds an int: expected"),
        (lambda t: t.texts_to_sequences("text"), r"write \[text\]"),
        (lambda t: t.texts_to_sequences([b"a"]), r"texts\[0\] is a bytes"),
        (lambda t: t.sequences_to_matrix([[1], [-1]]), r"sequences\[1\] holds -1: expected ids"),
        (lambda t: t.sequences_to_matrix([["a"]]), r"sequences\[0\] holds 'a': expected ids"),
        (lambda t: t.fit_on_sequences([[None]]), r"sequences\[0\] holds None: expected ids"),
    ],
)
def test_what_is_not_text_is_named(call, message):
    tokenizer = fitted()
    before = copy.deepcopy(vars(tokenizer))
    with pytest.raises(DataError, match=message):
        call(tokenizer)
    assert vars(tokenizer) == before


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.texts_to_sequences(["a"]),
        lambda t: t.sequences_to_texts([[1]]),
        lambda t: t.encode("a"),
        lambda t: t.decode([1]),
        lambda t: t.chunk_encoder(LONG_TEXT),
        lambda t: t.suppressed_ids(9),
        lambda t: t.vocab_size,
        lambda t: t.to_bytes(),
    ],
)
@pytest.mark.parametrize("oov_token", [None, "<OOV>"])
def test_a_tokenizer_that_was_not_fitted_says_so(call, oov_token):
    with pytest.raises(DataError, match=r"was not fitted on any text: call fit_on_texts"):
        call(Tokenizer(oov_token=oov_token))


def test_matrices_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="mode='tf-idf': expected one of binary, count"):
        fitted().texts_to_matrix(["a"], "tf-idf")
    with pytest.raises(DataError, match="width of the matrix is not known"):
        Tokenizer().sequences_to_matrix([[1]])
    with pytest.raises(DataError, match="counts texts: fit the tokenizer"):
        Tokenizer(9).sequences_to_matrix([[1]], "tfidf")


def test_an_unknown_word_named_too_late_is_refused_where_it_is_needed():
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["a b"])
    tokenizer.oov_token = "<OOV>"
    assert tokenizer.texts_to_sequences(["b a"]) == [[2, 1]]
    with pytest.raises(DataError, match="oov_token='<OOV>' has no id: set it before"):
        tokenizer.texts_to_sequences(["c"])


@pytest.mark.parametrize("save", [pickle.dumps, Tokenizer.to_bytes])
def test_what_could_not_be_loaded_is_not_saved(save):
    with pytest.raises(DataError, match=r"with an analyzer cannot be saved.* set its analyzer"):
        save(with_set(analyzer=str.split))
    with pytest.raises(DataError, match=r"cannot be saved: it is damaged: num_words=-1"):
        save(with_set(num_words=-1))
    for word_index in ({"a": 1, "b": 1}, {"a": 2**40}):
        with pytest.raises(DataError, match="word_index whose ids are not from 0 to"):
            save(with_set(word_index=word_index))
    for name in ("word_counts", "index_word"):
        with pytest.raises(DataError, match=f"cannot be saved: it is damaged: {name} does not map"):
            pickle.dumps(with_set(**{name: None}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"config": 5}',
        '{"config": {"word_index": 5}}',
        '{"config": {"word_index": "5"}}',
        '{"config": {"word_index": "{\\"a\\": \\"b\\"}"}}',
        '{"config": {"index_word": "{\\"a\\": \\"b\\"}"}}',
        '{"config": {"num_words": -1}}',
        '{"config": {"encode": 1}}',
        "[" * 100_000,
        None,
    ],
)
def test_json_of_something_else_is_refused(text):
    with pytest.raises(DataError, match="the JSON text "):
        tokenizer_from_json(text)


def test_the_constructor_is_that_of_keras():
    from keras.src.legacy.preprocessing.text import Tokenizer as KerasTokenizer

    ours = [(p.name, p.default) for p in inspect.signature(Tokenizer).parameters.values()]
    keras = [(p.name, p.default) for p in inspect.signature(KerasTokenizer).parameters.values()]
    assert ours[:-1] == keras[:-1] and ours[-1] == ("document_count", 0)
    public = {name for name in dir(KerasTokenizer()) if not name.startswith("_")}
    assert public <= {*dir(Tokenizer())}


def test_it_is_public_and_lazily_loaded():
    assert minigpt_tf.Tokenizer is Tokenizer is word_tokenizer.WordTokenizer
    assert minigpt_tf.tokenizer_from_json is tokenizer_from_json
