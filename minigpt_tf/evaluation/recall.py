"""Recall: how well a model continues passages of the text it was trained on."""

import numpy as np

from ..errors import DataError
from ..inference.engine import Engine


def recall(
    engine: Engine,
    ids: np.ndarray,
    *,
    passages: int = 50,
    prefix_length: int = 8,
    continuation_length: int = 20,
    seed: int = 0,
) -> float:
    """Share of tokens right in greedy continuations of random passages of the ids (N,).

    For each of `passages` random places the model is given `prefix_length` tokens and goes on
    greedily by `continuation_length`, on its own words also after a mistake; each token is compared
    with the text's at that place.
    """
    length = prefix_length + continuation_length
    if len(ids) < length:
        raise DataError(f"{len(ids)} tokens are too few for a passage of {length}")
    starts = np.random.default_rng(seed).integers(0, len(ids) - length + 1, passages)
    right = 0
    for start in starts:
        passage = ids[start : start + length]
        logits = engine.prefill(passage[:prefix_length])
        for step, expected in enumerate(passage[prefix_length:], start=1):
            token_id = int(logits.argmax())
            right += token_id == expected
            if step < continuation_length:
                logits = engine.decode_step(token_id)
    return right / (passages * continuation_length)
