"""The tokenizers against Keras's Tokenizer, OpenAI's ids and known counts."""

import numpy as np
import pytest

from minigpt_tf.errors import ConfigError, DataError
from minigpt_tf.text.chunks import split_chunks
from minigpt_tf.text.tokenizers import (
    SHORT_TEXT,
    BytePairTokenizer,
    CharTokenizer,
    WordTokenizer,
    load_tokenizer,
    train_tokenizer,
)
from tests.conftest import SAMPLE

UNICODE = (
    "Straße STRASSE İstanbul ISTANBUL naïve NAÏVE ﬁn ΣΊΣΥΦΟΣ\u00a0no-break\u2003em 東京 は 😀😀 "
    "tab\there\r\nquote \"in\" quotes — dash… it's can't <OOV> oov e\u0301 é \x0b vertical"
)


def keras_tokenizer(texts, num_words):
    from keras.src.legacy.preprocessing.text import Tokenizer

    tokenizer = Tokenizer(num_words=num_words, oov_token="<OOV>")
    tokenizer.fit_on_texts(texts)
    return tokenizer


@pytest.mark.parametrize("num_words", [20, 5000])
@pytest.mark.parametrize("source", ["sample", "unicode", "verdict", "documents", "shakespeare"])
def test_word_ids_are_those_of_keras(source, num_words, request):
    if source in ("verdict", "shakespeare"):
        name = {"verdict": "the-verdict.txt", "shakespeare": "tinyshakespeare.txt"}[source]
        texts = [(request.getfixturevalue("assets") / name).read_text(encoding="utf-8")]
    else:
        sample = SAMPLE.read_text(encoding="utf-8")
        texts = {"sample": [sample], "unicode": [UNICODE], "documents": [sample, UNICODE, ""]}[
            source
        ]
    ours, keras = WordTokenizer.train(texts, num_words), keras_tokenizer(texts, num_words)
    assert ours.word_index == keras.word_index
    for text in (*texts, UNICODE, "an unheard-of Word", ""):
        assert ours.encode(text).tolist() == keras.texts_to_sequences([text])[0]
    ids = keras.texts_to_sequences(texts)[0]
    assert ours.decode(ids) == keras.sequences_to_texts([ids])[0]


def test_unknown_words_are_named_once():
    tokenizer = WordTokenizer.train(["the cat and the dog"], 5000)
    assert tokenizer.unknown("The ZEBRA and the zebra, the gnu") == ["zebra", "gnu"]
    ids = tokenizer.encode("the zebra")
    assert ids.tolist() == [2, 1] and tokenizer.count_unknown(np.bincount(ids)) == 1


def test_ids_without_a_word_are_suppressed():
    tokenizer = WordTokenizer.train(["b a b"], 6)
    assert tokenizer.suppressed_ids(6).tolist() == [0, 1, 4, 5]
    assert WordTokenizer.train(["b a b"], 3).suppressed_ids(3).tolist() == [0, 1]
    assert CharTokenizer("abc").suppressed_ids(5).tolist() == [3, 4]


@pytest.mark.parametrize("kind", ["char", "bpe", "gpt2"])
@pytest.mark.parametrize(
    "text", [UNICODE, "", " \n\t leading and trailing \n", "a\u0000b", "\r\n\r"]
)
def test_round_trip_is_exact(kind, text, gpt2_files):
    tokenizer = train_tokenizer(kind, [SAMPLE.read_text(encoding="utf-8"), text], 400)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.unknown(text) == []


def test_bpe_knows_every_character_of_texts_it_has_not_seen():
    tokenizer = BytePairTokenizer.train(["plain english text " * 20], 300)
    assert tokenizer.vocab_size <= 300
    assert tokenizer.decode(tokenizer.encode(UNICODE)) == UNICODE


def test_gpt2_gives_the_published_ids(gpt2_files):
    tokenizer = BytePairTokenizer.gpt2()
    assert tokenizer.vocab_size == 50257
    assert tokenizer.encode("Every effort moves you").tolist() == [6109, 3626, 6100, 345]
    assert tokenizer.encode("a<|endoftext|>").tolist()[-1] == 50256
    assert tokenizer.end_ids == {50256}


def test_gpt2_counts_of_known_texts(gpt2_files, assets):
    tokenizer = BytePairTokenizer.gpt2()
    assert len(tokenizer.encode((assets / "the-verdict.txt").read_text(encoding="utf-8"))) == 5145
    shakespeare = (assets / "tinyshakespeare.txt").read_text(encoding="utf-8")
    parts = shakespeare[:1003854], shakespeare[1003854:]
    assert [len(tokenizer.encode(part)) for part in parts] == [301966, 36059]


