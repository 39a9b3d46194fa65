"""What can be looked into: a model folder, a loaded model, or a Keras model and its tokenizer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import MODEL_NAME, ModelConfig
from ..errors import DataError
from ..inference.folder import ModelFolder, load_folder
from ..inference.prompt import Prompt, encode_prompt
from ..inference.weights import check_finite
from ..interop.live_model import LoadedModel, check_tokenizer, read_live_model
from ..text.tokenizers import BaseTokenizer, as_tokenizer


@dataclass(frozen=True)
class Opened:
    """A model whose weights can be read."""

    config: ModelConfig
    weights: Mapping[str, Any]
    """Float32 arrays by the names of `inference.weights`; from a file, each is read anew."""
    tokenizer: BaseTokenizer


class _FileWeights(Mapping[str, np.ndarray]):
    """Weights that are read when they are wanted: memory holds one matrix at a time."""

    def __init__(self, datasets: Mapping[str, Any], where: str) -> None:
        self._datasets, self._where = datasets, where

    def __getitem__(self, name: str) -> np.ndarray:
        values = np.asarray(self._datasets[name], dtype=np.float32)
        check_finite(values, name, self._where)
        return values

    def __contains__(self, name: object) -> bool:
        return name in self._datasets

    def __iter__(self) -> Iterator[str]:
        return iter(self._datasets)

    def __len__(self) -> int:
        return len(self._datasets)


@contextmanager
def opened(model: Any, tokenizer: Any = None) -> Iterator[Opened]:
    """A context in which a model's weights can be read.

    Args:
        model: A model folder, what `mg.load` or `load_folder` returns, or a Keras model.
        tokenizer: Of a Keras model: a `Tokenizer`, ours or Keras's, or the path of its file.

    Yields:
        The model.

    Raises:
        ModelFolderError: The model is missing, damaged, or not one that is known here.
        DataError: A Keras model comes without its tokenizer.
    """
    if isinstance(model, LoadedModel):
        model = model.path
    if isinstance(model, (str, Path)):
        model = load_folder(model)
    if isinstance(model, ModelFolder):
        file = model.path / MODEL_NAME
        with model.open_weights() as datasets:
            yield Opened(model.model, _FileWeights(datasets, str(file)), model.tokenizer)
        return
    recognized, weights = read_live_model(model)
    if tokenizer is None:
        raise DataError("a Keras model needs its tokenizer: give it as tokenizer=")
    found = as_tokenizer(tokenizer)
    check_tokenizer(found, recognized.config)
    yield Opened(recognized.config, weights, found)


def encode_whole(tokenizer: BaseTokenizer, config: ModelConfig, text: str) -> Prompt:
    """A text as ids, all of it.

    Args:
        tokenizer: The model's.
        config: Its context is the most that fits.
        text: The text.

    Returns:
        Its ids, at least one, and the words that are unknown.

    Raises:
        DataError: The text is empty, all of it is unknown, or it is longer than the context.
    """
    return whole(encode_prompt(tokenizer, config.context_length, text), tokenizer, config)


def whole(prompt: Prompt, tokenizer: BaseTokenizer, config: ModelConfig) -> Prompt:
    """The prompt, if none of it was dropped.

    Args:
        prompt: From `encode_prompt` or `encode_chat`.
        tokenizer: The model's.
        config: Its sizes.

    Returns:
        The same.

    Raises:
        DataError: It has no token that the model knows, or more tokens than the context.
    """
    if not prompt.text.strip():
        raise DataError('the text is empty: give one to look at, such as "who is Hardy"')
    counts = np.bincount(prompt.ids, minlength=tokenizer.vocab_size)
    if not prompt.ids or tokenizer.count_unknown(counts) == len(prompt.ids):
        names = ", ".join(repr(word) for word in prompt.unknown[:5])
        raise DataError(f"the model knows nothing of the text ({names}): use words of its own text")
    if prompt.dropped:
        raise DataError(
            f"the text has {len(prompt.ids) + prompt.dropped:,} tokens, and the model's context "
            f"{config.context_length:,}: leave out {prompt.dropped:,}"
        )
    return prompt
