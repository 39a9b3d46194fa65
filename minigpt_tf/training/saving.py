"""Weights -> a model folder that has proved to load before it replaces anything."""

import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..config import CONFIG_NAME, MODEL_NAME, ModelConfig
from ..errors import ModelFolderError
from ..events import Evaluation
from ..inference.engine import Engine
from ..inference.folder import describe_model, replacing_model, write_tokenizer
from ..inference.weights import Weights, assign_weights, open_weights
from ..model import build_gpt_model
from ..model.keras_file import write_keras_file
from ..storage.json_files import write_json
from .history import write_history, write_loss_picture
from .plan import Plan

RELOAD_TOLERANCE = 1e-5
"""Largest difference of logits between the model and its reloaded file, for logits up to 10 in
size; in proportion for larger ones, since float32 has seven digits."""

ENGINE_TOLERANCE = 1e-4
"""The same between the Keras model and the engine."""

ODD_POSITIONS, ODD_TOLERANCE = 0.1, 20
"""In a real model single positions may amplify rounding: for a fine-tuned SmolLM2 one of
32 was off by 7e-4, where its logits were up to 33 and the others off by at most 1.4e-4 (measured).
So the engine may be off at this fraction of the positions by so many times its tolerance."""


def save_model_folder(
    out: Path,
    plan: Plan,
    weights: Weights,
    history: list[Evaluation],
    sections: Callable[[], dict[str, Any]],
) -> None:
    """Writes every file of the model folder, checks the model, then puts all in place.

    Args:
        out: The model folder.
        plan: The architecture, the tokenizer and the prompt of the samples.
        weights: By name.
        history: The evaluations of the run.
        sections: Gives more sections of config.json, asked when the model is written.

    Raises:
        ModelFolderError: A file cannot be written, or the model failed its check. The old files
            are unchanged.
    """
    tokenizer = plan.corpus.tokenizer
    with replacing_model(out) as scratch:
        save_model(scratch / MODEL_NAME, plan.model, weights)
        write_tokenizer(scratch, tokenizer)
        write_history(scratch, history, plan.sample_prompt)
        write_loss_picture(scratch, history)
        description = describe_model(plan.model, tokenizer, plan.start_ids, **sections())
        write_json(scratch / CONFIG_NAME, description)


def save_model(file: Path, config: ModelConfig, weights: Mapping[str, Any]) -> None:
    """Saves a float32 Keras model as .h5, and checks the file before anyone relies on it.

    The file is reloaded; its logits and the engine's are compared with the model's. Of model,
    reloaded model and engine only one is in memory at a time.

    Args:
        file: Where to.
        config: The architecture.
        weights: By name, arrays or what is read as one.

    Raises:
        ModelFolderError: The logits differ.
        OSError: The file could not be written or read.
    """
    length = min(config.context_length, 32)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (1, length))
    logits = _logits(_model_of(config, weights), ids)
    gc.collect()  # Keras's models refer to themselves
    write_keras_file(file, config, lambda name: np.asarray(weights[name], dtype=np.float32))
    try:
        reloaded = _logits(keras.models.load_model(file, compile=False), ids)
        gc.collect()
        with open_weights(file, config) as datasets:
            engine = Engine(config, datasets, str(file))
        engine_logits = engine.all_logits(ids[0])
    except OSError as error:
        raise OSError(f"the file could not be read back: {str(error).splitlines()[0]}") from None
    differences = {
        "reloaded model": np.abs(logits - reloaded).max(axis=-1),  # of each position
        "engine": np.abs(logits - engine_logits).max(axis=-1),
    }
    scale = max(1.0, float(np.abs(logits).max()) / 10)
    usual = np.quantile(differences["engine"], 1 - ODD_POSITIONS, method="higher")
    fits = {
        "reloaded model": differences["reloaded model"].max() <= RELOAD_TOLERANCE * scale,
        "engine": usual <= ENGINE_TOLERANCE * scale
        and differences["engine"].max() <= ODD_TOLERANCE * ENGINE_TOLERANCE * scale,
    }
    for name, fit in fits.items():
        if not fit:
            raise ModelFolderError(
                f"{file}: self-check failed: the {name}'s logits differ by "
                f"{differences[name].max():.2g}"
            )


def _model_of(config: ModelConfig, weights: Mapping[str, Any]) -> keras.Model:
    model = build_gpt_model(config, dtype="float32")
    assign_weights(model, weights)
    return model


def _logits(model: keras.Model, ids: np.ndarray) -> np.ndarray:
    """Logits (T, V) of one sequence (1, T)."""
    return keras.ops.convert_to_numpy(model(ids, training=False))[0]
