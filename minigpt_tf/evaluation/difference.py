"""How far the merged model is from the one that was trained: nothing but rounding, or a base's
quantization."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..inference.engine import Engine
from ..metrics import negative_log_likelihood
from ..records.truncation import Row

MOST_COMPARED = 4
"""Records that are compared, at most."""


def merge_difference(
    trained: Callable[[np.ndarray], np.ndarray], merged: Engine, rows: Iterable[Row]
) -> dict[str, Any]:
    """Compares two models on rows. The tokens whose target is trained count.

    Args:
        trained: ids (1, T) -> logits (1, T, V) of the model that was trained.
        merged: the engine of the merged model.
        rows: token ids with their masks.

    Returns:
        "records" (how many), "largest_logit_difference", "mean_logit_difference", "trained_loss"
        and "merged_loss" (means in nats); empty without rows.
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
    """The figures in words.

    Args:
        found: what `merge_difference` returned.

    Yields:
        A line, if there are figures.
    """
    if found:
        largest, mean = found["largest_logit_difference"], found["mean_logit_difference"]
        yield (
            f"merged into the full-precision base: on {found['records']} records its logits are "
            f"off those of the trained model by {mean:.2g} on average, {largest:.2g} at most; loss "
            f"{found['merged_loss']:.4f}, before merging {found['trained_loss']:.4f}"
        )
