"""Our tokenizers as tokenizer.json: the same ids as our own for whatever a text holds."""

import json

import pytest

from minigpt_tf import export_model
from minigpt_tf.errors import DataError
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.interop.huggingface.write_tokenizer import (
    check_equal,
    describe_tokenizer,
    export_tokenizer,
    load_backend,
)
from minigpt_tf.text.tokenizers import (
    CharTokenizer,
    ImportedTokenizer,
    WordTokenizer,
    train_tokenizer,
)
from tests.interop.exported_folders import TEXT, make_folder

TEXTS = [
    "",
    "   ",
    "\n\n",
    TEXT,
    "He was born in Erode.",
    "HE   WAS,BORN;in...Erode!\n\n\nhis\tmother",
    "zaphod he quuz was",
    "Café CAFÉ naïve ÉTUDE straße STRASSE",
    "ΟΔΥΣΣΕΥΣ ΟΔΥΣΣΕΥΣ. ΣΑΣ Σ ΣΑΣ'Α σας",
    "he\u00a0was he\u2003was he\u200bwas\r\nhe\rwas",
    "日本語 he 🙂 was \U0001f468\u200d\U0001f469 İstanbul",
    "<pad> <OOV> <number> oov pad <|endoftext|> he<pad>was",
]


def backend_of(tokenizer):
    return load_backend(describe_tokenizer(tokenizer))


def ids_of(backend, text):
    return backend.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind, size", [("word", 500), ("word", 20), ("char", 0), ("bpe", 300)])
@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_ours(kind, size, text):
    tokenizer = train_tokenizer(kind, [TEXT], size)
    assert ids_of(backend_of(tokenizer), text) == tokenizer.encode(text).tolist()


@pytest.mark.parametrize("kind, size", [("word", 500), ("char", 0), ("bpe", 300)])
def test_text_is_ours(kind, size):
    tokenizer = train_tokenizer(kind, [TEXT], size)
    ids = tokenizer.encode(TEXT + " zaphod ☃").tolist()
    assert backend_of(tokenizer).decode(ids, skip_special_tokens=False) == tokenizer.decode(ids)


def test_unknown_words_and_padding_have_their_ids():
    tokenizer = WordTokenizer.from_words(["<OOV>", "he", "was"], None)
    backend = backend_of(tokenizer)
    assert ids_of(backend, "He zaphod was") == [2, 1, 3]
    assert backend.token_to_id("<pad>") == 0
    assert ids_of(backend, "<pad>") == [1]  # the word pad, which is unknown


def test_a_vocabulary_may_hold_the_name_of_padding():
    for words, unknown in ((["<OOV>", "<pad>"], "<OOV>"), (["<pad>", "he"], "<pad>")):
        tokenizer = WordTokenizer.from_words(words, None, oov_token=unknown)
        backend = backend_of(tokenizer)
        assert [backend.token_to_id(word) for word in words] == [1, 2]
        assert backend.id_to_token(0) not in words
        assert ids_of(backend, "<pad> he") == tokenizer.encode("<pad> he").tolist()


@pytest.mark.parametrize(
    "settings",
    [
        {"filters": "", "lower": False},
        {"filters": "[]^-&\\A", "lower": True},
        {"filters": "!-~a", "lower": False, "split": "\n"},
        {"filters": ",;", "lower": True, "split": "ab"},
        {"filters": "", "lower": True, "split": "."},
    ],
)
def test_word_tokenizers_of_other_settings(settings):
    """As a Keras Tokenizer may have them: every filter stands for itself, whatever it means in a
    regular expression."""
    split = settings.get("split", " ")
    text = f"He-was [born]^&\\x,xabA~a;{split}<pad>{split}<OOV>{split}He{split}x"
    words = WordTokenizer.from_words([], None, **settings).split_words(text)
    tokenizer = WordTokenizer.from_words(["<OOV>", *dict.fromkeys(words[::2])], None, **settings)
    backend = backend_of(tokenizer)
    for sample in (text, text.upper(), text.lower(), text[::-1], *TEXTS):
        assert ids_of(backend, sample) == tokenizer.encode(sample).tolist()


def test_a_vocabulary_without_an_unknown_word_is_refused():
    for tokenizer in (
        WordTokenizer.from_words(["he", "was"], None, oov_token=None),
        WordTokenizer.from_words(["he", "was"], None, oov_token="<missing>"),
    ):
        with pytest.raises(DataError, match="no unknown word"):
            describe_tokenizer(tokenizer)


@pytest.mark.parametrize("settings", [{"char_level": True}, {"analyzer": str.split}])
def test_words_that_are_cut_in_another_way_are_refused(settings):
    tokenizer = WordTokenizer.from_words(["<OOV>", "he", "was"], None, **settings)
    with pytest.raises(DataError, match="has no form in tokenizer"):
        describe_tokenizer(tokenizer)


