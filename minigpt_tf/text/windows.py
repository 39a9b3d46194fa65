"""Token ids -> training windows, without ever storing overlapping windows.

A window is `context_length` ids and the same ids one step later. Which windows make a batch is a
pure function of (seed, epoch, step): a run that resumes at any step sees the same batches.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np

from ..config import WINDOW_SIZE
from ..config.settings import LARGEST_INTEGER
from ..errors import ConfigError, DataError
from .permutation import shuffled

_ONE_SEQUENCE = (
    "a flat list of token ids is needed, such as tokenizer.texts_to_sequences([text])[0], with its "
    "[0]"
)
"""What to give instead of a text, or of a list of sequences."""


def create_dataset(
    sequence: np.ndarray | Sequence[int], window_size: int = WINDOW_SIZE, stride: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """All windows of a sequence, with the next token at each place: what Keras's `fit` takes.

    Args:
        sequence: token ids, one after the other: a flat list or an array of shape (N,).
        window_size: tokens in a window.
        stride: tokens between the starts of two windows, at most `window_size`.

    Returns:
        x and y, int32 (windows, window_size), y one step later. Both are read-only views into one
        copy of the sequence: overlapping windows take no memory of their own.

    Raises:
        DataError: the sequence is not a flat one of ids, or too short for one window.
        ConfigError: `window_size` or `stride` cannot be.

    Example:
        >>> x, y = create_dataset(range(860), window_size=100)
        >>> x.shape, x[0, :3].tolist(), y[0, :3].tolist()
        ((760, 100), [0, 1, 2], [1, 2, 3])
    """
    return _windows_of(_ids_of(sequence).astype(np.int32), window_size, stride)


def _windows_of(ids: np.ndarray, window_size: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of `create_dataset` as views of ids (N,), whatever their type."""
    check_window(window_size, stride)
    count = _require_windows(len(ids), window_size, stride)
    windows = np.lib.stride_tricks.sliding_window_view(ids, window_size)[::stride]
    targets = np.lib.stride_tricks.sliding_window_view(ids[1:], window_size)[::stride]
    return windows[:count], targets[:count]


def _ids_of(sequence: np.ndarray | Sequence[int]) -> np.ndarray:
    """A flat sequence of token ids as an array (N,). Raises DataError for anything else."""
    try:
        ids = np.asarray(sequence)
    except ValueError:  # lists of unequal lengths
        raise DataError(f"sequence contains {len(sequence)} sequences: {_ONE_SEQUENCE}") from None
    if ids.dtype.kind in "US":
        raise DataError(f"sequence contains text, not token ids: {_ONE_SEQUENCE}")
    if ids.ndim > 1:
        raise DataError(f"sequence has the shape {ids.shape}: {_ONE_SEQUENCE}")
    if ids.ndim == 0 or (ids.size and ids.dtype.kind not in "iu"):
        kind = type(sequence).__name__ if ids.ndim == 0 else ids.dtype.name
        raise DataError(f"sequence is of the type {kind}, not of integers: {_ONE_SEQUENCE}")
    if ids.size and not 0 <= ids.min() <= ids.max() <= LARGEST_INTEGER:
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise DataError(f"sequence contains {wrong}, which is not a token id")
    return ids


def check_window(window_size: int, stride: int) -> None:
    """Checks the size and the stride of windows.

    Args:
        window_size: Tokens of a window.
        stride: Tokens between the starts of two windows.

    Raises:
        ConfigError: A value is not a positive integer, or the stride is larger than the window and
            would leave tokens out.
    """
    for name, value in (("window_size", window_size), ("stride", stride)):
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise ConfigError(f"{name}={value!r:.40}: expected an integer")
    if window_size < 1:
        raise ConfigError(f"window_size={window_size}: must be at least 1")
    if not 1 <= stride <= window_size:
        raise ConfigError(
            f"stride={stride}: must be from 1 to the window of {window_size} tokens: a larger one "
            "would leave tokens out"
        )


