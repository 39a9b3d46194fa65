"""Choosing the next token: small functions on logits (V,), chained in SamplingConfig's order."""

from collections.abc import Callable

import numpy as np

from ..config import SamplingConfig
from .kernels import softmax

Sampler = Callable[[np.ndarray, list[int]], int]


def apply_repetition_penalty(logits: np.ndarray, ids: list[int], penalty: float) -> np.ndarray:
    """Makes tokens that are already there less likely: positive scores are divided by `penalty`,
    negative ones multiplied (Keskar et al., 2019, "CTRL", section 4.1)."""
    seen = np.unique(np.asarray(ids, dtype=np.int64))
    logits = logits.copy()
    logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
    return logits


def apply_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Divides the logits; below 1 the distribution gets sharper, above 1 flatter."""
    return (logits - logits.max()) / temperature  # the largest is 0: no overflow however cold


def apply_top_k(logits: np.ndarray, top_k: int) -> np.ndarray:
    """Keeps the k most likely tokens; of equals at the edge, those of lower id."""
    if top_k >= len(logits):
        return logits
    return _keep(logits, np.argsort(-logits, kind="stable")[:top_k])


def apply_top_p(logits: np.ndarray, top_p: float) -> np.ndarray:
    """Keeps the smallest set of likeliest tokens whose probability reaches p; at least one
    (Holtzman et al., 2019, "The Curious Case of Neural Text Degeneration")."""
    order = np.argsort(-logits, kind="stable")
    cumulative = np.cumsum(softmax(logits[order]))
    count = int(np.searchsorted(cumulative, top_p)) + 1
    return _keep(logits, order[:count])


def apply_min_p(logits: np.ndarray, min_p: float) -> np.ndarray:
    """Drops tokens less likely than `min_p` times the likeliest (Nguyen et al., 2024)."""
    return np.where(logits < logits.max() + np.log(min_p), -np.inf, logits)


def _keep(logits: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    kept = np.full_like(logits, -np.inf)
    kept[chosen] = logits[chosen]
    return kept


def make_sampler(config: SamplingConfig, suppressed: np.ndarray) -> Sampler:
    """A function (logits (V,), ids so far) -> next id. Ids in `suppressed` are never chosen."""
    random = np.random.default_rng(config.seed)
    greedy = config.greedy or config.temperature == 0

    def sample(logits: np.ndarray, ids: list[int]) -> int:
        """The next id, for the logits (V,) after these ids."""
        logits = logits.astype(np.float64)  # extreme settings overflow float32
        logits[suppressed] = -np.inf
        if config.repetition_penalty != 1:
            logits = apply_repetition_penalty(logits, ids, config.repetition_penalty)
        if greedy:
            return int(logits.argmax())
        logits = apply_temperature(logits, config.temperature)
        if config.top_k:
            logits = apply_top_k(logits, config.top_k)
        if config.top_p < 1:
            logits = apply_top_p(logits, config.top_p)
        if config.min_p:
            logits = apply_min_p(logits, config.min_p)
        cumulative = np.cumsum(softmax(logits))
        drawn = np.searchsorted(cumulative, random.random() * cumulative[-1], side="right")
        return int(drawn)

    return sample
