"""How far the merged model is from the one that was trained: nothing but rounding, or a base's
quantisation."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..inference.engine import Engine
from ..metrics import negative_log_likelihood
from ..records.truncation import Row

MOST_COMPARED = 4
"""So many records are compared."""


def merge_difference(
    trained: Callable[[np.ndarray], np.ndarray], merged: Engine, rows: Iterable[Row]
) -> dict[str, Any]:
    """Distances of the logits of two models on rows, and the mean loss of both in nats.

    `trained`: ids (1, T) -> logits (1, T, V). What counts are the tokens whose target is trained.
    """
    distances, losses = [], []
    largest = 0.0
    count = 0
    for row in rows:
        ids, counted = row.ids[:-1], row.mask[1:]
        pair = [trained(ids[None])[0][counted], merged.all_logits(ids)[counted]]  # (N, V) each
        distance = np.abs(pair[0] - pair[1])
        largest = max(largest, float(distance.max()))
        distances.append(distance.mean(axis=-1))
        losses.append([negative_log_likelihood(logits, row.ids[1:][counted]) for logits in pair])
        count += 1
    if not count:
        return {}
    trained_loss, merged_loss = np.concatenate(losses, axis=1).mean(axis=1).tolist()
    return {
        "records": count,
        "largest_logit_difference": largest,
        "mean_logit_difference": float(np.concatenate(distances).mean()),
        "trained_loss": trained_loss,
        "merged_loss": merged_loss,
    }


def describe(found: dict[str, Any]) -> Iterator[str]:
    """What a person is told of it."""
    if found:
        largest, mean = found["largest_logit_difference"], found["mean_logit_difference"]
        yield (
            f"merged into the full-precision base: on {found['records']} records its logits are "
            f"off those of the trained model by {mean:.2g} on average, {largest:.2g} at most; loss "
            f"{found['merged_loss']:.4f}, before merging {found['trained_loss']:.4f}"
        )
