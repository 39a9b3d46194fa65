"""The model folder models/<name>/: what lies in it, and who may write to it.

    model.h5         architecture and weights (Keras), float32, no optimizer
    config.json      format version, ModelConfig, how it was trained, metrics
    tokenizer.pkl    word and char vocabularies, plain data; or tokenizer.json, all others
    chat_template.jinja   how a conversation becomes text, where the model was trained for that
    classifier.safetensors   a head that gives texts labels, where the model was trained for that;
                     confusion.png   which labels it takes for which
    adapter.safetensors      what a fine-tuning with LoRA updates has learned
    model.int8.h5    the weights as int8, made from model.h5 by the engine when first asked for
    model.int4.h5    the same as int4, chosen on text that the model writes
    model.exact.h5   the weights in as few bits as hold them exactly, if float32 is more than that
    history.csv      one row for each evaluation        loss.png    the same as a picture
    samples.txt      text generated at each evaluation
    checkpoint/      what --resume needs

`manifest` changes the files of a model as one; `inference.folder` reads them as a whole.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..config import (
    CHECKPOINT_NAME,
    CONFIG_NAME,
    FORMAT_VERSION,
    KERAS_SUFFIXES,
    MODELS_DIRECTORY,
    RUN_NAME,
)
from ..errors import ModelFolderError
from .json_files import read_object
from .manifest import settle
from .paths import real_path
from .replacing import locked
from .scratch import SCRATCH_PREFIX, sweep

QUANTIZED_NAME = "model.int8.h5"
INT4_NAME = "model.int4.h5"
EXACT_NAME = "model.exact.h5"
ENGINE_NAMES = frozenset({QUANTIZED_NAME, INT4_NAME, EXACT_NAME})
"""What the engine makes of one model.h5: no other model takes it over."""
HISTORY_NAME = "history.csv"
LOSS_NAME = "loss.png"
SAMPLES_NAME = "samples.txt"
CHAT_TEMPLATE_NAME = "chat_template.jinja"
ADAPTER_NAME = "adapter.safetensors"
HEAD_NAME = "classifier.safetensors"
CONFUSION_NAME = "confusion.png"
CLASSIFIER_SECTION = "classifier"
"""The section of config.json that a classifier has."""
PLAN_SECTION = "plan"
"""The section of config.json on what a run was predicted to take, and what it took."""


def read_description(path: Path) -> dict[str, Any]:
    """config.json of a model folder as a dict, its format version checked."""
    if path.is_file():
        raise ModelFolderError(f"{path}: is a file, not a model folder{_advice_for(path)}")
    if not path.is_dir():
        raise ModelFolderError(f"{path}: no such model folder")
    file = path / CONFIG_NAME
    if not file.is_file():
        hint = " (training has not finished: continue with --resume)" * has_checkpoint(path)
        raise ModelFolderError(
            f"{path}: {CONFIG_NAME} is missing, so this is not a model folder{hint}"
        )
    description = read_object(file)
    settle(path)  # now, so that none of what is opened later is of the model before this one
    version = description.get("format_version")
    if type(version) is not int or version < 1:
        raise ModelFolderError(f"{file}: has no format_version: it is not a model's {CONFIG_NAME}")
    if version > FORMAT_VERSION:
        raise ModelFolderError(
            f"{file}: format version {version} is newer than this program's {FORMAT_VERSION}: "
            "update minigpt_tf"
        )
    return description


def _advice_for(file: Path) -> str:
    """How a model folder is made of a file that was given in its place."""
    if file.suffix.lower() in KERAS_SUFFIXES:
        import shlex

        words = f"minigpt import {shlex.quote(str(file))} --tokenizer tokenizer.pkl"
        return f": make one of it by {words}"
    return ""


def newest_folder(models: str | Path = MODELS_DIRECTORY) -> Path:
    """The model folder that was written last.

    Args:
        models: The folder of model folders.

    Returns:
        The path of the one whose config.json is the newest.

    Raises:
        ModelFolderError: There is none.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.newest_folder()
        Traceback (most recent call last):
        minigpt_tf.errors.ModelFolderError: no model in models/ yet: ...
    """
    configs = Path(models).glob(f"*/{CONFIG_NAME}")
    newest = max(configs, key=lambda file: file.stat().st_mtime, default=None)
    if newest is None:
        raise ModelFolderError(
            f"no model in {Path(models)}/ yet: train one with minigpt train --data FILE, or name "
            "one with --model"
        )
    return newest.parent


def has_checkpoint(path: Path) -> bool:
    """Whether training in this folder can be resumed."""
    return (path / CHECKPOINT_NAME / RUN_NAME).is_file()


def holds_model(path: Path) -> bool:
    """Whether the folder is a model folder, finished or not, sound or not."""
    return (path / CONFIG_NAME).is_file() or has_checkpoint(path)


def check_output(path: Path, *, overwrite: bool, resume: bool, file: str = CONFIG_NAME) -> None:
    """Checks that a run may write to a folder. Changes nothing.

    Args:
        path: The folder; it need not exist.
        overwrite: Whether a model in it may be replaced.
        resume: Whether the run continues from the checkpoint in it.
        file: What shows that a folder holds a model.

    Raises:
        ModelFolderError: The folder is taken, or there is no checkpoint to resume from.
    """
    if resume:
        if not has_checkpoint(path):
            raise ModelFolderError(
                f"{path}: there is no {CHECKPOINT_NAME}/ to resume from: start without --resume"
            )
    elif path.exists() and not path.is_dir():
        raise ModelFolderError(f"{path} is a file, not a folder: choose another --out")
    elif path.exists() and any(not f.name.startswith(SCRATCH_PREFIX) for f in path.iterdir()):
        if not (path / file).exists() and not holds_model(path):
            raise ModelFolderError(f"{path} exists and is not a model folder: choose another --out")
        if not overwrite:
            resumes = ", --resume continues it" if has_checkpoint(path) else ""
            raise ModelFolderError(f"{path} exists: --overwrite replaces it{resumes}")


@contextmanager
def claim_output(
    path: Path, *, overwrite: bool, resume: bool, file: str = CONFIG_NAME
) -> Iterator[None]:
    """Creates and locks the folder of a run, so that no other run writes to it at the same time.

    Args:
        path: The folder; it need not exist.
        overwrite: Whether a model in it may be replaced.
        resume: Whether the run continues from the checkpoint in it.
        file: What shows that a folder holds a model.

    Yields:
        Nothing; the folder is locked until the context ends.

    Raises:
        ModelFolderError: The folder is taken, not writable or locked by another run.
    """
    import tempfile  # here and below: a start that only reads a model does without

    check_output(path, overwrite=overwrite, resume=resume, file=file)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ModelFolderError(f"{path}: cannot be written to: {error.strerror}") from None
    with locked(path):
        # once more: a run may have ended just now
        check_output(path, overwrite=overwrite, resume=resume, file=file)
        settle(path)
        sweep(path / CHECKPOINT_NAME)
        yield


def check_apart(base: str | os.PathLike, out: str | os.PathLike) -> None:
    """Checks that a run does not write into its base, which --resume and the adapter need.

    Args:
        base: the base's folder.
        out: the folder to write.

    Raises:
        ModelFolderError: they are the same, or one lies in the other.
    """
    source, target = real_path(base), real_path(out)
    if target == source:
        raise ModelFolderError(
            f"{out}: is the base itself, which stays as it is: choose another --out"
        )
    if source in target.parents:
        raise ModelFolderError(f"{out}: lies in the base {base}: choose another --out")


@contextmanager
def clean_after_failure(out: Path) -> Iterator[None]:
    """Removes what was made for a run that ended before it had saved anything.

    That is the folder, with those that it lies in; or the checkpoint alone, if the folder was there
    before and empty.

    Args:
        out: the folder to write.
    """
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    empty = out.is_dir() and not any(out.iterdir())
    try:
        yield
    except BaseException:
        left = [file.name for file in out.rglob("*") if file.is_file()] if out.is_dir() else []
        if (made or empty) and set(left) <= {RUN_NAME}:
            import shutil

            shutil.rmtree(out if made else out / CHECKPOINT_NAME, ignore_errors=True)
            with suppress(OSError):  # they may hold something else by now
                for folder in made[1:]:
                    folder.rmdir()
        raise
