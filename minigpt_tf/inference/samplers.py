"""Choosing the next token: `filters` in SamplingConfig's order, then one draw."""

import copy
import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from ..compiled import uninterrupted
from ..config import SamplingConfig
from ..errors import ModelFolderError
from .filters import (
    apply_count_penalties,
    apply_logit_bias,
    apply_no_repeat_ngram,
    apply_repetition_penalty,
    apply_top_k,
    copied,
    nucleus,
)
from .sampling_kernels import BLOCK, sum_exponentials, weigh_blocks


class Sampler(Protocol):
    """Chooses the tokens of an answer."""

    def __call__(self, logits: np.ndarray, ids: list[int]) -> tuple[int, float]:
        """Chooses the next token.

        Args:
            logits: (V,).
            ids: The tokens so far.

        Returns:
            Its id, and the logarithm of its probability under the model: before any filter.
        """
        ...

    def fork(self) -> "Sampler":
        """A sampler that would choose the same next tokens, and leaves this one as it is."""
        ...


_LARGEST = float(np.finfo(np.float32).max)


def make_sampler(
    config: SamplingConfig, suppressed: np.ndarray, sample: int = 0, prompt_tokens: int = 0
) -> Sampler:
    """A function that chooses the tokens of an answer: it applies the filters in SamplingConfig's
    order.

    `filters` are defined on all V logits. Here they see the candidates, the few tokens that they
    can leave, in float64; of the others, no more than a sum is needed.

    Args:
        config: The filters, and the seed.
        suppressed: Ids that are never chosen.
        sample: Which of several answers. It draws as a single answer with `seed + sample` would.
        prompt_tokens: How many of the ids are the prompt's: the penalties for presence and
            frequency count the others.

    Returns:
        The sampler. It raises ModelFolderError if a logit is NaN or infinite. A call draws one
        random number, unless it is greedy.
    """
    draws = _Draws(_uniform(None if config.seed is None else config.seed + sample))
    return _ConfiguredSampler(config, suppressed, prompt_tokens, draws)


def top_logprobs(logits: np.ndarray, count: int) -> list[tuple[int, float]]:
    """The most likely tokens under the model, before any filter.

    Args:
        logits: (V,) float32.
        count: How many, at least 1.

    Returns:
        Id and log probability of each, the most likely first; of ties the lower id.
    """
    edge = np.partition(logits, -min(count, len(logits)))[-min(count, len(logits))]
    ids = np.flatnonzero(logits >= edge)
    ids = ids[np.argsort(-logits[ids], kind="stable")][:count]
    return list(zip(ids.tolist(), logprobs_of(logits, ids), strict=True))


def logprobs_of(logits: np.ndarray, ids: Sequence[int] | np.ndarray) -> list[float]:
    """Log probabilities of tokens under the model, before any filter.

    Args:
        logits: (V,) float32.
        ids: The tokens.

    Returns:
        The natural logarithm of each one's probability, as a sampler gives it.
    """
    largest = logits.max()
    total = sum_exponentials(logits, largest, np.float32(1))
    return [float(logits[i]) - float(largest) - math.log(total) for i in ids]


class _ConfiguredSampler:
    """The sampler of `make_sampler`."""

    def __init__(
        self,
        config: SamplingConfig,
        suppressed: np.ndarray,
        prompt_tokens: int,
        draws: "_Draws",
    ) -> None:
        self._config, self._draws = config, draws
        self._given = suppressed, prompt_tokens
        self._greedy = config.greedy or config.temperature == 0
        self._adjust = _Adjustment(config, suppressed, prompt_tokens)
        compile_sums(unfiltered=not self._greedy and config.top_p == 1)

    def __call__(self, logits: np.ndarray, ids: list[int]) -> tuple[int, float]:
        """The next id and its log probability, for the logits (V,) after these ids."""
        logits = np.ascontiguousarray(logits, dtype=np.float32)
        largest = logits.max()  # NaN if a logit is
        if not math.isfinite(largest):
            raise ModelFolderError(
                "the model's logits are not numbers: its weights are too large for float32"
            )
        allowed = self._adjust(logits, ids)
        top = float(largest if allowed is logits else allowed.max())
        if top == -math.inf:
            raise ModelFolderError("the model's logits are -inf for every token that may come")
        if self._greedy:
            token_id = int(allowed.argmax())
        else:
            token_id = _draw(allowed, top, self._config, self._draws())
        total = sum_exponentials(logits, largest, np.float32(1))
        return token_id, float(logits[token_id]) - float(largest) - math.log(total)

    def fork(self) -> "_ConfiguredSampler":
        """As Sampler."""
        return _ConfiguredSampler(self._config, *self._given, copy.copy(self._draws))


