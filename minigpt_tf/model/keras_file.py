"""Writes a model as Keras's .h5 file, one weight at a time: the whole model is never in memory."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import h5py
import keras
import numpy as np

from ..config import ModelConfig
from ..inference.weights import full_name
from ..storage.replacing import reserve_space
from .gpt import build_gpt_model

OVERHEAD, LAYER_OVERHEAD = 2**20, 2**15
"""Bytes of an .h5 file beside the weights, at most: of the whole, and for each block (measured: 24
kB a block)."""

SLICE_VALUES = 2**20
"""Values of a weight that are copied at a time."""


def write_keras_file(
    file: Path,
    config: ModelConfig,
    read: Callable[[str], np.ndarray],
    head: Literal["logits", "softmax"] = "logits",
) -> None:
    """Writes a file that plain `keras.models.load_model` reads.

    Args:
        file: Where to.
        config: The architecture.
        read: Gives a weight by its name in `inference.weights.weight_shapes`. It is called once
            for each, in the order of that table; the weight is written as float32 and dropped.
        head: What the model in the file ends in.

    Raises:
        OSError: The disk is full.
    """
    overhead = OVERHEAD + config.num_layers * LAYER_OVERHEAD
    reserve_space(file.parent, 4 * config.parameter_count + overhead)
    with keras.StatelessScope(initialize_variables=False):  # variables that take no memory
        model = build_gpt_model(config, head=head, dtype="float32")
        description = json.loads(model.to_json())
    try:
        with h5py.File(file, "w") as h5:
            weights = h5.create_group("model_weights")
            for place in (h5, weights):
                place.attrs["keras_version"] = keras.__version__
                place.attrs["backend"] = keras.backend.backend()
            kept = {name: description[name] for name in ("class_name", "config")}
            h5.attrs["model_config"] = json.dumps(kept)
            weights.attrs["layer_names"] = [layer.name for layer in model.layers]
            for layer in model.layers:
                _write_layer(weights.create_group(layer.name), layer, read)
            weights.create_group("top_level_model_weights").attrs["weight_names"] = []
    except (RuntimeError, ValueError) as error:  # h5py's words for a full disk
        raise OSError(str(error).splitlines()[0]) from None


def _write_layer(group: h5py.Group, layer: keras.Layer, read: Callable[[str], np.ndarray]) -> None:
    paths = [weight.path for weight in layer.weights]
    group.attrs["weight_names"] = paths
    for path in paths:
        values = read(full_name(layer.name, path))
        dataset = group.create_dataset(path, values.shape, dtype=np.float32)
        for rows in row_slices(values.shape):  # a view of other strides would be copied as a whole
            dataset[rows] = values[rows]


def row_slices(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices along the first axis of an array, to copy it chunk by chunk.

    Args:
        shape: Of the array.

    Yields:
        Slices of at most SLICE_VALUES values, or of one row if that is longer.
    """
    rows = max(1, SLICE_VALUES * shape[0] // max(1, math.prod(shape)))
    for first in range(0, shape[0], rows):
        yield slice(first, min(first + rows, shape[0]))
