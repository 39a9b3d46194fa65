"""The chain of samplers, which sees few candidates, against all V tokens in plain float64."""

import math

import numpy as np
import pytest

from minigpt_tf.config import SamplingConfig
from minigpt_tf.errors import ModelFolderError
from minigpt_tf.inference import samplers
from minigpt_tf.inference.filters import apply_count_penalties, nucleus
from minigpt_tf.inference.samplers import make_sampler
from minigpt_tf.inference.sampling_kernels import BLOCK, sum_exponentials, weigh_blocks
from minigpt_tf.metrics import log_probability

NOTHING = np.array([], dtype=int)


def exact_probabilities(logits, config, ids=(), prompt_tokens=0, suppressed=NOTHING):
    """The distribution (V,) by the definitions: sorted lists, no candidates, float64."""
    z = [float(logit) for logit in logits]
    for token, bias in (config.logit_bias or {}).items():
        z[token] += bias
    for token in suppressed:
        z[token] = -math.inf
    for token in set(ids):
        penalty = config.repetition_penalty
        z[token] = z[token] / penalty if z[token] > 0 else z[token] * penalty
    said = list(ids[prompt_tokens:])
    for token in set(said):
        z[token] -= config.presence_penalty + config.frequency_penalty * said.count(token)
    z = (np.array(z) - max(z)) / config.temperature
    order = sorted(range(len(z)), key=lambda token: (-z[token], token))
    kept = order[: config.top_k or None]
    weights = np.exp(z)
    if config.top_p < 1:
        total, wanted, fewer = 0.0, config.top_p * weights[kept].sum(), []
        for token in kept:
            fewer.append(token)
            total += weights[token]
            if total >= wanted:
                break
        kept = fewer
    kept = [token for token in kept if not config.min_p or z[token] >= math.log(config.min_p)]
    probabilities = np.zeros(len(z))
    probabilities[kept] = weights[kept] / weights[kept].sum()
    return probabilities


def exact_draws(probabilities, seed, draws):
    """Tokens by the inverse of the distribution function."""
    random = np.random.default_rng(seed)
    reached = np.cumsum(probabilities)
    return [
        int(np.searchsorted(reached, random.random() * reached[-1], side="right"))
        for _ in range(draws)
    ]


def logits_of(kind, vocab_size, random):
    logits = random.standard_normal(vocab_size) * 3
    if kind == "language":  # a few likely ones, as models have
        logits[random.integers(0, vocab_size, 30)] += np.linspace(14, 4, 30)
    elif kind == "ties":
        logits = logits.round(0)
    elif kind == "flat":
        logits[:] = 1.5
    elif kind == "impossible":
        logits[random.random(vocab_size) < 0.5] = -np.inf
        logits[random.integers(0, vocab_size)] = 0
    elif kind == "huge":
        logits *= 1e30
    elif kind == "close":
        logits *= 1e-3
    return logits.astype(np.float32)


KINDS = ["normal", "language", "ties", "flat", "impossible", "huge", "close"]