class _Draws:
    """Random numbers in order; a copy continues with the same ones.

    Args:
        source: Gives the next number.
    """

    def __init__(self, source: Callable[[], float]) -> None:
        self._source, self._known, self._next = source, list[float](), 0

    def __call__(self) -> float:
        """The next number."""
        if self._next == len(self._known):  # which is shared with the copies
            self._known.append(self._source())
        self._next += 1
        return self._known[self._next - 1]


def _uniform(seed: int | None) -> Callable[[], float]:
    """Numbers from 0 to 1, without 1, in steps of 2^-53 or less."""
    if seed is None:  # without importing np.random, which takes a twentieth of a short answer
        return lambda: int.from_bytes(os.urandom(7), "little") * 2**-56
    return np.random.default_rng(seed).random


@functools.cache
def compile_sums(unfiltered: bool) -> None:
    """Compiles what choosing a token needs, or loads its machine code.

    Args:
        unfiltered: Whether also what is needed where no filter applies.
    """
    logits = np.zeros(1, dtype=np.float32)
    with uninterrupted():
        sum_exponentials(logits, np.float32(0), np.float32(1))
        if unfiltered:
            weigh_blocks(logits, 0.0, 1.0, np.zeros(1))


class _Adjustment:
    """Raises and lowers single logits, before temperature and filters.

    Args:
        config: Bias and penalties.
        suppressed: Ids that are never chosen.
        prompt_tokens: As for `make_sampler`.
    """

    def __init__(self, config: SamplingConfig, suppressed: np.ndarray, prompt_tokens: int) -> None:
        self._config, self._suppressed, self._prompt_tokens = config, suppressed, prompt_tokens
        self._counts = bool(config.presence_penalty or config.frequency_penalty)
        self._looks_back = bool(
            config.repetition_penalty != 1 or self._counts or config.no_repeat_ngram
        )
        self._out = np.empty(0, dtype=np.float32)
        self._ids, self._num_ids = np.zeros(256, dtype=np.int64), 0

    def __call__(self, logits: np.ndarray, ids: list[int]) -> np.ndarray:
        """Logits (V,), valid until the next call; -inf for tokens that must not come."""
        config = self._config
        if not (config.logit_bias or len(self._suppressed) or self._looks_back):
            return logits
        if len(self._out) != len(logits):
            self._out = np.empty_like(logits)
        out = copied(logits, self._out)
        if config.logit_bias:
            apply_logit_bias(out, config.logit_bias, out)
        out[self._suppressed] = -np.inf
        if not self._looks_back:
            return out
        so_far = self._as_array(ids)
        if config.repetition_penalty != 1:
            with np.errstate(over="ignore"):
                apply_repetition_penalty(out, so_far, config.repetition_penalty, out)
            if config.repetition_penalty < 1:
                np.minimum(out, _LARGEST, out=out)
        if self._counts:
            answer = so_far[self._prompt_tokens :]
            apply_count_penalties(
                out, answer, config.presence_penalty, config.frequency_penalty, out
            )
        if config.no_repeat_ngram:
            apply_no_repeat_ngram(out, so_far, config.no_repeat_ngram, out)
        return out

    def _as_array(self, ids: list[int]) -> np.ndarray:
        """The ids (T,). Only those after the ones of the call before are read, if these are there
        still."""
        known = self._num_ids
        if known > len(ids) or (known and self._ids[known - 1] != ids[known - 1]):
            known = 0
        if len(ids) > len(self._ids):
            self._ids = np.resize(self._ids, 2 * len(ids))
        self._ids[known : len(ids)] = ids[known:]
        self._num_ids = len(ids)
        return self._ids[: len(ids)]


