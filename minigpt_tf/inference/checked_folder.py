"""A model folder that is read and checked as a whole, and the messages for what is not one."""

import os
from pathlib import Path

from ..config import CONFIG_NAME, KERAS_SUFFIXES, MODEL_NAME
from ..errors import ModelFolderError
from ..machine import check_fits_memory
from ..storage.hdf5 import datasets, open_hdf5
from .folder import ModelFolder, load_folder
from .weights import check_finite

FOREIGN_ENDINGS = {
    ".gguf",
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
}
"""Endings of other tools' model files."""

FOREIGN_FILES = ("*.safetensors", "*.gguf", "pytorch_model*.bin", "hparams.json", "*.index.json")
"""Files in the folders of other tools' models."""


def load_checked_folder(path: str | os.PathLike) -> ModelFolder:
    """Reads a model folder, and all its weights once.

    Args:
        path: a model folder.

    Returns:
        What is in it.

    Raises:
        ConfigError: the weights are larger than this machine's memory.
        ModelFolderError: it is not a model folder; of another tool's model the message shows how to
            import it. Or weights are not finite, or quantized.
    """
    path = Path(path)
    _check_not_foreign(path)
    folder = load_folder(path)
    check_fits_memory(4 * folder.model.parameter_count, f"the weights of {path}")
    _check_weights(folder)
    return folder


def _check_not_foreign(path: Path) -> None:
    """Raises ModelFolderError for the models of other tools."""
    make = f"make a model folder of it first (minigpt import {path}), and name that"
    if path.is_file():
        if path.name in (MODEL_NAME, CONFIG_NAME):
            raise ModelFolderError(f"{path}: is a file of a model folder: name the folder")
        if path.suffix.lower() == ".gguf":
            raise ModelFolderError(f"{path}: is a GGUF file, not a model folder: {make}")
        if path.suffix.lower() in KERAS_SUFFIXES:
            make = make.replace(str(path), f"{path} --tokenizer tokenizer.pkl")
            raise ModelFolderError(f"{path}: is a Keras file, not a model folder: {make}")
        hint = " (minigpt import reads folders with safetensors, .gguf files and OpenAI's GPT-2)"
        foreign = path.suffix.lower() in FOREIGN_ENDINGS
        raise ModelFolderError(f"{path}: is a file, not a model folder{hint if foreign else ''}")
    if path.is_dir() and not (path / MODEL_NAME).is_file():
        found = next((f for pattern in FOREIGN_FILES for f in sorted(path.glob(pattern))), None)
        if found is not None:
            raise ModelFolderError(
                f"{path}: contains {found.name}, a model of another tool, and is not a model "
                f"folder: {make}"
            )


def _check_weights(folder: ModelFolder) -> None:
    """Reads all weights once, so that nothing is written before they have proved to be sound.
    Raises ModelFolderError."""
    file = folder.path / MODEL_NAME
    try:
        with folder.open_weights() as weights:
            for name, dataset in weights.items():
                check_finite(dataset[...], name, str(file))
    except ModelFolderError:
        if _is_quantized(file):
            raise ModelFolderError(
                f"{file}: contains the integers of a model that Keras quantized: fine-tuning needs "
                "the model before that (--method qlora quantizes it by itself)"
            ) from None
        raise


def _is_quantized(file: Path) -> bool:
    """Whether Keras has saved kernels with scales there."""
    try:
        with open_hdf5(file) as archive:
            return any(name.endswith("kernel_scale") for name, _ in datasets(archive))
    except Exception:  # h5py raises many kinds on a damaged file
        return False
