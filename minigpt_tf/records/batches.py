"""Rows of token ids -> padded batches. Which rows make a batch is a pure function of the step."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError, DataError
from ..text.permutation import shuffled
from .truncation import Row

POOL = 16
"""So many batches' rows are sorted by length together: little padding, and much chance is left."""

Example = tuple[Row, ...]
"""What one record has become: one row, or two of a preference record (chosen, rejected)."""


class Batch(NamedTuple):
    """Inputs, targets, and which of the targets count."""

    x: np.ndarray
    """(B, T) int32."""
    y: np.ndarray
    """(B, T) int32: x one step later."""
    mask: np.ndarray
    """(B, T) float32: 1 where the target counts; 0 elsewhere, and over padding always."""


def collate(rows: Sequence[Row], multiple: int, pad_id: int, longest: int) -> Batch:
    """Batches rows for next-token prediction, padded on the right.

    Args:
        rows: B rows.
        multiple: T is rounded up to a multiple of it.
        pad_id: The token id of the padding.
        longest: The largest T, in tokens; the model's context length.

    Returns:
        Inputs and targets (B, T) int32, and their mask (B, T) float32: 1 for targets that count.
        T is one less than the longest row, rounded up.
    """
    T = _width(max(len(row.ids) for row in rows) - 1, multiple, longest)
    x = np.full((len(rows), T), pad_id, dtype=np.int32)
    y = np.full((len(rows), T), pad_id, dtype=np.int32)
    mask = np.zeros((len(rows), T), dtype=np.float32)
    for place, row in enumerate(rows):
        length = len(row.ids) - 1
        x[place, :length], y[place, :length] = row.ids[:-1], row.ids[1:]
        mask[place, :length] = row.mask[1:]
    return Batch(x, y, mask)


def collate_texts(
    rows: Sequence[Row], multiple: int, pad_id: int, longest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Batches whole texts for a classifier, padded on the right.

    Args:
        rows: B rows.
        multiple: T is rounded up to a multiple of it.
        pad_id: The token id of the padding.
        longest: The largest T, in tokens; the model's context length.

    Returns:
        Token ids (B, T) int32 and lengths (B,) int32 in tokens. The last token of text b is
        x[b, lengths[b] - 1].
    """
    lengths = np.array([len(row.ids) for row in rows], dtype=np.int32)
    x = np.full((len(rows), _width(lengths.max(), multiple, longest)), pad_id, dtype=np.int32)
    for place, row in enumerate(rows):
        x[place, : lengths[place]] = row.ids
    return x, lengths


def _width(needed: int, multiple: int, longest: int) -> int:
    """`needed` rounded up to a multiple, but to no more than `longest`."""
    if needed > longest:
        raise ConfigError(f"a row of {needed} tokens does not fit into a context of {longest}")
    return min(longest, math.ceil(max(1, needed) / multiple) * multiple)


class RecordBatches:
    """Shuffled batches of examples of about equal length, each of `batch_size` examples.

    Every epoch shows every example, in an order of its own; where the last batch is not full, some
    are shown a second time, others in each epoch. The batch of a step depends on nothing but the
    examples, the seed and the step: a run that resumes at any step sees the same batches.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch_size: int,
        seed: int,
        *,
        multiple: int,
        pad_id: int,
        context_length: int,
    ) -> None:
        """Raises DataError for no examples."""
        if not examples:
            raise DataError("there are no records to train on")
        self.examples, self.batch_size, self.seed = examples, batch_size, seed
        self.multiple, self.pad_id, self.context_length = multiple, pad_id, context_length
        self._lengths = np.array([max(len(row.ids) for row in item) for item in examples])
        self._epoch, self._order = -1, np.empty((0, 0), dtype=np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one pass over all examples."""
        return math.ceil(len(self.examples) / self.batch_size)

    def places(self, step: int) -> np.ndarray:
        """Which examples make the batch of a step, counted from the run's start: (B,) int64."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._order_of(epoch)
        return self._order[batch]

    def batch(self, step: int) -> Batch:
        """The batch of a step: (B, T), or (2 B, T) of preference records, first all chosen."""
        return self._batch(self.places(step))

    def texts(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The texts of a step's labeled records, and their lengths: see `collate_texts`."""
        return self._texts(self.places(step))

    def width(self, places: np.ndarray, *, whole: bool = False) -> int:
        """Tokens of each row of a batch, with the padding.

        Args:
            places: Which examples make the batch.
            whole: Whether the last token of a row is read too, and not a target alone.

        Returns:
            T.
        """
        longest = int(self._lengths[places].max()) - (not whole)
        return _width(longest, self.multiple, self.context_length)

    def scoring_places(self) -> Iterator[np.ndarray]:
        """Every example exactly once, in batches by length; the last may have fewer."""
        order = np.argsort(self._lengths, kind="stable")
        for first in range(0, len(order), self.batch_size):
            yield order[first : first + self.batch_size]

    def scoring_batches(self) -> Iterator[Batch]:
        """The batches of `scoring_places`."""
        return (self._batch(places) for places in self.scoring_places())

    def scoring_texts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The texts of `scoring_places`, and their lengths."""
        return (self._texts(places) for places in self.scoring_places())

    def _batch(self, places: np.ndarray) -> Batch:
        """The rows of some examples: first the first of each, then the second of each."""
        rows = [
            row for group in zip(*(self.examples[i] for i in places), strict=True) for row in group
        ]
        return collate(rows, self.multiple, self.pad_id, self.context_length)

    def _texts(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = [self.examples[i][0] for i in places]
        return collate_texts(rows, self.multiple, self.pad_id, self.context_length)

    def _order_of(self, epoch: int) -> np.ndarray:
        """The examples of every batch of an epoch: (steps, B)."""
        count, steps = len(self.examples), self.steps_per_epoch
        places = shuffled(np.arange(count), count, seed=self.seed, epoch=epoch)
        places = np.resize(places, steps * self.batch_size)  # fills the last batch from the first
        pool = POOL * self.batch_size
        for first in range(0, len(places), pool):
            pooled = places[first : first + pool]
            places[first : first + pool] = pooled[np.argsort(self._lengths[pooled], kind="stable")]
        batches = places.reshape(steps, self.batch_size)
        return batches[shuffled(np.arange(steps), steps, seed=self.seed + 1, epoch=epoch)]
