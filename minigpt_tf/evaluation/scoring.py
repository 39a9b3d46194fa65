"""How well a model predicts given tokens: loss, perplexity and bits per byte.

`model` is everywhere an Engine, or a Keras model that gives logits (B, T, V) for ids (B, T), such
as those of `build_gpt_model` and `load_model`. TensorFlow is imported for the latter alone.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError
from ..events import SILENT, Listener
from ..inference.engine import Engine
from ..metrics import bits_per_byte, negative_log_likelihood, perplexity
from ..planning.limits import windows_at_once
from ..text.windows import ScoringWindow, ScoringWindows

Losses = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Ids x and y (B, T) and a number S -> losses in nats of the last S targets of each row (B, S)."""


@dataclass(frozen=True)
class Score:
    """What `score` found."""

    loss: float
    """Mean negative log probability of the scored tokens, in nats."""
    tokens: int
    """How many were scored."""
    bytes: int | None
    """UTF-8 bytes of text that those tokens stand for; None where that is not known."""

    @property
    def perplexity(self) -> float:
        """exp(loss).

        Returns:
            At least 1; infinite if it is too large for a float.
        """
        return perplexity(self.loss)

    @property
    def bits_per_byte(self) -> float | None:
        """Makes models with different tokenizers comparable.

        Returns:
            Bits; None if `bytes` is unknown or 0.
        """
        if not self.bytes:
            return None
        return bits_per_byte(self.loss, self.tokens, self.bytes)


