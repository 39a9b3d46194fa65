"""Choosing the next token: small functions on logits (V,), chained in SamplingConfig's order."""

from collections.abc import Callable, Mapping

import numpy as np

from ..config import SamplingConfig
from ..errors import ConfigError, ModelFolderError
from ..metrics import log_probability, softmax

Sampler = Callable[[np.ndarray, list[int]], tuple[int, float]]
"""(logits (V,), ids so far) -> the next id, and the logarithm of its probability under the model:
before any filter."""


def apply_logit_bias(logits: np.ndarray, bias: Mapping[int, float]) -> np.ndarray:
    """Adds a number to the logits of some tokens (OpenAI's `logit_bias`).

    Args:
        logits: (V,).
        bias: Token id -> what is added.

    Returns:
        Logits (V,).

    Raises:
        ConfigError: An id is outside the vocabulary.
    """
    wrong = [token_id for token_id in bias if not 0 <= token_id < len(logits)]
    if wrong:
        raise ConfigError(
            f"logit_bias: token id {wrong[0]} is outside the vocabulary of {len(logits)}"
        )
    logits = logits.copy()
    logits[list(bias)] += list(bias.values())
    return logits


def apply_repetition_penalty(logits: np.ndarray, ids: list[int], penalty: float) -> np.ndarray:
    """Makes tokens of the text so far less likely (Keskar et al., 2019, "CTRL", section 4.1).

    Args:
        logits: (V,).
        ids: Tokens so far, prompt and answer.
        penalty: Divides their positive logits and multiplies the negative ones.

    Returns:
        Logits (V,).
    """
    seen = np.unique(np.asarray(ids, dtype=np.int64))
    logits = logits.copy()
    logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
    return logits


def apply_no_repeat_ngram(logits: np.ndarray, ids: list[int], n: int) -> np.ndarray:
    """Forbids tokens that would repeat an n-gram, unless that forbids all tokens (Paulus et al.,
    2017, section 2.5).

    Args:
        logits: (V,).
        ids: Tokens so far, prompt and answer.
        n: Tokens of the n-gram.

    Returns:
        Logits (V,), -inf for forbidden tokens.
    """
    if len(ids) < n:
        return logits
    sequence = np.asarray(ids)
    starts = np.lib.stride_tricks.sliding_window_view(sequence, n)  # (T - n + 1, n)
    repeats = (starts[:, :-1] == sequence[len(sequence) - n + 1 :]).all(axis=1)
    forbidden = logits.copy()
    forbidden[starts[repeats, -1]] = -np.inf
    return logits if np.isneginf(forbidden).all() else forbidden


def apply_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Makes the distribution sharper (below 1) or flatter (above 1).

    Args:
        logits: (V,).
        temperature: Above 0; divides the logits.

    Returns:
        Logits (V,), the largest 0.
    """
    return (logits - logits.max()) / temperature  # the largest is 0: no overflow however cold


def apply_top_k(logits: np.ndarray, top_k: int) -> np.ndarray:
    """Keeps the k most likely tokens; of ties at the edge, those of lower id.

    Args:
        logits: (V,).
        top_k: How many are kept.

    Returns:
        Logits (V,), -inf for the others.
    """
    if top_k >= len(logits):
        return logits
    edge = np.partition(logits, -top_k)[-top_k]
    above = np.flatnonzero(logits > edge)
    at_edge = np.flatnonzero(logits == edge)[: top_k - len(above)]
    return _keep(logits, np.concatenate([above, at_edge]))


def apply_top_p(logits: np.ndarray, top_p: float) -> np.ndarray:
    """Keeps the smallest set of most likely tokens whose probability reaches p; at least one
    (Holtzman et al., 2019, "The Curious Case of Neural Text Degeneration").

    Args:
        logits: (V,).
        top_p: The probability, above 0 and below 1.

    Returns:
        Logits (V,), -inf for the others.
    """
    probabilities = softmax(logits)
    # All V tokens of less than (1 - p) / V have less than 1 - p together: the set never needs one.
    candidates = np.flatnonzero(probabilities >= (1 - top_p) / len(logits))
    order = candidates[np.argsort(-probabilities[candidates], kind="stable")]
    count = int(np.searchsorted(np.cumsum(probabilities[order]), top_p)) + 1
    return _keep(logits, order[:count])


def apply_min_p(logits: np.ndarray, min_p: float) -> np.ndarray:
    """Drops tokens less likely than `min_p` times the most likely one (Nguyen et al., 2024).

    Args:
        logits: (V,).
        min_p: Above 0 and at most 1.

    Returns:
        Logits (V,), -inf for the others.
    """
    return np.where(logits < logits.max() + np.log(min_p), -np.inf, logits)


def _keep(logits: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    kept = np.full_like(logits, -np.inf)
    kept[chosen] = logits[chosen]
    return kept


def make_sampler(config: SamplingConfig, suppressed: np.ndarray, sample: int = 0) -> Sampler:
    """A function that chooses the next token: it applies the filters in SamplingConfig's order.

    Args:
        config: The filters, and the seed.
        suppressed: Ids that are never chosen.
        sample: Which of several answers. It draws as a single answer with `seed + sample` would.

    Returns:
        (logits (V,), ids so far) -> (next id, its log probability). It raises ModelFolderError if a
        logit is NaN. A call draws one random number, unless it is greedy.
    """
    random = np.random.default_rng(None if config.seed is None else config.seed + sample)
    greedy = config.greedy or config.temperature == 0

    def choose(raw: np.ndarray, ids: list[int]) -> tuple[int, float]:
        """The next id and its log probability, for the logits (V,) after these ids."""
        token_id = next_id(raw, ids)
        return token_id, log_probability(raw, token_id)

    def next_id(logits: np.ndarray, ids: list[int]) -> int:
        if np.isnan(logits).any():
            raise ModelFolderError(
                "the model's logits are not numbers: its weights are too large for float32"
            )
        logits = logits.astype(np.float64)  # extreme settings overflow float32
        if config.logit_bias:
            logits = apply_logit_bias(logits, config.logit_bias)
        logits[suppressed] = -np.inf
        if config.repetition_penalty != 1:
            logits = apply_repetition_penalty(logits, ids, config.repetition_penalty)
        if config.no_repeat_ngram:
            logits = apply_no_repeat_ngram(logits, ids, config.no_repeat_ngram)
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

    return choose
