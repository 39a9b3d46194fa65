"""Losses against sums over Keras's logits by hand, on the engine and in Keras."""

import json
import math
import subprocess
import sys

import keras
import numpy as np
import pytest

from minigpt_tf.config.presets import PRESETS
from minigpt_tf.errors import ConfigError, DataError
from minigpt_tf.evaluation.scoring import Score, loss_of_batch, loss_over, score
from minigpt_tf.inference.engine import CHUNK, Engine
from minigpt_tf.model import build_gpt_model
from minigpt_tf.text.windows import scoring_batches
from tests.conftest import ROOT, tiny_config
from tests.model.test_gpt import logits_of, shaken

VOCABULARY, CONTEXT = 40, 24


def pair(preset, **overrides):
    """A Keras model, and an engine with the same weights."""
    config = tiny_config(
        preset, **{"vocab_size": VOCABULARY, "context_length": CONTEXT, **overrides}
    )
    model = shaken(build_gpt_model(config, seed=1))
    return model, Engine.from_model(model, config)


@pytest.fixture(scope="module")
def models():
    return pair("modern")


def log_probabilities(model, ids):
    """log p(ids[t] | ids[:t]) for t = 1, ..., in float64."""
    logits = logits_of(model, np.asarray(ids)[None, :-1])[0].astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return [math.log(shares[t - 1][ids[t]]) for t in range(1, len(ids))]


def by_hand(model, ids, window, stride, given=1):
    """Losses by token: each target in the first window that has it."""
    losses = {}
    for start in range(0, len(ids) - 1, stride):
        found = log_probabilities(model, ids[start : start + window + 1])
        for target, value in enumerate(found, start=start + 1):
            if target >= given:
                losses.setdefault(target, -value)
        if start + window >= len(ids) - 1:
            break
    return losses


def text(length, seed=0):
    return np.random.default_rng(seed).integers(0, VOCABULARY, length)


@pytest.mark.parametrize("preset", PRESETS)
def test_engine_and_keras_agree(preset):
    ids = text(100)
    both = [score(m, ids, context_length=CONTEXT, stride=10) for m in pair(preset)]
    assert both[0].loss == pytest.approx(both[1].loss, abs=1e-4)
    assert both[0].tokens == both[1].tokens == 99


@pytest.mark.parametrize(
    ("length", "window", "stride"),
    [(2, 24, 24), (24, 24, 24), (25, 24, 7), (26, 24, 7), (60, 24, 24), (61, 24, 5), (20, 9, 1)],
)
def test_each_token_is_scored_once_by_the_first_window_that_has_it(models, length, window, stride):
    ids = text(length)
    losses = by_hand(models[0], ids, window, stride)
    assert sorted(losses) == list(range(1, length))
    for model in models:
        found = score(model, ids, context_length=window, stride=stride)
        assert found.tokens == length - 1
        assert found.loss == pytest.approx(np.mean(list(losses.values())), abs=1e-5)


def test_without_a_stride_the_windows_are_those_of_scoring_batches(models):
    ids = text(80)
    for model in models:
        batches = scoring_batches(ids, CONTEXT, 2)
        expected = loss_over(model, batches)
        assert score(model, ids, context_length=CONTEXT).loss == pytest.approx(expected, abs=1e-6)


def test_a_prefix_is_context_and_is_not_scored(models):
    ids = text(50)
    for prefix in ([7], [7, 8, 9]):
        whole = [*prefix, *ids.tolist()]
        losses = by_hand(models[0], whole, CONTEXT, 11, given=len(prefix))
        for model in models:
            found = score(model, ids, context_length=CONTEXT, stride=11, prefix_ids=prefix)
            assert found.tokens == len(ids) == len(losses)
            assert found.loss == pytest.approx(np.mean(list(losses.values())), abs=1e-5)


def test_a_long_window_goes_through_the_engine_in_pieces():
    length = 2 * CHUNK + 30
    model, engine = pair("modern", context_length=length)
    ids = text(length + 1)
    expected = -np.mean(log_probabilities(model, ids))
    assert score(engine, ids, context_length=length).loss == pytest.approx(expected, abs=1e-5)
    pieces = list(engine.logits_in_chunks(ids[:length], CHUNK + 5))
    assert [len(piece) for piece in pieces] == [CHUNK, 5]
    whole = engine.all_logits(ids[:length])
    np.testing.assert_allclose(np.concatenate(pieces), whole[-CHUNK - 5 :], atol=1e-5)


def test_some_of_the_windows_are_spread_evenly(models):
    ids = text(1 + 10 * CONTEXT)
    chosen = [ids[start : start + CONTEXT + 1] for start in (0, 2 * CONTEXT, 5 * CONTEXT)]
    found = score(models[1], ids, context_length=CONTEXT, num_windows=3)
    # 0 * 10 // 3, 1 * 10 // 3 and 2 * 10 // 3
    chosen = [ids[i * CONTEXT : (i + 1) * CONTEXT + 1] for i in (0, 3, 6)]
    expected = -np.mean([log_probabilities(models[0], window) for window in chosen])
    assert found.tokens == 3 * CONTEXT and found.loss == pytest.approx(expected, abs=1e-5)
    all_of_it = score(models[1], ids, context_length=CONTEXT, num_windows=99)
    assert all_of_it.tokens == 10 * CONTEXT