def random_settings(random):
    settings = {"temperature": float(random.choice([0.01, 0.7, 0.8, 1.0, 1.5, 30.0]))}
    settings["top_k"] = int(random.choice([0, 0, 1, 5, 40, 300]))
    settings["top_p"] = float(random.choice([1.0, 0.95, 0.95, 0.5, 0.01, 0.9999]))
    settings["min_p"] = float(random.choice([0.0, 0.0, 0.03, 0.6]))
    settings["repetition_penalty"] = float(random.choice([1.0, 1.0, 1.3, 0.5]))
    settings["presence_penalty"] = float(random.choice([0.0, 0.0, 0.7, -1.1]))
    settings["frequency_penalty"] = float(random.choice([0.0, 0.0, 0.3, -0.9]))
    return settings


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab_size", [1, 2, 3, 63, 64, 65, 1000, 4099])
def test_a_seed_draws_what_the_whole_distribution_gives(kind, vocab_size):
    random = np.random.default_rng([vocab_size, KINDS.index(kind)])
    for seed in range(4):
        logits = logits_of(kind, vocab_size, random)
        settings = random_settings(random)
        if vocab_size > 3:
            settings["logit_bias"] = {int(random.integers(0, vocab_size)): 3.5}
        config = SamplingConfig(seed=seed, **settings)
        ids = random.integers(0, vocab_size, 12).tolist()
        suppressed = random.integers(0, vocab_size, vocab_size // 20)
        if np.isneginf(np.delete(logits, suppressed)).all():
            continue
        exact = exact_probabilities(logits, config, ids, 5, suppressed)
        sampler = make_sampler(config, suppressed, prompt_tokens=5)
        drawn = [sampler(logits, ids) for _ in range(12)]
        assert [token for token, _ in drawn] == exact_draws(exact, seed, 12), settings
        for token, logprob in drawn:
            assert logprob == pytest.approx(log_probability(logits, token), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kind", ["language", "ties", "normal"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"top_k": 40}, {"min_p": 0.02}, {"top_p": 1.0}, {"temperature": 1.5, "top_k": 700}],
)
def test_the_same_of_a_large_vocabulary(kind, settings):
    random = np.random.default_rng([KINDS.index(kind), len(settings)])
    for vocab_size in (49_152, 50_257):
        logits = logits_of(kind, vocab_size, random)
        config = SamplingConfig(seed=vocab_size, **settings)
        exact = exact_probabilities(logits, config)
        sampler = make_sampler(config, NOTHING)
        assert [sampler(logits, [])[0] for _ in range(40)] == exact_draws(exact, vocab_size, 40)


@pytest.mark.parametrize("seed", range(12))
def test_the_filters_leave_the_tokens_of_their_definitions(seed, monkeypatch):
    """Each token that the definitions leave is drawn in the middle of its part of the line."""
    random = np.random.default_rng(seed)
    logits = logits_of(KINDS[seed % 3], 700, random)
    config = SamplingConfig(seed=0, **random_settings(random))
    exact = exact_probabilities(logits, config, [1, 2], 1)
    kept = np.flatnonzero(exact > 1e-9)  # narrower parts have no middle in float64
    middles = iter((np.cumsum(exact) - exact / 2)[kept])
    monkeypatch.setattr(np.random, "default_rng", lambda _: _Given(middles))
    sampler = make_sampler(config, NOTHING, prompt_tokens=1)
    assert [sampler(logits, [1, 2])[0] for _ in kept] == kept.tolist()


class _Given:
    def __init__(self, numbers):
        self.numbers = numbers

    def random(self):
        return next(self.numbers)


@pytest.mark.parametrize(
    "settings",
    [
        {"top_p": 1.0, "temperature": 1.0},
        {},
        {"top_k": 30, "temperature": 1.3},
        {"min_p": 0.05, "top_p": 1.0, "presence_penalty": 1.0, "frequency_penalty": 0.5},
    ],
)
def test_tokens_come_as_often_as_the_definitions_say(settings):
    """Pearson's chi-square, below its quantile of 0.9999 (Wilson and Hilferty, 1931)."""
    draws, ids = 4000, [3, 3, 3, 4]
    logits = logits_of("normal", 400, np.random.default_rng(1)) / 2
    config = SamplingConfig(seed=2, **settings)
    expected = draws * exact_probabilities(logits, config, ids, 1)
    sampler = make_sampler(config, NOTHING, prompt_tokens=1)
    found = np.bincount([sampler(logits, ids)[0] for _ in range(draws)], minlength=400)
    assert not found[expected == 0].any()
    often = expected >= 5
    pairs = [*zip(found[often], expected[often], strict=True)]
    pairs.append((found[~often].sum(), max(expected[~often].sum(), 1e-9)))
    square = sum((seen - wanted) ** 2 / wanted for seen, wanted in pairs)
    freedom = len(pairs) - 1
    assert square < freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3


@pytest.mark.parametrize("greedy", [{"greedy": True}, {"temperature": 0.0}])
def test_greedy_takes_the_first_of_the_most_likely(greedy):
    logits = np.float32([0, 2, 5, 5, -1])
    sampler = make_sampler(SamplingConfig(**greedy), NOTHING)
    assert sampler(logits, []) == (2, pytest.approx(log_probability(logits, 2), abs=1e-6))
    assert make_sampler(SamplingConfig(**greedy), np.array([2]))(logits, [])[0] == 3


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("settings", [{}, {"greedy": True}, {"top_k": 3}, {"top_p": 1.0}])
def test_logits_that_are_not_numbers_are_refused(value, settings):
    for place in (0, 70, 199):
        logits = np.zeros(200, dtype=np.float32)
        logits[place] = value
        sampler = make_sampler(SamplingConfig(seed=1, **settings), NOTHING)
        with pytest.raises(ModelFolderError, match="logits are not numbers"):
            sampler(logits, [])


@pytest.mark.parametrize("settings", [{}, {"greedy": True}, {"top_p": 1.0}])
def test_a_model_that_forbids_every_token_is_refused(settings):
    logits = np.float32([1, -np.inf, -np.inf])
    with pytest.raises(ModelFolderError, match="-inf for every token"):
        make_sampler(SamplingConfig(**settings), np.array([0]))(logits, [])


def test_extreme_penalties_choose_a_token():
    for penalty in (0.01, 100.0):
        logits = np.float32([3e38, -3e38, 3.2e38, 0])
        config = SamplingConfig(repetition_penalty=penalty, seed=1)
        assert make_sampler(config, NOTHING)(logits, [0, 1, 2, 3])[0] in (0, 2)


def test_presence_and_frequency_by_hand():
    logits = np.array([1.0, 2.0, 3.0, 4.0])
    lowered = apply_count_penalties(logits, [3, 0, 3, 3], 0.5, 0.25)
    assert lowered.tolist() == [1 - 0.75, 2, 3, 4 - 1.25]
    assert logits.tolist() == [1, 2, 3, 4]
    assert apply_count_penalties(logits, [], 0.5, 0.25).tolist() == [1, 2, 3, 4]


def test_presence_counts_the_answer_alone():
    config = SamplingConfig(greedy=True, presence_penalty=2.0)
    sampler, ids = make_sampler(config, NOTHING, prompt_tokens=2), [3, 3]
    logits = np.float32([0.3, 0.2, 0.1, 0.4])
    for _ in range(4):
        ids.append(sampler(logits, ids)[0])
    assert ids == [3, 3, 3, 0, 1, 2]


def test_penalties_follow_the_ids_that_are_given():
    """Also if what was drafted was taken back."""
    config = SamplingConfig(greedy=True, repetition_penalty=2.0)
    logits = np.float32([1, 1.1, 1.2, 1.3])
    one = make_sampler(config, NOTHING)
    for ids in ([3], [3, 2], [3, 2, 1], [3], [0], [0, 3], [1] * 700, [1] * 700 + [3]):
        assert one(logits, ids) == make_sampler(config, NOTHING)(logits, ids)


def test_a_call_draws_one_number():
    logits = logits_of("language", 300, np.random.default_rng(0))
    config = SamplingConfig(seed=5, temperature=1.0)
    sampler, numbers = make_sampler(config, NOTHING, sample=2), np.random.default_rng(7)
    for _ in range(20):
        expected = samplers._draw(logits, float(logits.max()), config, numbers.random())
        assert sampler(logits, [])[0] == expected


@pytest.mark.parametrize("size", [1, 5, 256, 257, 3000])
@pytest.mark.parametrize("equal", [False, True])
def test_a_nucleus_is_that_of_a_full_sort(size, equal):
    random = np.random.default_rng(size)
    weights = np.ones(size) if equal else np.exp(-random.exponential(6, size)).round(4) + 1e-30
    order = sorted(range(size), key=lambda place: (-weights[place], place))
    for wanted in (1e-300, 0.3, weights.sum() / 2, weights.sum() * 0.999, weights.sum() * 2):
        total, expected = 0.0, []
        for place in order:
            expected.append(place)
            total += weights[place]
            if total >= wanted:
                break
        assert np.flatnonzero(nucleus(weights, wanted)).tolist() == sorted(expected)


@pytest.mark.parametrize("vocab_size", [1, 7, 1024, 1025, 50_257])
@pytest.mark.parametrize("factor", [1.0, 1.25, 1000.0, 0.001])
def test_the_compiled_sums(vocab_size, factor):
    random = np.random.default_rng(vocab_size)
    logits = (random.standard_normal(vocab_size) * 4).astype(np.float32)
    logits[1::5] = -np.inf
    largest = logits.max()
    weights = np.exp((logits.astype(np.float64) - largest) * factor)
    total = sum_exponentials(logits, largest, np.float32(factor))
    assert total == pytest.approx(weights.sum(), rel=2e-7)
    sums = np.empty(-(-vocab_size // BLOCK))
    weigh_blocks(logits, float(largest), factor, sums)
    blocks = [weights[i : i + BLOCK].sum() for i in range(0, vocab_size, BLOCK)]
    np.testing.assert_allclose(sums, blocks, rtol=1e-13)
