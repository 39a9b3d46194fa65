"""Passages on which 4-bit weights are chosen: of a text, or written by the model itself."""

from typing import Protocol

import numpy as np

from ..config import ModelConfig
from ..events import SILENT, Listener
from ..metrics import softmax
from .key_value_cache import Cache


class Decoder(Protocol):
    """What writes the passages: an `engine.Engine`."""

    config: ModelConfig

    def decode_batch(self, ids: np.ndarray, cache: Cache) -> np.ndarray:
        """Appends a token to each sequence.

        Args:
            ids: (P,).
            cache: The sequences.

        Returns:
            Logits (P, V).
        """
        ...


CALIBRATION_PASSAGES, CALIBRATION_TOKENS = 128, 128
"""How many passages a model writes for its own calibration, and their length."""


def passages_of(ids: np.ndarray, count: int, length: int, seed: int = 0) -> np.ndarray:
    """Passages of a text, for calibration.

    Args:
        ids: The text (N,).
        count: At most so many passages.
        length: Tokens of a passage; a shorter text is one passage.
        seed: Of where they begin; they do not overlap.

    Returns:
        (P, T) ids.

    Example:
        >>> passages_of(np.arange(100), count=2, length=4).shape
        (2, 4)
    """
    ids = np.asarray(ids)
    length = min(length, len(ids))
    passages = ids[: len(ids) // length * length].reshape(-1, length)
    chosen = np.random.default_rng(seed).permutation(len(passages))[:count]
    return passages[np.sort(chosen)]


def generated_passages(
    engine: Decoder,
    count: int = CALIBRATION_PASSAGES,
    length: int = CALIBRATION_TOKENS,
    seed: int = 0,
    listener: Listener = SILENT,
) -> np.ndarray:
    """Text that a model writes itself, for calibration without data.

    Each passage begins with a random token and continues with tokens drawn at temperature 1, so
    that together they are what the model was trained on as far as it remembers (Liu et al., 2023,
    "LLM-QAT", section 3.1).

    Args:
        engine: The model in float32, best with a short context: there are keys and values of a
            whole context for each passage.
        count: Number of passages P.
        length: Tokens of a passage, cut to the context length.
        seed: Of all random numbers.
        listener: Gets the progress in tokens.

    Returns:
        (P, T) ids.
    """
    config, random = engine.config, np.random.default_rng(seed)
    length = min(length, config.context_length)
    cache = Cache(config, count)
    passages = np.empty((count, length), dtype=np.int64)
    passages[:, 0] = random.integers(config.vocab_size, size=count)
    for i in range(1, length):
        listener.preparation("writing text for calibration", i, length)
        logits = engine.decode_batch(passages[:, i - 1], cache)
        up_to = softmax(logits).cumsum(axis=1, dtype=np.float64)  # probabilities of ids up to each
        drawn = random.random((count, 1)) * up_to[:, -1:]
        passages[:, i] = (up_to < drawn).sum(axis=1)
    return passages
