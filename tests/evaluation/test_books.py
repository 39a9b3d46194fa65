"""Figures that the courses print, on their text."""

import math

import numpy as np
import pytest

from minigpt_tf.config import DataConfig
from minigpt_tf.config.presets import model_preset
from minigpt_tf.evaluation.scoring import Score, loss_of_batch, loss_over
from minigpt_tf.files.documents import read_documents
from minigpt_tf.inference.engine import Engine
from minigpt_tf.model import build_gpt_model
from minigpt_tf.text.corpus import build_corpus
from minigpt_tf.text.tokenizers import train_tokenizer
from minigpt_tf.text.windows import TrainingWindows, window_batches
from tests.conftest import tiny_config
from tests.model.test_gpt import logits_of, shaken

COURSE = {"tie_embeddings": False, "qkv_bias": False}


@pytest.fixture(scope="module")
def verdict(assets):
    """The Verdict in GPT-2's tokens, the last tenth of its characters apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGPT_ASSETS", str(assets))
        tokenizer = train_tokenizer("gpt2", [], 0)
        documents = read_documents(assets / "the-verdict.txt")
        data = DataConfig(tokenizer="gpt2", val_split=0.1)
        return build_corpus(documents, tokenizer, data)


def test_the_verdict(verdict, assets):
    text = (assets / "the-verdict.txt").read_text(encoding="utf-8")
    assert len(text) == verdict.characters == 20_479
    assert len(verdict.tokenizer.encode(text)) == 5_145
    halves = text[: int(0.9 * len(text))], text[int(0.9 * len(text)) :]
    for half, ids in zip(halves, (verdict.train_ids, verdict.val_ids), strict=True):
        assert np.array_equal(verdict.tokenizer.encode(half), ids)


def test_nine_training_batches_and_one_for_validation(verdict):
    settings = {"batch_size": 2, "stride": 256}
    train = list(
        window_batches(verdict.train_ids, 256, shuffle_seed=123, **settings, drop_last=True)
    )
    val = list(window_batches(verdict.val_ids, 256, **settings))
    assert [x.shape for x, _ in train] == [(2, 256)] * 9
    assert [x.shape for x, _ in val] == [(2, 256)]
    assert sum(x.size for x, _ in train) == 4_608 and sum(x.size for x, _ in val) == 512
    windows = TrainingWindows(verdict.train_ids, 256, seed=123, **settings)
    assert windows.steps_per_epoch == 9
    for step, (x, y) in enumerate(train):
        expected = windows.batch(step)
        assert np.array_equal(x, expected[0]) and np.array_equal(y, expected[1])


def test_the_batch_of_two_examples(gpt2_files):
    tokenizer = train_tokenizer("gpt2", [], 0)
    ids = np.array(
        [tokenizer.encode(t) for t in ("every effort moves you", "I really like chocolate")]
    )
    x, y = ids[:, :-1], ids[:, 1:]
    assert x.tolist() == [[16833, 3626, 6100], [40, 1107, 588]]
    assert y.tolist() == [[3626, 6100, 345], [1107, 588, 11311]]
    config = tiny_config("gpt2", vocab_size=50257, context_length=8, **COURSE)
    model = shaken(build_gpt_model(config, seed=1))
    logits = logits_of(model, x).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    six = [probabilities[row, t, y[row, t]] for row in range(2) for t in range(3)]
    expected = -np.mean(np.log(six))
    for either in (model, Engine.from_model(model, config)):
        assert loss_of_batch(either, x, y) == pytest.approx(expected, abs=1e-5)
    assert Score(expected, 6, None).perplexity == pytest.approx(np.prod(six) ** (-1 / 6))


def test_the_loss_of_the_untrained_model(verdict):
    config = model_preset("gpt2", **COURSE)
    assert config.parameter_count == 163_009_536 and config.context_length == 1024
    shallow = model_preset("gpt2", **COURSE, num_layers=1)  # the same head, and quicker
    batches = window_batches(verdict.val_ids, 32, batch_size=2, stride=32)
    loss = loss_over(build_gpt_model(shallow, seed=123), batches, 2)
    # Random logits of variance 768 * 0.02^2 add half of it to the loss of knowing nothing.
    assert loss == pytest.approx(math.log(50257) + 768 * 0.02**2 / 2, abs=0.1)
