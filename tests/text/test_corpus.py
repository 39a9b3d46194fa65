"""Documents -> training and validation ids, and the data report."""

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigpt_tf.config import DataConfig, ModelConfig
from minigpt_tf.errors import DataError
from minigpt_tf.files.documents import Documents, read_documents, scan
from minigpt_tf.text import corpus as corpus_module
from minigpt_tf.text import tokenizers as tokenizers_module
from minigpt_tf.text.corpus import (
    build_corpus,
    check_validation,
    describe,
    fit_context,
    learn_tokenizer,
)
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.conftest import ROOT, SAMPLE, Recorder


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """Each test makes its own entries: what another test has made would pass without being run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def documents_of(*texts):
    return Documents([scan("a.txt", lambda text=text: iter([text])) for text in texts])


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
    assert report["in a window"] == "181 of 181 training tokens (100.00%)"
    assert report["tokens / context"] == "10.0"


@pytest.mark.parametrize(
    ("settings", "windows", "covered"),
    [
        ({}, "161 training (of 20, stride 1)", "181 of 181 training tokens (100.00%)"),
        ({"stride_fraction": 1.0}, "9 training (of 20, stride 20)", "181 of 181 training"),
        ({"stride_fraction": 0.85}, "10 training (of 20, stride 17)", "174 of 181 training"),
        ({"stride": 80}, "3 training (of 20, stride 80)", "63 of 181 training tokens (34.81%)"),
    ],
)
def test_the_report_counts_the_tokens_outside_all_windows(settings, windows, covered):
    _, corpus, data = corpus_of("a b c d e f g h i j " * 20, val_split=0.1, **settings)
    report = dict(describe(corpus, data, ModelConfig(vocab_size=400, context_length=20)))
    assert report["windows"].startswith(windows) and report["in a window"].startswith(covered)


def test_the_report_names_what_is_not_in_the_text(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / f"{name}.html").write_text(f"<p>caf\u00e9 {name}<p hidden>cafe\u0301", "utf-8")
    (tmp_path / "d.txt").write_text("cafe\u0301", "utf-8")
    documents = read_documents(tmp_path)
    corpus = build_corpus(documents, train_tokenizer("word", documents.texts, 9), DataConfig())
    model = ModelConfig(vocab_size=9, context_length=2)
    noted = [text for name, text in describe(corpus, DataConfig(), model) if name == "noted"]
    assert noted[0] == f"{tmp_path}/a.html: left out: 1 hidden element ('cafe\u0301')"
    assert noted[3].startswith("'\u00e9' (1) is written as one character and as several")
    monkeypatch.setattr(corpus_module, "MOST_NOTES", 1)
    noted = [text for name, text in describe(corpus, DataConfig(), model) if name == "noted"]
    assert noted[1] == f"as much of 2 more files, the last {tmp_path}/c.html" and len(noted) == 3


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
    assert len({corpus.fingerprint for corpus in prints}) == 3
    assert corpus_of(text)[1].fingerprint == prints[0].fingerprint


def test_the_fingerprint_is_the_hash_of_length_and_ids():
    """Of runs made before ids were kept in files, too."""
    _, corpus, _ = corpus_of("a b c d e f g h i j " * 5)
    digest = hashlib.sha256(np.int64(len(corpus.train_ids)).tobytes())
    for ids in (corpus.train_ids, corpus.val_ids):
        digest.update(np.asarray(ids, dtype=np.int32).tobytes())
    assert corpus.fingerprint == digest.hexdigest()


PARTS = ["the", "cat", "Σ", "ΣΊΣΥΦΟΣ", "İ", "can't", "'s", "日本", "😀", "é", "<|endoftext|>", "<|"]
PARTS += [" ", " ", "  ", "\n", "\n\n", "\t", "\u00a0", "\u2003", "\x1c", ".", "...", "12", "\x85"]


def texts_of(seed, count=3):
    """Documents of odd characters and white space, each in pieces of a few characters."""
    choices = random.Random(seed)
    texts = ["".join(choices.choices(PARTS, k=choices.randrange(1, 120))) for _ in range(count)]
    size = choices.randrange(1, 9)

    def in_pieces(text):
        return lambda: (text[i : i + size] for i in range(0, len(text), size))

    texts = [text for text in texts if text.strip()] or ["one"]
    return texts, Documents([scan("a.txt", in_pieces(text)) for text in texts])


@pytest.fixture(params=[1, 3, 20])
def small_pieces(request, monkeypatch):
    monkeypatch.setattr(corpus_module, "LEARNED_AT_ONCE", request.param)
    monkeypatch.setattr(corpus_module, "ENCODED_AT_ONCE", request.param)


@pytest.mark.parametrize("kind", ["word", "char", "bpe", "gpt2"])
@pytest.mark.parametrize("long", [False, True])
def test_pieces_give_the_vocabulary_and_the_ids_of_the_whole(
    kind, long, small_pieces, monkeypatch, gpt2_files
):
    monkeypatch.setattr(tokenizers_module, "LONG_TEXT", 0 if long else 10**9)
    for seed in range(6):
        texts, documents = texts_of(seed)
        tokenizer = learn_tokenizer(documents, kind, 300)
        assert tokenizer.to_bytes() == train_tokenizer(kind, texts, 300).to_bytes()
        data = DataConfig(tokenizer=kind, val_split=0.2)
        corpus = build_corpus(documents, tokenizer, data)
        whole = tokenizer.document_separator.join(texts)
        cut = int(len(whole) * 0.8)
        while kind == "word" and 0 < cut < len(whole) and not whole[cut].isspace():
            cut += 1
        parts = [tokenizer.encode(whole[:cut]), tokenizer.encode(whole[cut:])]
        assert np.array_equal(corpus.train_ids, parts[0])
        assert np.array_equal(corpus.val_ids, parts[1])
        for counts, ids in zip(corpus.counts, parts, strict=True):
            assert np.array_equal(counts, np.bincount(ids, minlength=tokenizer.vocab_size))
        assert corpus.characters == len(whole) and corpus.opening == whole[:cut][:80]


def test_ids_are_stored_in_the_smallest_type():
    _, corpus, _ = corpus_of("some text", kind="char")
    assert corpus.train_ids.dtype == np.uint8
    _, corpus, _ = corpus_of("some text", kind="bpe")
    assert corpus.train_ids.dtype == np.uint16
    assert not corpus.train_ids.flags.writeable


def test_a_text_is_encoded_once(monkeypatch):
    documents, corpus, data = corpus_of("a text that no other test has " * 9, kind="bpe")
    learn_tokenizer(documents, "bpe", 300)

    def made_again(*arguments):
        raise RuntimeError("made again")

    monkeypatch.setattr(corpus_module, "write_ids", made_again)
    monkeypatch.setattr(corpus_module, "train_tokenizer", made_again)
    again = build_corpus(documents, corpus.tokenizer, data)
    assert np.array_equal(again.train_ids, corpus.train_ids) and again.opening == corpus.opening
    assert learn_tokenizer(documents, "bpe", 300).vocab_size <= 300
    with pytest.raises(RuntimeError, match="made again"):
        build_corpus(documents, corpus.tokenizer, DataConfig(tokenizer="bpe", val_split=0.3))


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("before " * 100)
    documents = read_documents(file)
    file.write_text("after! " * 100)
    for kind in ("word", "char", "bpe"):
        with pytest.raises(DataError, match=r"a\.txt: has changed while it was read"):
            learn_tokenizer(documents, kind, 300)


def test_progress_is_reported_to_the_end(tmp_path):
    recorder = Recorder()
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("some words to be heard of " * 50)
    (folder / "b.json").write_text('["and more"]')
    documents = read_documents(folder, listener=recorder)
    tokenizer = learn_tokenizer(documents, "char", 300, recorder)
    build_corpus(documents, tokenizer, DataConfig(), recorder)
    last = {what: (done, total) for what, done, total in recorder.work}
    assert last["collecting words"] == (1308, 1308) and last["encoding"] == (1310, 1310)
    assert last["reading the text"][1] == 1312 and last["learning the vocabulary"] == (1, 1)
    assert all(0 <= done <= max(total, 0) for done, total in last.values())


PEAK = """
import re, sys
from minigpt_tf.config import DataConfig
from minigpt_tf.text.corpus import build_corpus, learn_tokenizer
from minigpt_tf.files.documents import read_documents
from minigpt_tf.text.tokenizers import train_tokenizer
from minigpt_tf.text.windows import TrainingWindows
kind = sys.argv[2]
documents = read_documents(sys.argv[1])
bpe = train_tokenizer("bpe", [next(documents.documents[0].chunks())[:100_000]], 400)
tokenizer = bpe if kind == "bpe" else learn_tokenizer(documents, kind, 400)
corpus = build_corpus(documents, tokenizer, DataConfig(tokenizer=kind))
windows = TrainingWindows(corpus.train_ids, 64, batch_size=8, stride=1, seed=0)
assert windows.batch(7)[0].shape == (8, 64)
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
print(len(corpus.train_ids), int(peak[1]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells no peak of memory")
@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_a_long_text_takes_little_more_memory_than_a_short_one(kind, tmp_path):
    """30 MB, which as Python text alone, 4 bytes a character, would be 120."""
    sample = SAMPLE.read_text(encoding="utf-8") + "😀\n"
    found = {}
    for megabytes in (5, 30):
        file = tmp_path / "long.txt"
        file.write_text(sample * (megabytes * 1_000_000 // len(sample)), encoding="utf-8")
        command = [sys.executable, "-c", PEAK, str(file), kind]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found[megabytes] = [int(word) for word in done.stdout.split()]
    assert found[30][0] > 5 * found[5][0]
    assert found[30][1] - found[5][1] < 40