def loss_of_batch(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    """The mean loss of one batch.

    Args:
        model: An Engine or a Keras model of logits, as above.
        x: Input ids (B, T).
        y: Target ids (B, T).

    Returns:
        Nats per target token.

    Raises:
        DataError: The batch is empty, or an id is outside the vocabulary.

    Example:
        >>> import minigpt_tf as mg
        >>> model = mg.build_gpt_model(mg.model_preset("shakespeare", vocab_size=8, num_layers=1))
        >>> x, y = np.array([[1, 2, 3]]), np.array([[2, 3, 4]])
        >>> mg.loss_of_batch(model, x, y) > 0
        True
    """
    x, y = _checked(model, x, y)
    return float(_losses_of(model, compiled=False)(x, y, y.shape[1]).mean())


def loss_over(
    model: Any,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    num_batches: int | None = None,
) -> float:
    """The mean loss over batches. Every target counts the same, also if the batches differ in size.

    Args:
        model: An Engine or a Keras model of logits, as above.
        batches: Pairs of input and target ids, (B, T) each.
        num_batches: How many of them to take (unset: all).

    Returns:
        Nats per target token.

    Raises:
        DataError: There is no batch, or an id is outside the vocabulary.
        ConfigError: `num_batches` is negative.

    Example:
        >>> import minigpt_tf as mg
        >>> model = mg.build_gpt_model(mg.model_preset("shakespeare", vocab_size=8, num_layers=1))
        >>> batches = mg.window_batches(np.arange(40) % 8, 16, stride=16, batch_size=2)
        >>> mg.loss_over(model, batches) > 0
        True
    """
    losses_of = _losses_of(model, compiled=True)
    total, count = 0.0, 0
    for batch in itertools.islice(batches, _count(num_batches)):
        x, y = _checked(model, *batch)
        total += float(losses_of(x, y, y.shape[1]).sum())
        count += y.size
    if count == 0:
        raise DataError("there is no batch to compute a loss of: the text may be too short for one")
    return total / count


def _count(num_batches: int | None) -> int | None:
    if num_batches is not None and num_batches < 0:
        raise ConfigError(f"num_batches={num_batches}: must be at least 0")
    return num_batches


def score(
    model: Any,
    ids: np.ndarray | Sequence[int],
    *,
    context_length: int,
    stride: int | None = None,
    prefix_ids: Sequence[int] = (),
    byte_lengths: np.ndarray | None = None,
    num_windows: int | None = None,
    listener: Listener = SILENT,
) -> Score:
    """Scores a text in windows, each token once.

    The first id is given and not scored, unless prefix ids stand before it. Memory: the logits of
    one window at most; on the engine some of them.

    Args:
        model: An Engine or a Keras model of logits, as above.
        ids: The text's token ids (N,), which may be mapped from a file.
        context_length: Tokens in a window.
        stride: How far a window moves: of each window only those tokens count that no earlier one
            has scored (unset: windows do not overlap). The smaller it is, the more of the text
            before a token the model sees, and the longer it takes.
        prefix_ids: A tokenizer's, such as <s>; context alone, never scored.
        byte_lengths: Bytes that each id stands for (V,), from `text_size.byte_lengths`.
        num_windows: Score only so many windows, spread evenly over the text (unset: all).
        listener: Receives the progress.

    Returns:
        The mean loss, from which perplexity and bits per byte follow.

    Raises:
        DataError: There is nothing to score, an id is outside the vocabulary, or the loss is not
            finite.
        ConfigError: The stride is larger than the window, or `num_windows` is less than 1.

    Example:
        >>> import minigpt_tf as mg
        >>> model = mg.build_gpt_model(mg.model_preset("shakespeare", vocab_size=8, num_layers=1))
        >>> found = mg.score(model, np.arange(40) % 8, context_length=16, stride=8)
        >>> found.tokens, found.perplexity > 1
        (39, True)
    """
    size = _vocab_size(model)
    ids = _with_prefix(ids, prefix_ids, size)
    given = max(1, len(prefix_ids))
    stride = context_length if stride is None else stride
    windows = ScoringWindows(len(ids), context_length, stride, given)
    chosen = _spread(windows, num_windows)
    losses_of = _losses_of(model, compiled=True)
    total, tokens, byte_count, done = 0.0, 0, 0, 0
    for group in _groups(chosen, _rows_at_once(model, context_length)):
        rows = np.stack([ids[w.start : w.end + 1] for w in group]).astype(np.int64)
        _check_ids(rows, size)
        scored = group[0].scored
        total += float(losses_of(rows[:, :-1], rows[:, 1:], scored).sum())
        tokens += len(group) * scored
        if byte_lengths is not None:
            byte_count += int(byte_lengths[rows[:, -scored:]].sum(dtype=np.int64))
        done += len(group)
        listener.preparation("scoring", done, len(chosen))
    if not tokens:
        raise DataError(
            f"{len(ids) - len(prefix_ids)} tokens are too few: the first is given, and at least "
            "one more is needed to be scored"
        )
    if not math.isfinite(total):
        raise DataError(f"the loss is {total}: the model's logits are not finite")
    return Score(total / tokens, tokens, None if byte_lengths is None else byte_count)


def _with_prefix(
    ids: np.ndarray | Sequence[int], prefix_ids: Sequence[int], vocab_size: int
) -> np.ndarray:
    """The ids of prefix and text, (N,). Ids of the text are not looked at: they may be many."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise DataError(f"ids of shape {ids.shape} and type {ids.dtype}: expected integers (N,)")
    if not len(prefix_ids):
        return ids
    prefix = np.asarray(prefix_ids)
    _check_ids(prefix, vocab_size)
    return np.concatenate([prefix, ids.astype(np.int64)])


def _spread(windows: ScoringWindows, number: int | None) -> Collection[ScoringWindow]:
    """So many of the windows (None: all), evenly over the text."""
    if number is None or number >= len(windows):
        return windows
    if number < 1:
        raise ConfigError(f"num_windows={number}: must be at least 1")
    return [windows[place * len(windows) // number] for place in range(number)]


def _groups(windows: Iterable[ScoringWindow], most: int) -> Iterator[list[ScoringWindow]]:
    """Neighbors of the same size, of which as much is scored, up to `most` together."""
    kinds = itertools.groupby(windows, key=lambda w: (w.end - w.start, w.scored))
    for (_, scored), group in kinds:
        while batch := list(itertools.islice(group, most)):
            if scored:  # nothing, if a window does not reach beyond the prefix
                yield batch


def _rows_at_once(model: Any, context_length: int) -> int:
    """Windows that the model computes together. The engine takes one after the other."""
    if isinstance(model, Engine):
        return 1
    return windows_at_once(context_length, _vocab_size(model))


def _vocab_size(model: Any) -> int:
    return model.config.vocab_size if isinstance(model, Engine) else int(model.output_shape[-1])


def _checked(model: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y as arrays. Raises DataError."""
    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape or x.ndim != 2 or not x.size:
        raise DataError(f"a batch of shapes {x.shape} and {y.shape}: expected twice (B, T)")
    for ids in (x, y):
        _check_ids(ids, _vocab_size(model))
    return x, y


def _check_ids(ids: np.ndarray, vocab_size: int) -> None:
    """Raises DataError for ids that are not integers below `vocab_size`."""
    if ids.dtype.kind not in "iu":
        raise DataError(f"ids of type {ids.dtype}: expected integers")
    wrong = ids[(ids < 0) | (ids >= vocab_size)]
    if len(wrong):
        raise DataError(f"token id {wrong[0]} is outside the model's vocabulary of {vocab_size}")


def _losses_of(model: Any, *, compiled: bool) -> Losses:
    """The function that computes losses with the model; `compiled` pays for many calls."""
    if isinstance(model, Engine):
        return _engine_losses(model)
    return _keras_losses(model, compiled)


def _engine_losses(engine: Engine) -> Losses:
    def losses(x: np.ndarray, y: np.ndarray, scored: int) -> np.ndarray:
        """As `Losses` says, in float64."""
        result = np.empty((len(x), scored))
        for ids, targets, row in zip(x, y[:, y.shape[1] - scored :], result, strict=True):
            first = 0
            for logits in engine.logits_in_chunks(ids, scored):
                last = first + len(logits)
                row[first:last] = negative_log_likelihood(logits, targets[first:last])
                first = last
        return result

    return losses


def _keras_losses(model: Any, compiled: bool) -> Losses:
    import tensorflow as tf

    def cross_entropy(x: tf.Tensor, y: tf.Tensor, scored: tf.Tensor) -> tf.Tensor:
        """Losses (B, scored), float32."""
        first = tf.shape(y)[1] - scored
        logits = tf.cast(model(x, training=False)[:, first:], tf.float32)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(y[:, first:], logits)

    if compiled:
        ids, number = tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((), tf.int32)
        cross_entropy = tf.function(
            cross_entropy, input_signature=[ids, ids, number], autograph=False
        )

    def losses(x: np.ndarray, y: np.ndarray, scored: int) -> np.ndarray:
        """As `Losses` says, in float64."""
        x, y = (tf.constant(ids, dtype=tf.int32) for ids in (x, y))
        try:
            return cross_entropy(x, y, tf.constant(scored)).numpy().astype(np.float64)
        except tf.errors.InvalidArgumentError:  # the ids were looked at before: it is their number
            raise ConfigError(
                f"{x.shape[1]} tokens are not what the Keras model takes: they may not fit into "
                "its context"
            ) from None

    return losses
