"""What happens in a model while it reads a text: attention, residual stream, logits of each layer.

The forward pass is `inference.stages`, in NumPy: all that is between its stages can be seen.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..events import SILENT, Listener
from ..inference.stages import Passages, Stage, rows_of
from ..machine import check_fits_memory, start_blas_threads
from ..metrics import log_softmax
from ..text.token_texts import TokenTexts
from .opening import Opened, encode_whole, opened

MOST_LIKELY = 5
"""Tokens that are shown of each distribution."""


@dataclass(frozen=True)
class Inside:
    """What `look_inside` found. T tokens, L blocks, N heads, V ids.

    Example:
        >>> import minigpt_tf as mg
        >>> tokenizer = mg.Tokenizer()
        >>> tokenizer.fit_on_texts(["who is hardy"])
        >>> model = mg.build_gpt_model(4, 8, embed_dim=8, num_heads=2, ff_dim=8, num_layers=3)
        >>> found = mg.look_inside(model, "who is hardy", tokenizer)
        >>> found.tokens, found.attention.shape, found.lens_probabilities.shape
        (['who', 'is', 'hardy'], (3, 2, 3, 3), (4, 3, 4))
    """

    tokens: list[str]
    """The text of each token."""
    ids: np.ndarray
    """(T,) int64."""
    logits: np.ndarray
    """(T, V) float32: those of the token after each token."""
    attention: np.ndarray
    """(L, N, T, T) float32: how much of its attention [query token] pays to [key token]. A row
    sums to 1; what comes later is 0."""
    lens_ids: np.ndarray
    """(L + 1, T, 5) int64: the most likely next tokens if the model ended before block 0, 1, ...
    The last row is the model's own (nostalgebraist, 2020, "interpreting GPT: the logit lens")."""
    lens_probabilities: np.ndarray
    """(L + 1, T, 5) float32: their probabilities."""
    lens_of_next: np.ndarray
    """(L + 1, T - 1) float32: the probability of the token that does come next."""
    residual_norms: np.ndarray
    """(L + 1, T) float32: length of the residual stream's vector before block 0, 1, ..., and
    behind the last."""
    attention_norms: np.ndarray
    """(L, T) float32: length of what each block's attention adds to it."""
    feed_forward_norms: np.ndarray
    """(L, T) float32: length of what its feed-forward adds."""

    @property
    def log_probabilities(self) -> np.ndarray:
        """The logarithm of the probability of each token but the first, (T - 1,) float64."""
        return log_softmax(self.logits[:-1])[np.arange(len(self.ids) - 1), self.ids[1:]]

    @property
    def surprise(self) -> np.ndarray:
        """The loss of each token but the first, (T - 1,) float64, in nats."""
        return -self.log_probabilities

    @property
    def ranks(self) -> np.ndarray:
        """The place of each token but the first among all, (T - 1,): 1 is the most likely."""
        chosen = np.take_along_axis(self.logits[:-1], self.ids[1:, None], axis=1)
        return 1 + (self.logits[:-1] > chosen).sum(axis=1)


def look_inside(
    model: Any, text: str, tokenizer: Any = None, listener: Listener = SILENT
) -> Inside:
    """Lets a model read a text, and keeps what happens between its layers. No TensorFlow.

    Args:
        model: A model folder, what `mg.load` returns, or a Keras model.
        text: At most as many tokens as the context.
        tokenizer: Of a Keras model: a `Tokenizer`, ours or Keras's, or the path of its file.
        listener: Receives the progress in layers.

    Returns:
        Logits, attention and residual stream; equal to the engine's and Keras's to 1e-4.

    Raises:
        ModelFolderError: The model is missing, damaged, or not one that is known here.
        DataError: The text is empty, unknown, or longer than the context.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.look_inside("models/ramanujan", "who is hardy").surprise  # doctest: +SKIP
        array([6.41, 1.73])
    """
    with opened(model, tokenizer) as source:
        ids = encode_whole(source.tokenizer, source.config, text).ids
        return inside_of(source, np.array(ids, dtype=np.int64), listener)


def attention(model: Any, text: str, tokenizer: Any = None) -> np.ndarray:
    """Where the heads of a model look.

    Args:
        model: As for `look_inside`.
        text: As there.
        tokenizer: As there.

    Returns:
        (L, N, T, T) float32, by block, head, query token and key token: `[2, 0, 5, 3]` is how much
        of its attention token 5 pays to token 3 in head 0 of block 2. A row sums to 1, and what
        comes later gets 0.

    Raises:
        ModelFolderError: As for `look_inside`.
        DataError: As there.

    Example:
        >>> import minigpt_tf as mg
        >>> tokenizer = mg.Tokenizer()
        >>> tokenizer.fit_on_texts(["who is hardy"])
        >>> model = mg.build_gpt_model(4, 8, embed_dim=8, num_heads=2, ff_dim=8, num_layers=3)
        >>> weights = mg.attention(model, "who is hardy", tokenizer)
        >>> weights.shape, weights[0, 0, 0].tolist()
        ((3, 2, 3, 3), [1.0, 0.0, 0.0])
    """
    return look_inside(model, text, tokenizer).attention