def test_char_counts_of_tinyshakespeare(assets):
    text = (assets / "tinyshakespeare.txt").read_text(encoding="utf-8")
    tokenizer = CharTokenizer.train([text])
    assert tokenizer.vocab_size == 65
    pieces = list(split_chunks([text], len(text), 0.1, whole_words=False))
    parts = ["".join(text for of, text in pieces if of == part) for part in (0, 1)]
    assert [len(tokenizer.encode(part)) for part in parts] == [1003854, 111540]


def test_unknown_characters_are_named_and_left_out():
    tokenizer = CharTokenizer.train(["abc"])
    assert tokenizer.unknown("abxcx") == ["x"]
    assert tokenizer.encode("axb").tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["word", "char", "bpe", "gpt2"])
def test_a_saved_tokenizer_is_the_same_one(kind, tmp_path, gpt2_files):
    text = SAMPLE.read_text(encoding="utf-8")
    tokenizer = train_tokenizer(kind, [text], 300)
    (tmp_path / tokenizer.file_name).write_bytes(tokenizer.to_bytes())
    loaded = load_tokenizer(tmp_path / tokenizer.file_name, kind)
    assert loaded.kind == kind and loaded.vocab_size == tokenizer.vocab_size
    assert np.array_equal(loaded.encode(text + UNICODE), tokenizer.encode(text + UNICODE))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.pkl", b""),
        ("tokenizer.pkl", b"\x80\x04\x95junk"),
        ("tokenizer.pkl", b"N."),
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b'{"version": "1.0"}'),
    ],
)
def test_a_damaged_file_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        load_tokenizer(tmp_path / name)


def test_a_truncated_file_is_refused(tmp_path):
    content = WordTokenizer.train(["some words"], 100).to_bytes()
    (tmp_path / "tokenizer.pkl").write_bytes(content[:-20])
    with pytest.raises(DataError, match="not a readable pickle"):
        load_tokenizer(tmp_path / "tokenizer.pkl")


def test_vocabularies_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="vocab_size=2: words need at least 3"):
        train_tokenizer("word", ["text"], 2)
    with pytest.raises(ConfigError, match="vocab_size=100: byte-level BPE needs at least 257"):
        train_tokenizer("bpe", ["text"], 100)


def test_texts_are_cut_only_where_the_tokenizer_cuts_them(gpt2_files):
    assert CharTokenizer("ab").cut_before is None
    assert BytePairTokenizer.gpt2().cut_before == " \n"
    assert WordTokenizer.from_words(["<OOV>"], None).cut_before == " \n"
    assert WordTokenizer.from_words(["<OOV>"], None, filters=".").cut_before == " "
    assert WordTokenizer.from_words(["<OOV>"], None, filters=".", split="\n").cut_before == "\n"
    assert WordTokenizer.from_words(["<OOV>"], None, split="ab").cut_before == ""
    backend = BytePairTokenizer.gpt2().backend
    backend.add_tokens(["two words"])
    assert BytePairTokenizer(backend).cut_before == ""


def test_long_texts_have_the_library_s_ids_and_let_other_threads_run():
    text = SAMPLE.read_text(encoding="utf-8")
    tokenizer = train_tokenizer("bpe", [text, UNICODE], vocab_size=300)
    for length in (SHORT_TEXT - 1, SHORT_TEXT, SHORT_TEXT + 1, 3 * SHORT_TEXT):
        long = (text + UNICODE + "\ud83d")[-length:]
        long = (long * (1 + length // len(long)))[:length]
        ids = tokenizer.encode(long).tolist()
        known = long.replace("\ud83d", "\ufffd")
        assert ids == tokenizer.backend.encode(known, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == tokenizer.backend.decode(ids) == known


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_half_characters_are_replaced(kind):
    half, whole = "ab \ud83d ab \ud83d\ude00", "ab \ufffd ab \U0001f600"
    make = {"char": CharTokenizer.train, "bpe": lambda texts: BytePairTokenizer.train(texts, 270)}
    tokenizer = make[kind]([half])
    assert tokenizer.to_bytes() == make[kind]([whole]).to_bytes()
    assert tokenizer.decode(tokenizer.encode(half)) == whole
    assert tokenizer.unknown("\ud83d" + "z" * (kind == "char")) == ["z"] * (kind == "char")
