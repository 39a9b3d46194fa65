"""Each formula against values worked by hand, or against a loop of exact numbers."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from minigpt_tf import metrics

SHARES = np.array([0.1, 0.5, 0.15, 0.25])
LOGITS = np.log(SHARES).astype(np.float32)


def exact_log_softmax(logits):
    """z_i - log sum_j exp(z_j) with 60 digits."""
    with localcontext() as context:
        context.prec = 60
        values = [Decimal(float(z)) for z in logits]
        total = sum((z.exp() for z in values), Decimal(0)).ln()
        return [float(z - total) for z in values]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.01, 1, 30])
def test_log_softmax_and_what_is_made_of_it_are_exact(seed, spread):
    random = np.random.default_rng(seed)
    logits = random.normal(scale=spread, size=(3, 50)).astype(np.float32)
    expected = np.array([exact_log_softmax(row) for row in logits])
    np.testing.assert_allclose(metrics.log_softmax(logits), expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(metrics.softmax(logits), np.exp(expected), rtol=2e-5, atol=1e-37)
    targets = random.integers(0, 50, 3)
    chosen = expected[np.arange(3), targets]
    found = metrics.negative_log_likelihood(logits.copy(), targets)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, -chosen, rtol=2e-6, atol=2e-5)
    for row, token_id, value in zip(logits, targets, chosen, strict=True):
        assert metrics.log_probability(row, token_id) == pytest.approx(value, rel=1e-13)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 500, 32_000])
def test_a_logged_probability_has_the_bits_that_it_always_had(size):
    """What generate --json has printed as "logprobs" since the first version."""
    logits = np.random.default_rng(size).normal(scale=4, size=size).astype(np.float32)
    shifted = logits.astype(np.float64) - logits.max()
    for token_id in {0, size // 2, size - 1}:
        before = float(shifted[token_id] - np.log(np.exp(shifted).sum()))
        assert metrics.log_probability(logits, token_id) == before


def test_log_probability_is_of_the_model_s_distribution():
    for token_id, share in enumerate(SHARES):
        found = metrics.log_probability(LOGITS + 7, token_id)
        assert found == pytest.approx(math.log(share), abs=1e-6)
    assert metrics.log_probability(np.float32([1e30, 0]), 0) == 0


def test_softmax_keeps_what_is_impossible_and_the_dtype():
    found = metrics.softmax(np.array([[0, -np.inf], [1e30, 1e30]], dtype=np.float32))
    assert found.dtype == np.float32 and found.tolist() == [[1, 0], [0.5, 0.5]]


def test_large_losses_are_exact():
    logits = np.array([[0.0, 3e4, -3e4], [1.0, 1.0, 1.0]], dtype=np.float32)
    found = metrics.negative_log_likelihood(logits, np.array([2, 0]))
    assert found.tolist() == [6e4, pytest.approx(math.log(3))]


def test_perplexity_and_bits_per_byte_of_a_fair_die():
    loss = math.log(6)  # each of six sides is as likely
    assert metrics.perplexity(loss) == pytest.approx(6)
    assert metrics.perplexity(0.0) == 1 and metrics.perplexity(6e4) == math.inf
    # A digit of six is log2(6) bits and one byte; in pairs it is twice as much in half the tokens.
    assert metrics.bits_per_byte(loss, tokens=100, nbytes=100) == pytest.approx(math.log2(6))
    assert metrics.bits_per_byte(2 * loss, tokens=50, nbytes=100) == pytest.approx(math.log2(6))


def test_figures_of_a_confusion_matrix_by_hand():
    counts = np.array([[3, 1, 0], [2, 1, 0], [0, 1, 0]])  # a row for each true label
    assert metrics.accuracy(counts) == 0.5
    np.testing.assert_allclose(metrics.precision(counts), [3 / 5, 1 / 3, 0])
    np.testing.assert_allclose(metrics.recall(counts), [3 / 4, 1 / 3, 0])
    np.testing.assert_allclose(metrics.f1(counts), [2 / 3, 1 / 3, 0])


def test_figures_of_labels_are_those_of_counting_examples():
    random = np.random.default_rng(0)
    truth, guess = random.integers(0, 5, (2, 300))
    guess[guess == 4] = 0  # never predicted
    counts = np.zeros((5, 5), dtype=np.int64)
    for pair in zip(truth, guess, strict=True):
        counts[pair] += 1
    assert metrics.accuracy(counts) == pytest.approx(np.mean(truth == guess))
    for label in range(5):
        hits = sum(t == g == label for t, g in zip(truth, guess, strict=True))
        found, real = sum(guess == label), sum(truth == label)
        p, r = hits / found if found else 0.0, hits / real
        assert metrics.precision(counts)[label] == pytest.approx(p)
        assert metrics.recall(counts)[label] == pytest.approx(r)
        assert metrics.f1(counts)[label] == pytest.approx(2 * p * r / (p + r) if p + r else 0.0)
