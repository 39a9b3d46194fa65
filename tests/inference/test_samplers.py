"""Samplers on hand-made tables, and the chain by frequency."""

import math

import numpy as np
import pytest

from minigpt_tf.config import SamplingConfig
from minigpt_tf.errors import ConfigError
from minigpt_tf.inference.filters import (
    apply_logit_bias,
    apply_min_p,
    apply_no_repeat_ngram,
    apply_repetition_penalty,
    apply_temperature,
    apply_top_k,
    apply_top_p,
)
from minigpt_tf.inference.samplers import make_sampler

SHARES = np.array([0.1, 0.5, 0.15, 0.25])
LOGITS = np.log(SHARES).astype(np.float32)
NOTHING = np.array([], dtype=int)


def kept(logits):
    return np.flatnonzero(np.isfinite(logits)).tolist()


def test_top_k_keeps_the_likeliest():
    assert kept(apply_top_k(LOGITS, 1)) == [1]
    assert kept(apply_top_k(LOGITS, 2)) == [1, 3]
    assert kept(apply_top_k(LOGITS, 9)) == [0, 1, 2, 3]
    assert kept(apply_top_k(np.zeros(4), 2)) == [0, 1]


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.001, [1]),
        (0.49, [1]),
        (0.51, [1, 3]),
        (0.74, [1, 3]),
        (0.76, [1, 2, 3]),
        (0.95, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(top_p, expected):
    assert kept(apply_top_p(LOGITS, top_p)) == expected


@pytest.mark.parametrize(
    ("min_p", "expected"), [(0.1, [0, 1, 2, 3]), (0.25, [1, 2, 3]), (0.4, [1, 3]), (1.0, [1])]
)
def test_min_p_is_a_share_of_the_likeliest(min_p, expected):
    assert kept(apply_min_p(LOGITS, min_p)) == expected


def test_temperature_divides_the_logits():
    cooled = apply_temperature(LOGITS, 0.5)
    np.testing.assert_allclose(np.diff(cooled), np.diff(LOGITS) * 2, rtol=1e-5)
    assert np.isfinite(apply_temperature(np.array([1e30, 0.0]), 1e-6)[0])


def test_repetition_penalty_lowers_what_was_said_whatever_its_sign():
    logits = np.array([2.0, -2.0, 3.0, 0.0])
    assert apply_repetition_penalty(logits, [0, 1, 1, 3], 2.0).tolist() == [1.0, -4.0, 3.0, 0.0]
    assert logits.tolist() == [2.0, -2.0, 3.0, 0.0]


def test_logit_bias_adds_to_single_tokens():
    assert apply_logit_bias(np.array([1.0, 2.0, 3.0]), {2: -5.0, 0: 1.5}).tolist() == [2.5, 2, -2]
    with pytest.raises(ConfigError, match="token id 3 is outside the vocabulary of 3"):
        apply_logit_bias(np.zeros(3), {3: 1.0})


@pytest.mark.parametrize(
    ("ids", "n", "forbidden"),
    [
        ([0, 1, 2, 0, 1], 3, [2]),
        ([0, 1, 2, 0, 1, 3, 0, 1], 3, [2, 3]),
        ([0, 1, 2, 0, 2], 3, []),
        ([0, 1, 2, 0], 2, [1]),
        ([0, 0, 0], 2, [0]),
        ([0, 2], 1, [0, 2]),
        ([0, 1], 3, []),
        ([], 2, []),
        ([0, 1, 2, 3], 1, []),  # all would be forbidden
    ],
)
def test_no_repeat_ngram_forbids_what_would_repeat(ids, n, forbidden):
    kept_ids = [token for token in range(4) if token not in forbidden]
    assert kept(apply_no_repeat_ngram(LOGITS, ids, n)) == kept_ids


def test_no_ngram_comes_twice():
    sample = make_sampler(SamplingConfig(seed=1, no_repeat_ngram=3, top_p=1.0), NOTHING)
    ids = []
    for _ in range(200):
        ids.append(sample(np.zeros(12), ids)[0])
    triples = list(zip(ids, ids[1:], ids[2:], strict=False))
    assert len(set(triples)) == len(triples)


@pytest.mark.parametrize("seed", range(5))
def test_top_p_and_top_k_are_those_of_a_full_sort(seed):
    logits = np.random.default_rng(seed).standard_normal(500).round(1) * 3  # with equals
    order = sorted(range(500), key=lambda i: (-logits[i], i))
    assert kept(apply_top_k(logits, 40)) == sorted(order[:40])
    shares = np.exp(logits) / np.exp(logits).sum()
    for top_p in (0.1, 0.5, 0.9, 0.99, 0.9999):
        total, count = 0.0, 0
        while total < top_p:
            total += shares[order[count]]
            count += 1
        assert kept(apply_top_p(logits, top_p)) == sorted(order[:count])


def frequencies(config, suppressed=NOTHING, draws=20000):
    sample = make_sampler(config, suppressed)
    return np.bincount([sample(LOGITS, [])[0] for _ in range(draws)], minlength=4) / draws


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"temperature": 1.0}, SHARES),
        ({"temperature": 0.5}, SHARES**2 / (SHARES**2).sum()),
        ({"temperature": 1.0, "top_k": 2}, [0, 2 / 3, 0, 1 / 3]),
        ({"temperature": 1.0, "top_p": 0.8}, [0, 5 / 9, 1.5 / 9, 2.5 / 9]),
        ({"temperature": 1.0, "min_p": 0.4}, [0, 2 / 3, 0, 1 / 3]),
        (
            {"temperature": 1.0, "logit_bias": {0: math.log(5.0)}},
            [5 / 14, 5 / 14, 1.5 / 14, 2.5 / 14],
        ),
        ({"greedy": True, "logit_bias": {2: 9.0}}, [0, 0, 1, 0]),
        ({"greedy": True}, [0, 1, 0, 0]),
        ({"temperature": 0.0}, [0, 1, 0, 0]),
    ],
)
def test_tokens_come_as_often_as_they_should(settings, expected):
    found = frequencies(SamplingConfig(**{"seed": 1, "top_p": 1.0, **settings}))
    np.testing.assert_allclose(found, expected, atol=3.5 * math.sqrt(0.25 / 20000))
    assert np.all((found > 0) == (np.asarray(expected) > 0))