def inside_of(source: Opened, ids: np.ndarray, listener: Listener = SILENT) -> Inside:
    """As `look_inside`, of ids.

    Args:
        source: The model.
        ids: (T,), at least one.
        listener: Receives the progress in layers.

    Returns:
        What happens inside.

    Raises:
        ConfigError: There is not memory enough, or numbers are not finite.
    """
    c, T = source.config, len(ids)
    size = 4 * (c.num_layers * c.num_heads * T * T + 3 * T * c.vocab_size)
    check_fits_memory(size, f"attention and logits of {T:,} tokens")
    start_blas_threads()
    attention = np.zeros((c.num_layers, c.num_heads, T, T), dtype=np.float32)
    layer = 0

    def keep(block: str, head: int, weights: np.ndarray) -> None:
        """Notes a head's attention."""
        attention[layer, head] = weights

    passages = Passages(c, source.weights, ids[None], keep)
    lens = _Lens(source, ids)
    residual_norms = [_lengths(passages.residual)]
    added: dict[Stage, list[np.ndarray]] = {Stage.OUT: [], Stage.DOWN: []}
    logits = lens.look(passages.head_inputs())
    for layer in range(c.num_layers):
        listener.preparation("looking inside", layer, c.num_layers)
        for stage in Stage:
            passages.advance(layer, stage)
            if stage in added and passages.update is not None:
                added[stage].append(_lengths(passages.update))
        residual_norms.append(_lengths(passages.residual))
        logits = lens.look(passages.head_inputs())
    listener.preparation("looking inside", c.num_layers, c.num_layers)
    if not np.isfinite(logits).all():
        raise ConfigError("the model computes numbers that are not finite")
    texts = TokenTexts(source.tokenizer)
    return Inside(
        tokens=[texts[i] for i in ids],
        ids=ids,
        logits=logits,
        attention=attention,
        lens_ids=np.stack(lens.ids),
        lens_probabilities=np.stack(lens.probabilities),
        lens_of_next=np.stack(lens.of_next),
        residual_norms=np.stack(residual_norms),
        attention_norms=np.stack(added[Stage.OUT]),
        feed_forward_norms=np.stack(added[Stage.DOWN]),
    )


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """(T, D) -> (T,)."""
    return np.linalg.norm(vectors, axis=1)


class _Lens:
    """The output head, applied to the residual stream between the blocks."""

    def __init__(self, source: Opened, ids: np.ndarray) -> None:
        name = "token_embedding/embeddings" if source.config.tie_embeddings else "logits/kernel"
        self._rows = rows_of(source.weights[name], name)  # (V, D)
        self._bias = source.weights.get("logits/bias")
        self._softcap = source.config.logits_softcap
        self._next = ids[1:]
        self.ids: list[np.ndarray] = []
        self.probabilities: list[np.ndarray] = []
        self.of_next: list[np.ndarray] = []

    def look(self, hidden: np.ndarray) -> np.ndarray:
        """Notes what the head makes of the hidden states (T, D); the logits (T, V)."""
        logits = hidden @ self._rows.T
        if self._bias is not None:
            logits += self._bias
        if self._softcap is not None:
            logits = np.float32(self._softcap) * np.tanh(logits / np.float32(self._softcap))
        top = most_likely(logits)
        highest = logits.max(axis=1, keepdims=True)
        totals = np.exp(logits - highest).sum(axis=1, keepdims=True)

        def probabilities(chosen: np.ndarray) -> np.ndarray:
            """Of some ids (T, n) each."""
            rows = np.arange(len(chosen))[:, None]
            return np.exp(logits[rows, chosen] - highest[: len(chosen)]) / totals[: len(chosen)]

        self.ids.append(top)
        self.probabilities.append(probabilities(top))
        self.of_next.append(probabilities(self._next[:, None])[:, 0])
        return logits


def most_likely(logits: np.ndarray, count: int = MOST_LIKELY) -> np.ndarray:
    """The ids with the highest logits.

    Args:
        logits: (T, V).
        count: How many; V, if that is fewer.

    Returns:
        (T, count) int64, the highest first; equals in the order of their ids.

    Example:
        >>> most_likely(np.array([[1.0, 3.0, 2.0]]), 2)
        array([[1, 2]])
    """
    count = min(count, logits.shape[1])
    top = np.sort(np.argpartition(-logits, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(logits, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1)