def test_characters_that_are_no_text_are_refused():
    with pytest.raises(DataError, match=r"no form in tokenizer\.json"):
        backend_of(CharTokenizer("ab\ud800"))


def test_the_check_notices_another_vocabulary():
    ours, theirs = CharTokenizer("abc"), backend_of(CharTokenizer("acb"))
    with pytest.raises(DataError, match="ids differ among those for 'a' to 'c'"):
        check_equal(ours, theirs)
    words = WordTokenizer.from_words(["<OOV>", "he", "was"], None)
    with pytest.raises(DataError, match="ids differ"):
        check_equal(words, backend_of(WordTokenizer.from_words(["<OOV>", "was", "he"], None)))


def test_sigma_at_the_end_of_a_word_is_pythons():
    """Every arrangement of five characters around a capital sigma, against `str.lower`."""
    import itertools

    texts = ["".join(chars) for chars in itertools.product("Σa'\u0345 1", repeat=5)]
    words = dict.fromkeys(word for text in texts for word in text.lower().split())
    tokenizer = WordTokenizer.from_words(["<OOV>", *words], None, filters="")
    text = " ".join(texts)
    assert ids_of(backend_of(tokenizer), text) == tokenizer.encode(text).tolist()


def imported(prefix_ids, template=None, end_ids=()):
    """A byte-level tokenizer with <s> and </s>, and what its own file adds to a text."""
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing

    backend = train_tokenizer("bpe", [TEXT], 300).backend
    backend.add_special_tokens([AddedToken("<s>"), AddedToken("</s>")])
    if template is not None:
        names = [(name, backend.token_to_id(name)) for name in ("<s>", "</s>")]
        backend.post_processor = TemplateProcessing(single=template, special_tokens=names)
    return ImportedTokenizer(backend, end_ids, prefix_ids)


@pytest.mark.parametrize("template", [None, "<s> $A", "<s> $A </s>", "$A </s>"])
@pytest.mark.parametrize("prefix", [(), ("<s>",), ("</s>", "<s>")])
def test_the_prefix_is_added_and_nothing_else(template, prefix, tmp_path):
    tokenizer = imported((), template)
    ids = [tokenizer.backend.token_to_id(name) for name in prefix]
    tokenizer.prefix_ids = tuple(ids)
    folder = load_folder(make_folder(tmp_path / "m", "modern", tokenizer))
    backend = load_backend(export_tokenizer(folder).description)
    text = "He was <s> born"
    assert backend.encode(text).ids == ids + folder.tokenizer.encode(text).tolist()


def test_a_prefix_that_is_no_token_is_refused(tmp_path):
    tokenizer = imported((400,))
    folder = load_folder(make_folder(tmp_path / "m", "modern", tokenizer, vocab_size=500))
    with pytest.raises(DataError, match="no token with the id 400"):
        export_tokenizer(folder)


def test_an_imported_file_is_kept_as_it_is(tmp_path):
    tokenizer = imported((300,), "<s> $A", end_ids=(301,))
    assert tokenizer.backend.token_to_id("<s>") == 300
    folder = load_folder(make_folder(tmp_path / "m", "modern", tokenizer))
    exported = export_tokenizer(folder)
    assert exported.description == json.loads(tokenizer.to_bytes())
    assert exported.ids == {"bos_token": 300, "eos_token": 301} and not exported.literal


def test_transformers_reads_an_imported_tokenizer_as_we_do(tmp_path):
    """SentencePiece's kind, with <s> before a text; and a byte-level one that adds a space."""
    import tokenizers
    from tokenizers import decoders, normalizers, pre_tokenizers

    transformers = pytest.importorskip("transformers")
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [*sorted({*TEXT.replace(" ", "▁")}), "he", "▁he"]
    model = tokenizers.models.BPE(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[("h", "e"), ("▁", "he")],
        unk_token="<unk>",
        byte_fallback=True,
    )
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens(pieces[:3])
    spaced = train_tokenizer("bpe", [TEXT], 300).backend
    spaced.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    for name, tokenizer in (
        ("pieces", ImportedTokenizer(backend, [2], [1])),
        ("spaced", ImportedTokenizer(spaced, [0])),
    ):
        folder = make_folder(tmp_path / name, "modern", tokenizer)
        out = export_model(folder, tmp_path / f"{name}-hf").path
        theirs = transformers.AutoTokenizer.from_pretrained(out)
        described = json.loads((out / "tokenizer_config.json").read_text())
        assert described["add_bos_token"] is (name == "pieces")
        assert described["model_input_names"] == ["input_ids", "attention_mask"]
        assert described.get("add_prefix_space") is (True if name == "spaced" else None)
        for text in TEXTS:
            ids = tokenizer.encode(text).tolist()
            assert theirs(text)["input_ids"] == [*tokenizer.prefix_ids, *ids]
            assert theirs.decode(ids) == tokenizer.decode(ids)
