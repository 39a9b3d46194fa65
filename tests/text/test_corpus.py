"""Documents -> training and validation ids, and the data report."""

import numpy as np
import pytest

from minigpt_tf.config import DataConfig, ModelConfig
from minigpt_tf.errors import DataError
from minigpt_tf.text.corpus import build_corpus, check_validation, describe, fit_context
from minigpt_tf.text.documents import Documents, survey
from minigpt_tf.text.tokenizers import train_tokenizer


def documents_of(*texts):
    return Documents([survey("a.txt", lambda text=text: iter([text])) for text in texts])


def corpus_of(text, kind="word", **settings):
    documents = documents_of(*text.split("|"))
    data = DataConfig(tokenizer=kind, **settings)
    tokenizer = train_tokenizer(kind, documents.texts, 400)
    return documents, build_corpus(documents, tokenizer, data), data


def test_the_split_comes_before_windowing():
    words = [f"w{i}" for i in range(100)]
    _, corpus, _ = corpus_of(" ".join(words), val_split=0.2)
    everything = np.concatenate([corpus.train_ids, corpus.val_ids])
    assert np.array_equal(everything, corpus.tokenizer.encode(" ".join(words)))
    assert 18 <= len(corpus.val_ids) <= 20


def test_documents_are_kept_apart():
    _, corpus, _ = corpus_of("one|two", kind="bpe", val_split=0)
    assert corpus.tokenizer.decode(corpus.train_ids) == "one<|endoftext|>two"
    assert corpus.train_ids[3] in corpus.tokenizer.end_ids
    _, corpus, _ = corpus_of("one|two", val_split=0)
    assert corpus.tokenizer.decode(corpus.train_ids) == "one two"


def test_the_report_has_the_numbers():
    text = "a b c d e f g h i j " * 20  # 200 words, 400 characters
    documents, corpus, data = corpus_of(text, val_split=0.1, stride=2)
    documents.skipped.append(("b.png", "files ending in .png are not read"))
    report = dict(describe(corpus, data, ModelConfig(vocab_size=400, context_length=20)))
    assert report["documents"] == "1 read, 1 skipped"
    assert report["skipped"] == "b.png: files ending in .png are not read"
    assert report["characters"] == "400"
    assert report["tokens"] == "200 (word): 181 training, 19 validation"
    assert report["vocabulary"] == "11 tokens known, 400 ids in the model"
    assert report["unknown tokens"] == "0 (0.00%)"
    assert report["windows"].startswith("81 training (of 20, stride 2), 1 validation (of 18:")
    assert report["tokens / context"] == "10.0"


def test_the_report_counts_unknown_tokens():
    documents = documents_of("a a a b b c")
    data = DataConfig(val_split=0)
    corpus = build_corpus(documents, train_tokenizer("word", documents.texts, 3), data)
    report = dict(describe(corpus, data, ModelConfig(vocab_size=3, context_length=2)))
    assert report["unknown tokens"] == "3 (50.00%)"


def test_a_context_too_long_is_shrunk_or_refused_with_the_numbers():
    _, corpus, _ = corpus_of("x " * 41, val_split=0)
    assert fit_context(corpus, 40, may_shrink=True) == 40
    assert fit_context(corpus, 41, may_shrink=True) == 20
    with pytest.raises(
        DataError, match="41 tokens for training, and a context of 41 needs at least 42"
    ):
        fit_context(corpus, 41, may_shrink=False)
    _, tiny, _ = corpus_of("x y z", val_split=0)
    with pytest.raises(DataError, match="too short: 3 tokens"):
        fit_context(tiny, 100, may_shrink=True)


def test_a_validation_part_without_a_prediction_is_refused():
    _, corpus, data = corpus_of("x " * 50, val_split=0.02)
    with pytest.raises(DataError, match=r"val_split=0\.02 leaves 0 tokens"):
        check_validation(corpus, data.val_split)


def test_the_fingerprint_sees_every_change():
    text = "a b c d e f g h i j " * 5
    prints = [corpus_of(text)[1], corpus_of(text, val_split=0.2)[1], corpus_of("b" + text[1:])[1]]
    assert len({corpus.fingerprint() for corpus in prints}) == 3
    assert corpus_of(text)[1].fingerprint() == prints[0].fingerprint()