def _draw(logits: np.ndarray, largest: float, config: SamplingConfig, uniform: float) -> int:
    """The first token at which the running sum of the probabilities, of those tokens that the
    filters leave, exceeds `uniform`."""
    if 0 < config.top_k < len(logits):
        ids = _top_candidates(logits, config.top_k)
        kept = apply_top_k(logits[ids].astype(np.float64), config.top_k)
        ids = ids[kept > -np.inf]
        weights = _weights(logits[ids], largest, config)
        total = weights.sum()
    elif config.top_p < 1 or config.min_p:
        ids, weights, total = _candidates(logits, largest, config)
    else:
        return _draw_of_all(logits, largest, config, uniform)
    if config.top_p < 1:
        weights *= nucleus(weights, config.top_p * total)
    if config.min_p:
        weights *= weights >= config.min_p  # the largest is 1
    return int(ids[_pick(weights, uniform)])


def _weights(logits: np.ndarray, largest: float, config: SamplingConfig) -> np.ndarray:
    """Probabilities of some tokens in float64, in units of the largest."""
    weights = logits.astype(np.float64)
    weights -= largest
    weights /= config.temperature
    return np.exp(weights, out=weights)


def _pick(weights: np.ndarray, uniform: float) -> int:
    """The first place at which the running sum exceeds `uniform` of the whole."""
    reached = weights.cumsum()
    total = float(reached[-1])
    target = min(uniform * total, math.nextafter(total, 0.0))  # the product may be rounded up
    return int(reached.searchsorted(target, side="right"))


def _top_candidates(logits: np.ndarray, top_k: int) -> np.ndarray:
    """Ids of at least the k most likely tokens, and not many more."""
    groups = max(1024, 8 * top_k)
    firsts = logits
    if 2 * groups <= len(logits):  # k groups' largest logits: k tokens are that likely
        firsts = logits[: len(logits) // groups * groups].reshape(-1, groups).max(axis=0)
    return np.flatnonzero(logits >= np.partition(firsts, -top_k)[-top_k])


def _candidates(
    logits: np.ndarray, largest: float, config: SamplingConfig
) -> tuple[np.ndarray, np.ndarray, float]:
    """Ids of all tokens that top_p and min_p may leave, their weights, and the weight of all V
    (only if there is a top_p)."""
    least, total, bounds = config.min_p, 0.0, [0.0]
    if config.top_p < 1:
        factor = np.float32(1 / config.temperature)
        total = sum_exponentials(logits, np.float32(largest), factor)
        # V tokens of less than (1 - p) / V have less than 1 - p together: none of them is needed.
        # Mostly, tokens far above that are enough.
        sure = (1 - config.top_p) / len(logits) * total
        bounds = [32 * sure, sure]
    for bound in bounds:
        # A little lower, for rounding; what is too much does no harm.
        lowest = largest + (math.log(max(bound, least)) - 1e-6) * config.temperature
        lowest -= 1e-6 * abs(lowest)
        ids = (logits >= np.float32(max(lowest, -_LARGEST))).nonzero()[0]
        weights = _weights(logits[ids], largest, config)
        if weights.sum() >= config.top_p * total or bound <= least:
            break
    return ids, weights, total


def _draw_of_all(logits: np.ndarray, largest: float, config: SamplingConfig, uniform: float) -> int:
    """`_draw` without filters: finds the block of tokens, then the token."""
    sums = np.empty(-(-len(logits) // BLOCK))
    weigh_blocks(logits, largest, 1 / config.temperature, sums)
    block = _pick(sums, uniform)
    first, before = block * BLOCK, sums[:block].sum()
    weights = _weights(logits[first : first + BLOCK], largest, config)
    within = (uniform * sums.sum() - before) / weights.sum()
    return first + _pick(weights, min(max(within, 0.0), 1.0))
