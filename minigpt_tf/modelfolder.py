"""The model folder models/<name>/: what lies in it, how it is read and how it is replaced.

    model.h5         architecture and weights (Keras), float32, no optimizer
    config.json      format version, ModelConfig, how it was trained, metrics
    tokenizer.pkl    word and char vocabularies, plain data; or tokenizer.json, all others
    chat_template.jinja   how a conversation becomes text, where the model was trained for that
    classifier.safetensors   a head that gives texts labels, where the model was trained for that;
                     confusion.png   which labels it takes for which
    adapter.safetensors      what a fine-tuning with changes of low rank has learned
    model.int8.h5    the weights as int8, made from model.h5 by the engine when first asked for
    history.csv      one row for each evaluation        loss.png    the same as a picture
    samples.txt      text generated at each evaluation
    checkpoint/      what --resume needs

Every file is written under another name first and then renamed, so a reader never sees half a file
and a full disk leaves the old one in place.
"""

import contextlib
import dataclasses
import errno
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import (
    CHECKPOINT_NAME,
    CONFIG_NAME,
    FORMAT_VERSION,
    KERAS_SUFFIXES,
    MODEL_NAME,
    MODELS_DIRECTORY,
    RUN_NAME,
    ModelConfig,
    SamplingConfig,
)
from .errors import ConfigError, DataError, ModelFolderError
from .options import from_dict, to_dict
from .text.chat_template import ChatTemplate
from .text.tokenizers import TOKENIZER_NAMES, BaseTokenizer, load_tokenizer

QUANTIZED_NAME = "model.int8.h5"
HISTORY_NAME = "history.csv"
LOSS_NAME = "loss.png"
SAMPLES_NAME = "samples.txt"
CHAT_TEMPLATE_NAME = "chat_template.jinja"
ADAPTER_NAME = "adapter.safetensors"
HEAD_NAME = "classifier.safetensors"
CONFUSION_NAME = "confusion.png"
CLASSIFIER_SECTION = "classifier"
"""The section of config.json that a classifier has."""
SCRATCH_PREFIX = ".saving-"
LAST_REPLACED = {MODEL_NAME, CONFIG_NAME}


@dataclass(frozen=True)
class ModelFolder:
    """The contents of a model folder but for the weights, which are in `path / MODEL_NAME`."""

    path: Path
    model: ModelConfig
    tokenizer: BaseTokenizer
    start_ids: list[int]
    """Tokens from which an empty prompt starts."""
    description: dict[str, Any]
    """All of config.json."""
    generation: dict[str, Any]
    """Fields of SamplingConfig that the model's makers recommend."""
    chat_template: ChatTemplate | None
    """None where the model was not trained for conversations."""


def load_folder(folder: str | Path) -> ModelFolder:
    """Reads and checks a model folder. Raises ModelFolderError that names the file at fault."""
    path = Path(folder)
    description = read_description(path)
    where = str(path / CONFIG_NAME)
    try:
        model = from_dict(ModelConfig, description.get("model"), where)
        tokenizer = _load_tokenizer(path, description)
    except (ConfigError, DataError) as error:
        raise ModelFolderError(str(error)) from None
    if tokenizer.vocab_size > model.vocab_size:
        raise ModelFolderError(
            f"{path / tokenizer.file_name}: has {tokenizer.vocab_size} ids, but the model in "
            f"{where} knows {model.vocab_size}: they do not belong together"
        )
    start_ids = _ids(description, "start_ids", model, where)
    if not start_ids:
        raise ModelFolderError(f"{where}: start_ids=[]: expected token ids")
    if len(start_ids) > model.context_length:
        raise ModelFolderError(
            f"{where}: {len(start_ids)} start_ids do not fit into the context of "
            f"{model.context_length}"
        )
    if "end_ids" in description:
        tokenizer.end_ids = frozenset(_ids(description, "end_ids", model, where))
    if "prefix_ids" in description:
        tokenizer.prefix_ids = tuple(_ids(description, "prefix_ids", model, where))
    if len(tokenizer.prefix_ids) >= model.context_length:
        raise ModelFolderError(f"{where}: prefix_ids leave no room in the context")
    generation = _generation(description, where)
    if not (path / MODEL_NAME).is_file():
        raise ModelFolderError(f"{path}: {MODEL_NAME} is missing")
    template = _chat_template(path, description)
    return ModelFolder(path, model, tokenizer, start_ids, description, generation, template)