def test_suppressed_tokens_never_come():
    found = frequencies(
        SamplingConfig(seed=1, temperature=5.0, top_p=1.0), suppressed=np.array([1, 2])
    )
    assert found[1] == found[2] == 0 and found[0] > 0
    assert make_sampler(SamplingConfig(greedy=True), np.array([1]))(LOGITS, [])[0] == 3


def test_a_seed_fixes_the_draws():
    def draws(seed):
        sample = make_sampler(SamplingConfig(seed=seed, temperature=1.0), NOTHING)
        return [sample(LOGITS, [])[0] for _ in range(50)]

    assert draws(1) == draws(1) != draws(2)
    assert draws(None) != draws(None)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": 1e300},
        {"temperature": 1e-320},
        {"repetition_penalty": 1e-300},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.5},
        {"min_p": 2},
        {"repetition_penalty": 0},
        {"max_new_tokens": -1},
        {"seed": -1},
        {"no_repeat_ngram": -1},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1},
        {"frequency_penalty": float("nan")},
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {1: float("nan")}},
        {"logit_bias": {1: 1e9}},
        {"stop": ("",)},
        {"context_full": "explode"},
        {"max_new_tokens": 2.5},
        {"top_k": "5"},
        {"greedy": 1},
        {"stop": "ab"},
        {"stop": (1,)},
        {"logit_bias": {"a": 1.0}},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        SamplingConfig(**settings)
