"""Vocabularies against SentencePiece itself and against llama.cpp."""

import gguf
import pytest
import tokenizers

from minigpt_tf.errors import DataError
from minigpt_tf.interop.vocabularies import (
    CUTTINGS,
    PieceType,
    byte_level_tokenizer,
    sentencepiece_from_pieces,
    sentencepiece_tokenizer,
)
from minigpt_tf.text.compiled.byte_level import byte_symbols, describe
from minigpt_tf.text.tokenizers import BytePairTokenizer
from tests.conftest import SAMPLE
from tests.interop.folders import TEXT, LlamaCpp

sentencepiece = pytest.importorskip("sentencepiece")

TEXTS = [
    "Ramanujan",
    " The number 1729 is  interesting:   it isn't dull.  ",
    "line one\nline two\n\n\n   indented\ttab",
    "----- ------- aaaaaaa !!!!! 0000000 the the the",
    "naïve café — 日本語 \U0001f600 <0x41> İstanbul ﬁne",
    "don't WE'LL you'Re 12345 3.14 $5 x<=y ~~ a^b \r\n\r\n end",
    " ",
    "",
    TEXT,
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function that trains a SentencePiece model and gives its file."""
    folder = tmp_path_factory.mktemp("sentencepiece")

    def train(name, **options):
        """A model of some options."""
        sentencepiece.SentencePieceTrainer.train(
            input=str(SAMPLE),
            model_prefix=str(folder / name),
            vocab_size=options.pop("vocab_size", 500),
            minloglevel=2,
            num_threads=1,
            **options,
        )
        return folder / f"{name}.model"

    return train


LLAMA = {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity"}
LLAMA |= {"remove_extra_whitespaces": False, "split_digits": True}
OPTIONS = {
    "llama": LLAMA,
    "no prefix": {**LLAMA, "add_dummy_prefix": False},
    "defaults": {"model_type": "bpe"},
    "unigram": {"model_type": "unigram", "vocab_size": 400},
    "unigram, bytes": {"model_type": "unigram", "byte_fallback": True, "vocab_size": 650},
    "user": {**LLAMA, "user_defined_symbols": ["<mark>", "the", "1729"]},
    "unigram, user": {
        "model_type": "unigram",
        "vocab_size": 400,
        "user_defined_symbols": ["<mark>", "1729"],
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_ids_are_those_of_sentencepiece(trained, name):
    file = trained(name.replace(", ", "_"), **OPTIONS[name])
    theirs, ours = sentencepiece.SentencePieceProcessor(str(file)), sentencepiece_tokenizer(file)
    texts = [*TEXTS, "a<mark>b <mark> theme", "<mark>", *SAMPLE.read_text().splitlines()[:60]]
    for text in texts:
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs.encode(text), text
        if OPTIONS[name].get("byte_fallback"):  # else unknown characters have no text
            assert ours.decode(ids, skip_special_tokens=False) == theirs.decode(ids), text


def test_control_pieces_become_their_ids_and_files_keep_the_tokenizer(trained):
    ours = sentencepiece_tokenizer(trained("control", **LLAMA))
    ids = ours.encode("a</s>b", add_special_tokens=False).ids
    assert ids == [*ours.encode("a").ids, 2, *ours.encode("b").ids]
    again = tokenizers.Tokenizer.from_str(ours.to_str())
    assert again.encode(TEXT).ids == ours.encode(TEXT).ids


@pytest.mark.parametrize(
    "content, reason",
    [(b"", "no pieces"), (b"\xff" * 40, "damaged"), (b"GGUF" + bytes(60), "damaged|no pieces")],
)
def test_other_files_are_refused(tmp_path, content, reason):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        sentencepiece_tokenizer(tmp_path / "tokenizer.model")
    with pytest.raises(DataError, match="cannot be read"):
        sentencepiece_tokenizer(tmp_path / "missing.model")


def test_models_of_words_are_refused(trained):
    file = trained("word", model_type="word", vocab_size=100)
    with pytest.raises(DataError, match="not a BPE or Unigram"):
        sentencepiece_tokenizer(file)


@pytest.mark.parametrize(
    "pieces, types, reason",
    [
        (["<unk>", "a", "a"], [2, 1, 1], "duplicate piece 'a'"),
        (["<unk>", "a"], [2], "2 pieces have 1 types"),
        (["<unk>", "a"], [2, 9], "unknown type 9"),
        (["<unk>", b"\xff"], [2, 1], "a piece is not UTF-8"),
    ],
)
def test_damaged_pieces_are_refused(pieces, types, reason):
    with pytest.raises(DataError, match=reason):
        sentencepiece_from_pieces(pieces, [0.0] * len(pieces), types)


# ---------------------------------------------------------------- llama.cpp


def vocabulary_file(path, model, tokens, types, **lists):
    """A GGUF file of a vocabulary alone."""
    pytest.importorskip("llama_cpp", reason="llama.cpp is not installed")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    for name, values in lists.items():
        getattr(writer, f"add_{name}")(values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return LlamaCpp(path, vocab_only=True)


@pytest.mark.parametrize("space", [True, False])
def test_pieces_of_gguf_files_give_the_ids_of_llama_cpp(trained, tmp_path, space):
    file = trained("pieces", **LLAMA, user_defined_symbols=["<mark>"])
    model = sentencepiece.SentencePieceProcessor(str(file))
    pieces = [model.id_to_piece(i) for i in range(model.vocab_size())]
    scores = [model.get_score(i) for i in range(model.vocab_size())]
    types = [int(PieceType.NORMAL)] * len(pieces)
    types[:4] = [PieceType.UNKNOWN, *[PieceType.CONTROL] * 2, PieceType.USER_DEFINED]
    assert pieces[3] == "<mark>"
    for i in range(4, 260):
        types[i] = PieceType.BYTE
    theirs = vocabulary_file(
        tmp_path / "v.gguf",
        "llama",
        pieces,
        types,
        token_scores=scores,
        add_space_prefix=space,
    )
    ours = sentencepiece_from_pieces(pieces, scores, types, space)
    texts = [*TEXTS[:-3], TEXT, "a</s>b <s>c", "x <mark> y<mark>", *SAMPLE.read_text().splitlines()]
    for text in texts:
        assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text), text


@pytest.fixture(scope="module")
def byte_vocabulary():
    """Tokens, types and merges of a byte-level vocabulary with some special tokens."""
    backend = BytePairTokenizer.train([SAMPLE.read_text(), TEXT * 3, "12345 " * 5], 700).backend
    description = describe(backend)["model"]
    tokens = sorted(description["vocab"], key=description["vocab"].get)
    merges = [" ".join(merge) for merge in description["merges"]]
    types = [int(PieceType.CONTROL)] + [int(PieceType.NORMAL)] * (len(tokens) - 1)
    # A word that no merge makes whole, a marker, and an unused place.
    tokens += ["Ġmathematicianly", "<mark>", "[PAD0]"]
    types += [PieceType.NORMAL, PieceType.USER_DEFINED, PieceType.UNUSED]
    return tokens, [int(t) for t in types], merges


@pytest.mark.parametrize("pre", CUTTINGS)
def test_byte_level_vocabularies_give_the_ids_of_llama_cpp(byte_vocabulary, tmp_path, pre):
    tokens, types, merges = byte_vocabulary
    theirs = vocabulary_file(
        tmp_path / "v.gguf", "gpt2", tokens, types, token_merges=merges, tokenizer_pre=pre
    )
    ours = byte_level_tokenizer(tokens, merges, pre, types)
    special = ["a <mark> mathematicianly<|endoftext|> b", "so mathematicianly 1234567 [PAD0]"]
    for text in [*TEXTS, *special, *SAMPLE.read_text().splitlines()]:
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs.encode(text), text
        assert ours.decode(ids, skip_special_tokens=False) == text


def test_unknown_names_and_damaged_merges_are_refused():
    tokens = [*byte_symbols(), "ab"]
    with pytest.raises(DataError, match="pre-tokenizer 'bloom': supported are gpt-2"):
        byte_level_tokenizer(tokens, ["a b"], "bloom")
    with pytest.raises(DataError, match="'ab' is not a pair"):
        byte_level_tokenizer(tokens, ["ab"], "gpt-2")
    with pytest.raises(DataError, match="'a c' makes no token"):
        byte_level_tokenizer(tokens, ["a b", "a c"], "gpt-2")
    assert byte_level_tokenizer(tokens, ["a b", "ab xyz"], "gpt-2").encode("abab").ids == [256, 256]
