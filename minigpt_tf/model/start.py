"""Where the output head starts."""

import keras
import numpy as np

from ..errors import ConfigError
from .keras_model import LOGITS

RARE = 0.01
"""The count of a token that does not occur in the text: rare, not impossible."""


def start_from_frequencies(model: keras.Model, ids: np.ndarray | list[int]) -> None:
    """Sets the bias of the output head to the log frequencies of the tokens.

    The model then starts at the loss of knowing only the token frequencies. Without it the first
    steps push all hidden states the same way to learn them. With post-norm the push makes every
    position look alike, and training stays on that plateau, for some seeds very long. With a small
    text and a large vocabulary, the first thing to learn is which ids never occur.

    Args:
        model: Of `build_gpt_model`, with a bias in its output head.
        ids: The training text as token ids (N,).

    Raises:
        ConfigError: The output head has no bias, or an id is outside the vocabulary.

    Example:
        >>> import minigpt_tf as mg
        >>> model = mg.build_gpt_model(vocab_size=4, embed_dim=8, num_heads=2, num_layers=1)
        >>> mg.start_from_frequencies(model, [1, 2, 2, 3])
        >>> [round(float(b), 1) for b in model.get_layer("logits").bias.numpy()]
        [-6.0, -1.4, -0.7, -1.4]
    """
    ids, vocab_size = np.asarray(ids), model.output_shape[-1]
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        raise ConfigError(f"the ids go to {ids.max()}, and the model knows 0 to {vocab_size - 1}")
    start_from_counts(model, np.bincount(ids.ravel(), minlength=vocab_size))


def start_from_counts(model: keras.Model, counts: np.ndarray) -> None:
    """As `start_from_frequencies`, for counted tokens.

    Args:
        model: One with a bias in its output head.
        counts: How often each token occurs, (V,).

    Raises:
        ConfigError: The output head has no bias.
    """
    names = [layer.name for layer in model.layers]
    bias = getattr(model.get_layer(LOGITS), "bias", None) if LOGITS in names else None
    if bias is None:
        raise ConfigError("the model's output head has no bias to start from the frequencies")
    frequent = counts + RARE
    bias.assign(np.log(frequent / frequent.sum()))