def _ids(description: dict[str, Any], name: str, model: ModelConfig, where: str) -> list[int]:
    """A list of token ids in config.json."""
    ids = description.get(name)
    if not isinstance(ids, list) or any(
        type(i) is not int or not 0 <= i < model.vocab_size for i in ids
    ):
        raise ModelFolderError(f"{where}: {name}={ids!r:.40}: expected token ids")
    return ids


def _generation(description: dict[str, Any], where: str) -> dict[str, Any]:
    """The recommended fields of SamplingConfig in config.json, checked."""
    generation = description.get("generation", {})
    known = {item.name for item in dataclasses.fields(SamplingConfig)}
    if not isinstance(generation, dict) or not known.issuperset(generation):
        raise ModelFolderError(
            f"{where}: generation={generation!r:.60}: expected sampling settings"
        )
    try:
        SamplingConfig(**generation)
    except ConfigError as error:
        raise ModelFolderError(f"{where}: generation: {error}") from None
    return generation


def _chat_template(path: Path, description: dict[str, Any]) -> ChatTemplate | None:
    file, tokens = path / CHAT_TEMPLATE_NAME, description.get("special_tokens", {})
    if not file.is_file():
        return None
    sound = isinstance(tokens, dict) and all(isinstance(text, str) for text in tokens.values())
    if not sound:
        raise ModelFolderError(
            f"{path / CONFIG_NAME}: special_tokens={tokens!r:.60}: expected texts by name"
        )
    try:
        return ChatTemplate(file.read_text(encoding="utf-8"), tokens)
    except (OSError, UnicodeError) as error:
        raise ModelFolderError(f"{file}: cannot be read: {error}") from None


def read_description(path: Path) -> dict[str, Any]:
    """config.json of a model folder as a dict, its format version checked."""
    if path.is_file():
        raise ModelFolderError(f"{path}: is a file, not a model folder{_advice_for(path)}")
    if not path.is_dir():
        raise ModelFolderError(f"{path}: no such model folder")
    file = path / CONFIG_NAME
    if not file.is_file():
        hint = " (training has not finished: go on with --resume)" * has_checkpoint(path)
        raise ModelFolderError(
            f"{path}: {CONFIG_NAME} is missing, so this is no model folder{hint}"
        )
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFolderError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{file}: is damaged: {error}") from None
    version = description.get("format_version") if isinstance(description, dict) else None
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
        words = f"minigpt import {shlex.quote(str(file))} --tokenizer tokenizer.pkl"
        return f": make one of it by {words}"
    return ""


def _load_tokenizer(path: Path, description: dict[str, Any]) -> BaseTokenizer:
    kind = description.get("tokenizer")
    name = TOKENIZER_NAMES.get(kind) if isinstance(kind, str) else None
    if name is None:
        known = ", ".join(TOKENIZER_NAMES)
        raise DataError(f"{path / CONFIG_NAME}: tokenizer={kind!r:.40}: expected one of {known}")
    if not (path / name).is_file():
        raise DataError(f"{path}: {name} is missing")
    return load_tokenizer(path / name, kind)


def newest_folder(models: str | Path = MODELS_DIRECTORY) -> Path:
    """The folder in `models` whose config.json is the newest. Raises ModelFolderError."""
    configs = Path(models).glob(f"*/{CONFIG_NAME}")
    newest = max(configs, key=lambda file: file.stat().st_mtime, default=None)
    if newest is None:
        raise ModelFolderError(
            f"no model in {Path(models)}/ yet: train one with python train.py --data FILE, or name "
            "one with --model"
        )
    return newest.parent


def has_checkpoint(path: Path) -> bool:
    """Whether training in this folder can go on."""
    return (path / CHECKPOINT_NAME / RUN_NAME).is_file()


def holds_model(path: Path) -> bool:
    """Whether the folder is a model folder, finished or not, sound or not."""
    return (path / CONFIG_NAME).is_file() or has_checkpoint(path)


def check_output(path: Path, *, overwrite: bool, resume: bool) -> None:
    """Raises ModelFolderError where a run may not write to the folder. Changes nothing."""
    if resume:
        if not has_checkpoint(path):
            raise ModelFolderError(
                f"{path}: there is no {CHECKPOINT_NAME}/ to resume from: start without --resume"
            )
    elif path.exists() and not path.is_dir():
        raise ModelFolderError(f"{path} is a file, not a folder: choose another --out")
    elif path.exists() and any(not f.name.startswith(SCRATCH_PREFIX) for f in path.iterdir()):
        if not holds_model(path):
            raise ModelFolderError(f"{path} exists and is no model folder: choose another --out")
        if not overwrite:
            goes_on = ", --resume goes on with it" if has_checkpoint(path) else ""
            raise ModelFolderError(f"{path} exists: --overwrite replaces it{goes_on}")


