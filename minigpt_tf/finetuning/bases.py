"""What can be a base, and what to say of that which cannot."""

from pathlib import Path

from ..config import CONFIG_NAME, KERAS_SUFFIXES, MODEL_NAME
from ..errors import ModelFolderError
from ..inference.folder import ModelFolder, load_folder
from ..inference.weights import check_finite, open_weights
from ..machine import check_fits_memory
from ..storage.hdf5 import datasets, open_hdf5

FOREIGN_ENDINGS = {
    ".gguf",
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
}
"""Endings of models' files."""

FOREIGN_FILES = ("*.safetensors", "*.gguf", "pytorch_model*.bin", "hparams.json", "*.index.json")
"""What lies in the folders of other tools' models."""


def load_base(path: str | Path) -> ModelFolder:
    """Reads a base's folder. Raises ModelFolderError; of another tool's model it says how a model
    folder is made of it, and of weights that are not finite their name."""
    path = Path(path)
    _check_not_foreign(path)
    folder = load_folder(path)
    check_fits_memory(4 * folder.model.parameter_count, f"the weights of {path}")
    _check_weights(folder)
    return folder


def check_apart(base: str | Path, out: str | Path) -> None:
    """Raises ModelFolderError where a run would write into its base, which --resume needs, and the
    adapter too."""
    source, target = Path(base).resolve(), Path(out).resolve()
    if target == source:
        raise ModelFolderError(
            f"{out}: is the base itself, which is needed further on: choose another --out"
        )
    if source in target.parents:
        raise ModelFolderError(f"{out}: lies in the base {base}: choose another --out")


def _check_not_foreign(path: Path) -> None:
    """Raises ModelFolderError for the models of other tools."""
    make = f"make a model folder of it first (minigpt import {path}), and name that"
    if path.is_file():
        if path.name in (MODEL_NAME, CONFIG_NAME):
            raise ModelFolderError(f"{path}: is a file of a model folder: name the folder")
        if path.suffix.lower() == ".gguf":
            raise ModelFolderError(f"{path}: is llama.cpp's kind of model, no model folder: {make}")
        if path.suffix.lower() in KERAS_SUFFIXES:
            make = make.replace(str(path), f"{path} --tokenizer tokenizer.pkl")
            raise ModelFolderError(f"{path}: is a Keras file, not a model folder: {make}")
        hint = " (minigpt import reads folders with safetensors, .gguf files and OpenAI's GPT-2)"
        foreign = path.suffix.lower() in FOREIGN_ENDINGS
        raise ModelFolderError(f"{path}: is a file, no model folder{hint * foreign}")
    if path.is_dir() and not (path / MODEL_NAME).is_file():
        found = next((f for pattern in FOREIGN_FILES for f in sorted(path.glob(pattern))), None)
        if found is not None:
            raise ModelFolderError(
                f"{path}: holds {found.name}, a model of another tool, and no model folder: {make}"
            )


def _check_weights(folder: ModelFolder) -> None:
    """Reads all weights once, so that nothing is written before they have proved to be sound."""
    file = folder.path / MODEL_NAME
    try:
        with open_weights(file, folder.model) as weights:
            for name, dataset in weights.items():
                check_finite(dataset[...], name, str(file))
    except ModelFolderError:
        if _is_quantised(file):
            raise ModelFolderError(
                f"{file}: holds the whole numbers of a model that Keras quantised: fine-tuning "
                "needs the model before that (--method qlora quantises it by itself)"
            ) from None
        raise


def _is_quantised(file: Path) -> bool:
    """Whether Keras has saved kernels with scales there."""
    try:
        with open_hdf5(file) as archive:
            return any(name.endswith("kernel_scale") for name, _ in datasets(archive))
    except Exception:  # h5py raises many kinds on a damaged file
        return False
