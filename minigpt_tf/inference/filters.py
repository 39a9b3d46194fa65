"""What changes and filters logits (V,) before a token is drawn: a definition each, in NumPy.

`samplers` applies them in SamplingConfig's order, to the few tokens that they can leave.
"""

from collections.abc import Mapping

import numpy as np

from ..errors import ConfigError
from ..metrics import softmax

SORTED_AT_ONCE = 512
"""Candidates of top_p; of more, only those near the edge are sorted."""


def apply_logit_bias(
    logits: np.ndarray, bias: Mapping[int, float], out: np.ndarray | None = None
) -> np.ndarray:
    """Adds a number to the logits of some tokens (OpenAI's `logit_bias`).

    Args:
        logits: (V,).
        bias: Token id -> what is added.
        out: Where the result goes, perhaps the logits themselves (unset: a new array).

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
    out = copied(logits, out)
    out[list(bias)] += list(bias.values())
    return out


def apply_repetition_penalty(
    logits: np.ndarray,
    ids: np.ndarray | list[int],
    penalty: float,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Makes tokens of the text so far less likely (Keskar et al., 2019, "CTRL", section 4.1).

    Args:
        logits: (V,).
        ids: Tokens so far, prompt and answer.
        penalty: Divides their positive logits and multiplies the negative ones.
        out: Where the result goes, perhaps the logits themselves (unset: a new array).

    Returns:
        Logits (V,).
    """
    seen = np.asarray(ids, dtype=np.int64)  # the same token several times gets one penalty
    of_seen = logits[seen]
    out = copied(logits, out)
    out[seen] = np.where(of_seen > 0, of_seen / penalty, of_seen * penalty)
    return out


def apply_count_penalties(
    logits: np.ndarray,
    ids: np.ndarray | list[int],
    presence: float,
    frequency: float,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Makes tokens of the answer so far less likely (OpenAI's `presence_penalty` and
    `frequency_penalty`).

    Args:
        logits: (V,).
        ids: Tokens of the answer so far.
        presence: Is subtracted from the logit of a token that is among them.
        frequency: Is subtracted as many times as the token is among them.
        out: Where the result goes, perhaps the logits themselves (unset: a new array).

    Returns:
        Logits (V,).
    """
    said, counts = np.unique(np.asarray(ids, dtype=np.int64), return_counts=True)
    out = copied(logits, out)
    out[said] -= presence + frequency * counts
    return out


def apply_no_repeat_ngram(
    logits: np.ndarray, ids: np.ndarray | list[int], n: int, out: np.ndarray | None = None
) -> np.ndarray:
    """Forbids tokens that would repeat an n-gram, unless that forbids all tokens (Paulus et al.,
    2017, section 2.5).

    Args:
        logits: (V,).
        ids: Tokens so far, prompt and answer.
        n: Tokens of the n-gram.
        out: Where the result goes, perhaps the logits themselves (unset: a new array).

    Returns:
        Logits (V,), -inf for forbidden tokens.
    """
    out = copied(logits, out)
    if len(ids) < n:
        return out
    sequence = np.asarray(ids)
    starts = np.lib.stride_tricks.sliding_window_view(sequence, n)  # (T - n + 1, n)
    repeats = (starts[:, :-1] == sequence[len(sequence) - n + 1 :]).all(axis=1)
    forbidden = starts[repeats, -1]
    before = out[forbidden]
    out[forbidden] = -np.inf
    if out.max() == -np.inf:
        out[forbidden] = before
    return out


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
    return _keep(logits, candidates[nucleus(probabilities[candidates], top_p)])


def apply_min_p(logits: np.ndarray, min_p: float) -> np.ndarray:
    """Drops tokens less likely than `min_p` times the most likely one (Nguyen et al., 2024).

    Args:
        logits: (V,).
        min_p: Above 0 and at most 1.

    Returns:
        Logits (V,), -inf for the others.
    """
    return np.where(logits < logits.max() + np.log(min_p), -np.inf, logits)


def copied(logits: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """Logits that may be changed.

    Args:
        logits: (V,).
        out: Where to; may be `logits` itself (unset: a new array).

    Returns:
        (V,).
    """
    if out is None:
        return logits.copy()
    if out is not logits:
        np.copyto(out, logits)
    return out


def _keep(logits: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    kept = np.full_like(logits, -np.inf)
    kept[chosen] = logits[chosen]
    return kept


def nucleus(weights: np.ndarray, wanted: float) -> np.ndarray:
    """The smallest set of the largest weights that reaches a sum; of ties, the first ones.

    Args:
        weights: (n,) float64, above 0.
        wanted: The sum. If all together have less, all are in the set.

    Returns:
        (n,) bool: which are in it.
    """
    chosen, unsure = np.zeros(len(weights), dtype=bool), np.arange(len(weights))
    if len(weights) > SORTED_AT_ONCE:
        # Classes of weights within 1/256 of each other, by exponent and first bits of the mantissa:
        # only the class at the edge is sorted. The last class has all small ones.
        classes = np.ascontiguousarray(weights).view(np.int64) >> 44
        np.minimum(np.subtract(classes.max(), classes, out=classes), 2**13, out=classes)
        reached = np.bincount(classes, weights=weights).cumsum()
        edge = min(int(reached.searchsorted(wanted)), len(reached) - 1)
        chosen, unsure = classes < edge, np.flatnonzero(classes == edge)
        wanted -= reached[edge - 1] if edge else 0.0
    order = unsure[(-weights[unsure]).argsort(kind="stable")]
    count = int(weights[order].cumsum().searchsorted(wanted)) + 1
    chosen[order[:count]] = True
    return chosen
