"""A Keras model file and a tokenizer -> everything that a model folder needs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError, DataError, ModelFolderError
from ...inference.weights import weight_shapes
from ...text.tokenizers import BaseTokenizer, load_tokenizer
from ..source import Source
from ..tensors import Entry, Table, tensor_shapes
from .architecture import Path as LayerPath
from .files import open_keras_file
from .layer_weights import shapes_of
from .recognition import Recognized, recognize

ARCHITECTURE = "GPT in Keras layers"


@dataclass(frozen=True)
class RecognizedTensor:
    """A weight of ours in a Keras model, as a matrix (`tensors.Tensor`)."""

    recognized: Recognized
    values_of: Callable[[LayerPath, int], Any]
    """Gives the values of a layer's weight, by the layer's path and the weight's index."""
    name: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray:
        """The values as float32. Raises ModelFolderError."""
        return self.recognized.weight(self.name, self.values_of).reshape(self.shape)


def open_keras(
    path: Path, tokenizer: str | Path | None, context_length: int | None = None
) -> Source:
    """Reads everything of a notebook's model but its weights.

    Args:
        path: An .h5 or .keras file, of our layers or of the lecture's own classes.
        tokenizer: tokenizer.pkl or tokenizer.json.
        context_length: The longest sequence, if the file does not say.

    Returns:
        The source of a model folder; its weights are read later.

    Raises:
        ModelFolderError: The file is damaged, or its model is not one that the engine runs.
        ConfigError: There is no tokenizer.
        DataError: The tokenizer's file is damaged.
    """
    file = open_keras_file(path)
    recognized = recognize(
        file.description, shapes_of(file.weights), context_length=context_length, where=str(path)
    )
    for place, weights in file.weights.items():
        for weight in weights:
            if not weight.is_floating:
                raise ModelFolderError(
                    f"{path}: {'/'.join(place):.80} holds {weight.dtype}, not floating-point "
                    "numbers"
                )
    if tokenizer is None:
        raise ConfigError(
            f"{path} holds a model without its tokenizer: add --tokenizer tokenizer.pkl, the file "
            "that pickle.dump(tokenizer, ...) or save wrote in the notebook (in Python tokenizer=)"
        )
    return source_of(
        recognized,
        lambda place, index: file.weights[place][index].read(),
        read_tokenizer(tokenizer),
        where=str(path),
        origin={"format": f"Keras {file.format}", "from": str(path)},
    )


def source_of(
    recognized: Recognized,
    values_of: Callable[[LayerPath, int], Any],
    tokenizer: BaseTokenizer,
    *,
    where: str,
    origin: dict[str, Any],
) -> Source:
    """What the model folder of a recognized model is made of.

    Args:
        recognized: Its configuration, and where its weights lie.
        values_of: Gives the values of a layer's weight, by the layer's path and the weight's index.
        tokenizer: The tokenizer that the model was trained with.
        where: Names the model in errors.
        origin: Where it comes from, for config.json.

    Returns:
        The source; its weights are read later.
    """
    config = recognized.config
    entries = tuple(Entry(name, (name,)) for name in weight_shapes(config))
    origin = {**origin, "architecture": ARCHITECTURE, "head": recognized.head}
    if recognized.assumptions:
        origin["assumptions"] = recognized.assumptions
    return Source(
        where=where,
        config=config,
        expressed=config,
        table=Table(entries, (), ()),
        tensors={
            name: RecognizedTensor(recognized, values_of, name, shape)
            for name, shape in tensor_shapes(list(entries), config).items()
        },
        tokenizer=tokenizer,
        start_ids=start_ids(tokenizer),
        head=recognized.head,
        assumptions=tuple(recognized.assumptions),
        origin=origin,
    )


def start_ids(tokenizer: BaseTokenizer) -> list[int]:
    """Where an empty prompt starts: after a text or a line, or with the most frequent word."""
    if tokenizer.end_ids:
        return sorted(tokenizer.end_ids)
    if len(line_end := tokenizer.encode("\n")):
        return [int(line_end[0])]
    first_word = 1 if getattr(tokenizer, "oov_token", None) is None else 2  # 0 is padding
    return [min(first_word, tokenizer.vocab_size - 1)]


def read_tokenizer(path: str | Path) -> BaseTokenizer:
    """The tokenizer in a tokenizer.pkl or tokenizer.json file. Raises DataError."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such tokenizer file")
    if path.suffix != ".json":
        return load_tokenizer(path)
    try:
        return load_tokenizer(path)
    except DataError:  # of another kind than byte-level BPE, or damaged
        return load_tokenizer(path, "imported")
