"""A model folder -> Keras 3's own archive, model.keras."""

import gc
from pathlib import Path

import keras
import numpy as np

from ..config import MODEL_NAME
from ..errors import ModelFolderError
from ..inference.folder import ModelFolder
from ..inference.weights import check_finite, named_variables
from ..machine import check_fits_memory
from ..model import build_gpt_model
from ..storage.replacing import reserve_space

LOGITS_TOLERANCE = 1e-5
"""Largest difference of logits between the model and its reloaded file, for logits up to 10."""

CHECKED_TOKENS = 32
"""Length of the sequence whose logits are compared."""


def write_keras_archive(folder: ModelFolder, file: Path) -> None:
    """Writes a Keras archive, reloads it, and compares weights and logits.

    The architecture is built from config.json, so nothing in the folder can run code.

    Args:
        folder: The model.
        file: The file to write; its name ends in .keras.

    Raises:
        ConfigError: The memory is too small for the model and the archive's weights.
        ModelFolderError: model.h5 is damaged, or the check fails.
        OSError: The disk is full.
    """
    size = 4 * folder.model.parameter_count
    source = folder.path / MODEL_NAME
    with folder.open_weights() as datasets:
        advice = "--format h5 needs none"
        check_fits_memory(2 * size, "the model and the archive's weights", advice)
        model = build_gpt_model(folder.model, dtype="float32")
        for name, variable in named_variables(model).items():
            values = np.asarray(datasets[name], dtype=np.float32)
            check_finite(values, name, str(source))
            variable.assign(values)
    expected = _logits(model, folder)
    reserve_space(file.parent, 2 * size + 2**20)  # Keras may put the weights into a file first
    model.save(file)
    del model
    gc.collect()  # a Keras model refers to itself; there need not be memory for two
    _check(keras.models.load_model(file, compile=False), expected, folder, file)


def _logits(model: keras.Model, folder: ModelFolder) -> np.ndarray:
    """Logits (1, T, V) of some sequence."""
    length = min(folder.model.context_length, CHECKED_TOKENS)
    ids = np.random.default_rng(0).integers(0, folder.model.vocab_size, (1, length))
    return keras.ops.convert_to_numpy(model(ids, training=False))


def _check(model: keras.Model, expected: np.ndarray, folder: ModelFolder, file: Path) -> None:
    """Raises ModelFolderError where the reloaded model is not the one in the folder."""
    variables = named_variables(model)
    with folder.open_weights() as datasets:
        for name, dataset in datasets.items():
            if name not in variables or not np.array_equal(dataset, np.array(variables[name])):
                raise ModelFolderError(f"{file}: {name} could not be read back as written")
    difference = float(np.abs(expected - _logits(model, folder)).max())
    if not difference <= LOGITS_TOLERANCE * max(1.0, float(np.abs(expected).max()) / 10):
        raise ModelFolderError(
            f"{file}: self-check failed: the reloaded model's logits differ by {difference:.2g}"
        )
