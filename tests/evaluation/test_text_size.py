"""Bytes of tokens add up to the bytes of the text."""

import numpy as np
import pytest

from minigpt_tf.evaluation.text_size import added_bytes, byte_lengths
from minigpt_tf.text.tokenizers import ImportedTokenizer, Tokenizer, train_tokenizer
from tests.conftest import SAMPLE

HARD = "naïve café — 日本語 😀\n\ttabs  and   spaces\n\n"


@pytest.mark.parametrize("kind", ["char", "bpe"])
@pytest.mark.parametrize("text", [HARD, SAMPLE.read_text(encoding="utf-8")])
def test_tokenizers_that_lose_nothing(kind, text):
    tokenizer = train_tokenizer(kind, [text], 300)
    lengths = byte_lengths(tokenizer, tokenizer.vocab_size + 7)
    ids = tokenizer.encode(text)
    assert lengths[ids].sum() == len(text.encode()) and len(lengths) == tokenizer.vocab_size + 7


def test_gpt2(gpt2_files):
    tokenizer = train_tokenizer("gpt2", [], 0)
    text = HARD + "<|endoftext|>"
    lengths = byte_lengths(tokenizer, 50257)
    assert lengths[tokenizer.encode(text)].sum() == len(text.encode())
    assert lengths[50256] == len("<|endoftext|>")
    singles = [token for token in range(50257) if lengths[token] == 1]
    assert len(singles) == 256


def test_words_count_with_the_space_before_them():
    tokenizer = train_tokenizer("word", ["The Café, the river; THE river!"], 100)
    lengths = byte_lengths(tokenizer, 100)
    ids = tokenizer.encode("The café! unheard")  # the, café, <OOV>
    assert lengths[ids].tolist() == [4, 6, 6] and lengths[0] == 0
    few = train_tokenizer("word", ["a a a b b c"], 4)  # <OOV>, a, b
    assert byte_lengths(few, 4).tolist() == [0, 6, 2, 2]


def test_characters_of_a_word_tokenizer_count_alone():
    tokenizer = Tokenizer(lower=False, char_level=True)
    tokenizer.fit_on_texts([HARD])
    ids = tokenizer.encode(HARD)
    assert byte_lengths(tokenizer, tokenizer.vocab_size)[ids].sum() == len(HARD.encode())


def test_a_sentencepiece_vocabulary():
    tokenizers = pytest.importorskip("tokenizers")
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁the", "r", "▁▁"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [("▁", "▁")]
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True
        )
    )
    backend.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    backend.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.ByteFallback()]
    )
    backend.add_special_tokens(["<s>"])
    tokenizer = ImportedTokenizer(backend)
    lengths = byte_lengths(tokenizer, tokenizer.vocab_size)
    text = "r  é日r "
    ids = tokenizer.encode(text)
    assert lengths[ids].sum() == len(text.encode()) and len(ids) < len(text.encode())
    assert lengths[vocabulary["▁the"]] == 4 and lengths[vocabulary["<s>"]] == 3
    assert np.array_equal(lengths[2:258], np.ones(256))


def test_the_space_that_sentencepiece_puts_before_a_text(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    from minigpt_tf.interop.vocabularies import sentencepiece_tokenizer

    options = {"model_type": "bpe", "byte_fallback": True, "minloglevel": 2, "vocab_size": 400}
    options |= {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    for prefix in (True, False):
        sentencepiece.SentencePieceTrainer.train(
            input=str(SAMPLE), model_prefix=str(tmp_path / "m"), add_dummy_prefix=prefix, **options
        )
        tokenizer = ImportedTokenizer(sentencepiece_tokenizer(tmp_path / "m.model"))
        lengths = byte_lengths(tokenizer, tokenizer.vocab_size)
        for text in ("the river", " the river", "日本", HARD):
            ids = tokenizer.encode(text)
            added = added_bytes(tokenizer, ids, lengths)
            assert added == prefix and lengths[ids].sum() - added == len(text.encode())
    assert added_bytes(tokenizer, ids[:0], lengths) == 0