def test_bytes_are_those_of_the_scored_tokens(models):
    ids, lengths = text(50), np.arange(VOCABULARY) % 4
    found = score(models[1], ids, context_length=CONTEXT, stride=9, byte_lengths=lengths)
    assert found.bytes == lengths[ids[1:]].sum()
    expected = found.loss * 49 / math.log(2) / found.bytes
    assert found.bits_per_byte == pytest.approx(expected)
    with_prefix = score(
        models[1], ids, context_length=CONTEXT, prefix_ids=[3], byte_lengths=lengths
    )
    assert with_prefix.bytes == lengths[ids].sum()


def test_figures_of_a_score():
    found = Score(loss=math.log(8), tokens=10, bytes=15)
    assert found.perplexity == pytest.approx(8) and found.bits_per_byte == pytest.approx(2)
    assert Score(1e6, 1, None).perplexity == math.inf
    assert Score(1.0, 1, None).bits_per_byte is None and Score(1.0, 1, 0).bits_per_byte is None


def test_loss_over_counts_tokens_not_batches(models):
    ids = text(8 * 10 + 4).astype(np.int32)
    long, short = (ids[:80].reshape(4, 20), ids[80:].reshape(1, 4))
    batches = [(long[:, :-1], long[:, 1:]), (short[:, :-1], short[:, 1:])]
    rows = [*long, short[0]]
    expected = -np.mean(np.concatenate([log_probabilities(models[0], row) for row in rows]))
    for model in models:
        assert loss_over(model, iter(batches)) == pytest.approx(expected, abs=1e-5)
        assert loss_over(model, batches, 9) == pytest.approx(expected, abs=1e-5)
        assert loss_over(model, batches, 1) == pytest.approx(loss_of_batch(model, *batches[0]))


def test_nothing_to_score_is_an_error_and_never_nan(models):
    x = np.ones((2, 3), dtype=int)
    for model in models:
        for batches, number in (([], None), ([(x, x)], 0), (iter(()), 3)):
            with pytest.raises(DataError, match="there is no batch"):
                loss_over(model, batches, number)
        for ids in ([], [1]):
            with pytest.raises(DataError, match="tokens are too few"):
                score(model, ids, context_length=CONTEXT)
        with pytest.raises(DataError, match="tokens are too few"):  # all of the window is given
            score(model, [1, 2, 3], context_length=2, prefix_ids=[5] * 4, num_windows=1)
        with pytest.raises(DataError, match="expected twice"):
            loss_of_batch(model, x[:, :0], x[:, :0])


def test_what_cannot_be_scored_is_refused(models):
    x = np.ones((1, 3), dtype=int)
    for model in models:
        for wrong in (np.full((1, 3), VOCABULARY), np.full((1, 3), -1)):
            with pytest.raises(DataError, match="outside the model's vocabulary of 40"):
                loss_of_batch(model, x, wrong)
            with pytest.raises(DataError, match="outside the model's vocabulary of 40"):
                loss_of_batch(model, wrong, x)
        with pytest.raises(DataError, match="token id 40 is outside"):
            score(model, [1, 2, 40], context_length=CONTEXT)
        with pytest.raises(DataError, match="token id 99 is outside"):
            score(model, [1, 2], context_length=CONTEXT, prefix_ids=[99])
        with pytest.raises(DataError, match="expected twice"):
            loss_of_batch(model, x, x[:, 1:])
        with pytest.raises(DataError, match="float64"):
            loss_of_batch(model, x, x + 0.5)
        with pytest.raises(ConfigError, match="25 tokens"):
            loss_of_batch(model, text(25)[None], text(25)[None])
        for stride in (0, -1, CONTEXT + 1):
            with pytest.raises(ConfigError, match=f"stride={stride}: must be from 1 to"):
                score(model, text(50), context_length=CONTEXT, stride=stride)
        with pytest.raises(ConfigError, match="num_windows=0"):
            score(model, text(50), context_length=CONTEXT, num_windows=0)


def test_a_loaded_keras_file_scores_as_the_live_model(models, tmp_path):
    models[0].save(tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5", compile=False)
    found = [score(model, text(60), context_length=CONTEXT).loss for model in (models[0], loaded)]
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_perplexity_overflows_quietly():
    with np.errstate(all="raise"):
        assert Score(6e4, 1, None).perplexity == math.inf


def test_the_engine_scores_without_tensorflow(trained_folder):
    code = """
import json, sys
from minigpt_tf.evaluation.scoring import score
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.engine import Engine
contents = load_folder(sys.argv[1])
found = score(Engine.load(contents)[0], list(range(100)), context_length=16)
print(json.dumps([found.loss, "tensorflow" in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(trained_folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loss, imported = json.loads(done.stdout)
    assert loss > 0 and not imported