@contextmanager
def claim_output(path: Path, *, overwrite: bool, resume: bool) -> Iterator[None]:
    """Makes the folder for a run, and holds it until the run has ended, so that there is one only.

    Raises ModelFolderError where the folder is taken, is not writable or belongs to a run that is
    still going on.
    """
    check_output(path, overwrite=overwrite, resume=resume)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ModelFolderError(f"{path}: cannot be written to: {error.strerror}") from None
    with _locked(path):
        check_output(path, overwrite=overwrite, resume=resume)  # a run may have ended just now
        for folder in (path, path / CHECKPOINT_NAME):
            for left_over in folder.glob(f"{SCRATCH_PREFIX}*"):  # of a process that was killed
                shutil.rmtree(left_over, ignore_errors=True)
        yield


@contextmanager
def removed_if_empty(out: Path) -> Iterator[None]:
    """Takes a folder away that did not exist before and in which nothing was written."""
    existed = out.exists()
    try:
        yield
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                out.rmdir()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Locks the folder itself: there is no file to be left behind, or to be removed too early.

    The lock goes with the process, however that ends. Not guarded are systems without `fcntl`, and
    file systems that lock no folders.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelFolderError(
                f"{path}: another run is writing to it: wait for its end, or choose another --out"
            ) from None
        except OSError:  # some network file systems
            pass
        yield
    finally:
        os.close(folder)


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A scratch folder inside `folder`, whose files replace those of `folder` after the block.

    A folder in it replaces the whole folder of that name. Where the block raises, nothing in
    `folder` has changed. Raises ModelFolderError where the disk is full or not writable.
    """
    scratch = None
    try:
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=folder))
        yield scratch
        # The model and its description last: until then the old ones stand, and belong together.
        files = sorted(scratch.iterdir(), key=lambda file: (file.name in LAST_REPLACED, file.name))
        for file in files:
            _flush_to_disk(file)
            if (folder / file.name).is_dir() and not file.is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{file.name} is a folder there")
        for file in files:
            if file.is_dir() and (folder / file.name).exists():
                os.rename(folder / file.name, scratch / f"{file.name}.old")
            os.replace(file, folder / file.name)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelFolderError(
            f"{folder}: saving failed ({reason}); the model that was there is unchanged"
        ) from None
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def reserve_space(folder: Path, size: int) -> None:
    """Raises OSError where `size` bytes do not fit on the folder's disk.

    Asked before large files are written: on a full disk HDF5 crashes the interpreter, and zip files
    complain once more when they are collected.
    """
    if hasattr(os, "posix_fallocate"):  # sees quotas and limits too
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
    elif shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _flush_to_disk(file: Path) -> None:
    """Waits until a file, or every file of a folder, has left the system's memory."""
    if file.is_dir():
        for part in file.iterdir():
            _flush_to_disk(part)
        return
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())


def describe_model(
    model: ModelConfig, tokenizer: BaseTokenizer, start_ids: list[int], **sections: Any
) -> dict[str, Any]:
    """The content of config.json; `sections` are added as they are."""
    return {
        "format_version": FORMAT_VERSION,
        "model": to_dict(model),
        "tokenizer": tokenizer.kind,
        "start_ids": start_ids,
        "end_ids": sorted(tokenizer.end_ids),
        "prefix_ids": list(tokenizer.prefix_ids),
        **sections,
    }


def clear_leftovers(folder: Path, kept: Container[str]) -> None:
    """Removes files of a model that was overwritten, which the new one has not replaced."""
    optional = {QUANTIZED_NAME, CHAT_TEMPLATE_NAME, ADAPTER_NAME, HEAD_NAME, CONFUSION_NAME}
    for name in {*TOKENIZER_NAMES.values(), *optional}:
        if name not in kept:
            (folder / name).unlink(missing_ok=True)


def write_tokenizer(folder: Path, tokenizer: BaseTokenizer) -> None:
    """Writes tokenizer.pkl or tokenizer.json."""
    (folder / tokenizer.file_name).write_bytes(tokenizer.to_bytes())


def write_json(file: Path, description: dict[str, Any]) -> None:
    """Writes config.json, or another file of plain data."""
    file.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