def count_windows(length: int, window_size: int, stride: int = 1) -> int:
    """Counts the windows of a text, each with its next token.

    Args:
        length: Tokens of the text.
        window_size: Tokens of a window.
        stride: Tokens between the starts of two windows.

    Returns:
        The number of windows; 0 if the text is too short for one.
    """
    return max(0, (length - window_size - 1) // stride + 1)


def count_covered(length: int, window_size: int, stride: int) -> int:
    """Counts the tokens that lie in a window, or are the next token of one.

    Args:
        length: Tokens of the text.
        window_size: Tokens of a window.
        stride: Tokens between the starts of two windows.

    Returns:
        The number of tokens, each counted once.
    """
    count = count_windows(length, window_size, stride)
    return count and (count - 1) * min(stride, window_size + 1) + window_size + 1


def _require_windows(length: int, window_size: int, stride: int) -> int:
    """The number of windows; raises DataError for none."""
    count = count_windows(length, window_size, stride)
    if count == 0:
        raise DataError(
            f"{length} tokens are too few for one window of {window_size} and its next token: give "
            f"at least {window_size + 1}, or a smaller window"
        )
    return count


def window_batches(
    sequence: np.ndarray | Sequence[int],
    window_size: int,
    *,
    batch_size: int,
    stride: int,
    shuffle_seed: int | None = None,
    drop_last: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One pass over the windows of `create_dataset`, in batches.

    Args:
        sequence: Token ids (N,).
        window_size: Tokens in a window.
        batch_size: Windows in a batch, B.
        stride: Tokens between the starts of two windows.
        shuffle_seed: Shuffles as the first epoch of training with that seed (unset: in order).
        drop_last: Whether a last batch of fewer windows is left out.

    Yields:
        (x, y), each (B, window_size) int32; y is x moved by one token.

    Raises:
        DataError: The sequence is too short for one window.
        ConfigError: `batch_size` is less than 1.

    Example:
        >>> import minigpt_tf as mg
        >>> for x, y in mg.window_batches([1, 2, 3, 4, 5], 2, batch_size=2, stride=2):
        ...     print(x.tolist(), y.tolist())
        [[1, 2], [3, 4]] [[2, 3], [4, 5]]
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size}: must be at least 1")
    x, y = _windows_of(_ids_of(sequence), window_size, stride)
    order = np.arange(len(x))
    if shuffle_seed is not None:
        order = shuffled(order, len(x), seed=shuffle_seed, epoch=0)
    end = len(x) - len(x) % batch_size if drop_last else len(x)
    for first in range(0, end, batch_size):
        chosen = order[first : min(first + batch_size, end)]
        yield x[chosen].astype(np.int32), y[chosen].astype(np.int32)


class TrainingWindows:
    """Shuffled batches of windows over one array of ids.

    Every epoch shows every window once, in an order of its own. All batches are full: one may hold
    the last windows of an epoch and the first of the next. Memory: one batch at a time.
    """

    def __init__(
        self, ids: np.ndarray, context_length: int, *, batch_size: int, stride: int, seed: int
    ) -> None:
        """`ids`: shape (N,), an array or a memory map. Raises DataError where N is too small."""
        self.ids = ids
        self.context_length, self.batch_size = context_length, batch_size
        self.stride, self.seed = stride, seed
        self.count = _require_windows(len(ids), context_length, stride)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.count / self.batch_size)

    def batch(self, global_step: int) -> tuple[np.ndarray, np.ndarray]:
        """x and y of shape (B, context_length), int32, for a step counted from the run's start."""
        epochs, places = divmod(
            np.arange(self.batch_size) + global_step * self.batch_size, self.count
        )
        starts = np.concatenate(
            [
                shuffled(places[epochs == epoch], self.count, seed=self.seed, epoch=int(epoch))
                for epoch in np.unique(epochs)
            ]
        )
        starts *= self.stride
        window = starts[:, None] + np.arange(self.context_length + 1)  # (B, T + 1)
        ids = self.ids[window].astype(np.int32)
        return ids[:, :-1], ids[:, 1:]


def scoring_batches(
    ids: np.ndarray, context_length: int, batch_size: int, fraction: float = 1.0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Windows that score every token but the first exactly once: (x, y) of shape (B, T).

    Windows do not overlap. Ids that do not fill a last window make a shorter one, alone in its
    batch, so nothing is padded and nothing is left out.

    Args:
        ids: All tokens (N,).
        context_length: Tokens in a window, T.
        batch_size: The most windows in a batch, B.
        fraction: Below 1, only this fraction of the full windows is scored, spread evenly.

    Yields:
        Inputs and targets, int32.
    """
    full = (len(ids) - 1) // context_length
    chosen = full if fraction == 1 else math.ceil(full * fraction)
    for first in range(0, chosen, batch_size):
        places = np.arange(first, min(first + batch_size, chosen)) * full // chosen
        window = places[:, None] * context_length + np.arange(context_length + 1)  # (B, T + 1)
        batch = ids[window].astype(np.int32)
        yield batch[:, :-1], batch[:, 1:]
    rest = np.asarray(ids[full * context_length :], dtype=np.int32)[None]
    if rest.shape[1] > 1 and (fraction == 1 or not full):
        yield rest[:, :-1], rest[:, 1:]


class ScoringWindow(NamedTuple):
    """Inputs [start, end) of a sequence, of whose targets (each one later) the last `scored`
    count."""

    start: int
    end: int
    scored: int


class ScoringWindows(Collection[ScoringWindow]):
    """Windows that begin every `stride` tokens and together score every target exactly once.

    A target is scored by the first window that has it; with a stride below the window it then has
    at least `window_size - stride` tokens before it, but for those at the very beginning. With a
    stride of the window's size these are the windows of `scoring_batches`.
    """

    def __init__(self, length: int, window_size: int, stride: int, given: int = 1) -> None:
        """`length`: ids in the sequence, of which the first `given` are never scored. Raises
        ConfigError where the windows would leave gaps."""
        check_window(window_size, stride)
        self.last = length - 1  # the number of the last target
        self.window_size, self.stride, self.given = window_size, stride, given
        beyond = max(0, self.last - window_size)
        self._count = 1 + -(-beyond // stride) if length > given else 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, window: object) -> bool:
        return any(window == own for own in self)

    def __iter__(self) -> Iterator[ScoringWindow]:
        return map(self.__getitem__, range(self._count))

    def __getitem__(self, index: int) -> ScoringWindow:
        if not 0 <= index < self._count:
            raise IndexError(index)
        start = index * self.stride
        end = min(start + self.window_size, self.last)
        earlier = start - self.stride + self.window_size if index else 0
        return ScoringWindow(start, end, max(0, end - max(earlier, self.given - 1)))
