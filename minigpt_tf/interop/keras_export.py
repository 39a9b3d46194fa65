"""A model folder -> Keras 3's own archive, model.keras."""

from pathlib import Path

import keras
import numpy as np

from ..config import MODEL_NAME
from ..errors import ModelFolderError
from ..inference.weights import check_finite, named_variables, open_weights
from ..machine import check_fits_memory
from ..model import build_gpt_model
from ..modelfolder import ModelFolder, reserve_space

LOGITS_TOLERANCE = 1e-5
"""Largest difference of logits between the model and its reloaded file, for logits up to 10."""

CHECKED_TOKENS = 32
"""Length of the sequence whose logits are compared."""


def write_keras_archive(folder: ModelFolder, file: Path) -> None:
    """Writes the file, whose name ends in .keras; reloads it, and compares weights and logits.

    The architecture is built from config.json, so nothing of the folder can run code. Raises
    ModelFolderError where model.h5 is damaged or the check fails, OSError where the disk is full.
    """
    size = 4 * folder.model.parameter_count
    check_fits_memory(2 * size, "the model and its reloaded copy")
    reserve_space(file.parent, 2 * size + 2**20)  # Keras puts the weights into a file of their own
    model = build_gpt_model(folder.model)
    source = folder.path / MODEL_NAME
    with open_weights(source, folder.model) as datasets:
        for name, variable in named_variables(model).items():
            values = np.asarray(datasets[name], dtype=np.float32)
            check_finite(values, name, str(source))
            variable.assign(values)
    model.save(file)
    _check(model, keras.models.load_model(file, compile=False), folder, file)


def _check(model: keras.Model, reloaded: keras.Model, folder: ModelFolder, file: Path) -> None:
    """Raises ModelFolderError where the reloaded model is not the one that was saved."""
    ours, theirs = named_variables(model), named_variables(reloaded)
    for name, variable in ours.items():
        if name not in theirs or not np.array_equal(np.array(variable), np.array(theirs[name])):
            raise ModelFolderError(f"{file}: {name} could not be read back as written")
    length = min(folder.model.context_length, CHECKED_TOKENS)
    ids = np.random.default_rng(0).integers(0, folder.model.vocab_size, (1, length))
    expected, found = (
        keras.ops.convert_to_numpy(m(ids, training=False)) for m in (model, reloaded)
    )
    difference = float(np.abs(expected - found).max())
    if not difference <= LOGITS_TOLERANCE * max(1.0, float(np.abs(expected).max()) / 10):
        raise ModelFolderError(
            f"{file}: self-check failed: the reloaded model's logits differ by {difference:.2g}"
        )
