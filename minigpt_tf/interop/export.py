"""A model folder -> other tools' formats. Nothing is announced that was not read back."""

import filecmp
import fnmatch
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ..config import CONFIG_NAME, EXPORTS_DIRECTORY, MODEL_NAME, ExportConfig
from ..config.running import ExportDType, ExportFormat
from ..errors import ConfigError, DataError, ModelFolderError
from ..events import SILENT, Listener
from ..inference.folder import ModelFolder, load_folder
from ..storage.json_files import read_object
from ..storage.model_folder import CHAT_TEMPLATE_NAME, CLASSIFIER_SECTION, HEAD_NAME, claim_output
from ..storage.paths import real_path
from ..storage.replacing import removed_if_empty, replaced_folder, reserve_space, staging
from .portable.exports import MODEL_FILE, write_bundle, write_program

SUFFIXES = {
    "gguf": ".gguf",
    "keras": ".keras",
    "h5": ".h5",
    "tflite": ".tflite",
    "litert": ".litertlm",
    "bundle": ".pyz",
}
"""How the names of the files end; the other formats are folders."""

NAMED_BY_DTYPE = ("gguf", "tflite", "litert")
"""Formats whose files have the dtype in their names."""

REPLACED_PATTERNS = (
    *("model*.safetensors", "model.safetensors.index.json", "pytorch_model*.bin*"),
    *(CHAT_TEMPLATE_NAME, "chat_template.json", "added_tokens.json"),
    *("special_tokens_map.json", "vocab.json", "merges.txt", "tokenizer.model"),
)
"""Files of a Hugging Face folder that would be read beside those of the model that replaces it."""


@dataclass(frozen=True)
class Exported:
    """What an export has written."""

    path: Path
    """The folder or file."""
    files: dict[str, int]
    """Name -> size in bytes."""
    config: ExportConfig
    notice: str | None = None
    """What a person should know about it."""


def export_model(
    folder: str | Path,
    out: str | Path | None = None,
    format: ExportFormat = ExportConfig.format,
    dtype: ExportDType = ExportConfig.dtype,
    *,
    context_length: int | None = None,
    overwrite: bool = False,
    listener: Listener = SILENT,
) -> Exported:
    """Writes the model of a model folder in another tool's format.

    Args:
        folder: The model folder.
        out: Where to write: a folder for "hf", "onnx", "c" and "web", a file for the others
            (unset: in exports/).
        format: "hf" (transformers), "gguf" (llama.cpp), "keras", "h5", "onnx" (onnxruntime),
            "tflite" (LiteRT), "litert" (LiteRT-LM), "c" (a program in C), "web" (a page) or
            "bundle" (a file that Python runs).
        dtype: Of the weights, one of `config.EXPORT_DTYPES[format]`.
        context_length: Tokens that a file for LiteRT has room for (unset: the model's, at most
            1,024).
        overwrite: Whether to replace what an earlier export has written.
        listener: Receives the progress.

    Returns:
        What was written, with the size of each file. It was read back and compared.

    Raises:
        ConfigError: The format has no such dtype, or cannot express the model.
        DataError: The format cannot express the tokenizer.
        ModelFolderError: The folder is damaged, `out` is taken, or the disk is full; then nothing
            has changed.

    Example:
        >>> import minigpt_tf as mg
        >>> tokenizer = mg.Tokenizer()
        >>> tokenizer.fit_on_texts(["who is hardy"])
        >>> model = mg.build_gpt_model(4, 8, embed_dim=8, num_heads=2, ff_dim=8, num_layers=1)
        >>> folder = mg.save_model_folder(model, tokenizer, "models/mine")
        >>> exported = mg.export_model(folder, "mine.h5", format="h5")
        >>> list(exported.files)
        ['mine.h5']
    """
    config = ExportConfig(format, dtype, context_length)
    contents = load_folder(folder)
    path = default_output(contents.path, config) if out is None else Path(out)
    try:
        if format not in SUFFIXES:
            exported = _export_folder(contents, path, config, overwrite, listener)
        else:
            exported = _export_file(contents, path, config, overwrite)
    except (ConfigError, DataError) as error:
        raise type(error)(f"{contents.path}: {error}") from None
    if CLASSIFIER_SECTION not in contents.description:
        return exported
    left = f"the model is a classifier: its language model was exported, {HEAD_NAME} was not"
    return replace(exported, notice=". ".join(filter(None, (exported.notice, left))))


def default_output(folder: Path, config: ExportConfig) -> Path:
    """Names the output of an export: exports/NAME-hf, -onnx, -c or -web, exports/NAME-f32.gguf,
    .tflite or .litertlm, exports/NAME.keras, .h5 or .pyz.

    Args:
        folder: The model folder, whose name is NAME.
        config: The format, and for gguf, tflite and litert the dtype.

    Returns:
        A relative path.
    """
    name = real_path(folder).name
    if config.format not in SUFFIXES:
        return Path(EXPORTS_DIRECTORY) / f"{name}-{config.format}"
    name += f"-{config.dtype}" if config.format in NAMED_BY_DTYPE else ""
    return Path(EXPORTS_DIRECTORY) / (name + SUFFIXES[config.format])


def _export_folder(
    folder: ModelFolder, out: Path, config: ExportConfig, overwrite: bool, listener: Listener
) -> Exported:
    """The formats that are a folder."""
    _check_folder(out, overwrite)
    writer = FOLDER_WRITERS[config.format]
    with (
        removed_if_empty(out),
        claim_output(out, overwrite=overwrite, resume=False, file=writer.main_file),
        replaced_folder(out, writer.replaces) as scratch,
        _advice(),
    ):
        writer.write(folder, scratch, config, listener)
        files = {file.name: file.stat().st_size for file in sorted(scratch.iterdir())}
    return Exported(out, files, config)


def _is_replaced(name: str) -> bool:
    """Whether an old file of that name goes if the new model has none."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in REPLACED_PATTERNS)


def _check_folder(out: Path, overwrite: bool) -> None:
    """Raises ModelFolderError where a folder may not be written."""
    if not out.is_dir():
        return
    if (out / MODEL_NAME).exists() or _is_ours(out / CONFIG_NAME):
        raise ModelFolderError(f"{out} is a model folder of this program: choose another --out")
    if any(out.iterdir()) and not overwrite:
        raise ModelFolderError(f"{out} exists: --overwrite replaces the model in it")


def _is_ours(file: Path) -> bool:
    """Whether this is the config.json of a model folder, and not transformers'."""
    try:
        return "format_version" in read_object(file)
    except ModelFolderError:
        return False


def _export_file(folder: ModelFolder, out: Path, config: ExportConfig, overwrite: bool) -> Exported:
    """The formats that are one file."""
    _check_file(out, config, overwrite)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelFolderError(f"{out.parent}: cannot be written to: {error.strerror}") from None
    with staging(out.parent) as scratch:
        file = scratch / out.name
        try:
            notice = FILE_WRITERS[config.format](folder, file, config)
        except ModelFolderError as error:  # people know nothing of the scratch folder
            raise ModelFolderError(str(error).replace(str(file), str(out))) from None
        size = file.stat().st_size
    return Exported(out, {out.name: size}, config, notice)


def _check_file(out: Path, config: ExportConfig, overwrite: bool) -> None:
    """Raises ModelFolderError where the file may not be written."""
    suffix = SUFFIXES[config.format]
    if out.suffix != suffix:
        raise ModelFolderError(f"{out}: the name of such a file ends in {suffix}")
    if out.is_dir():
        raise ModelFolderError(f"{out} is a folder: name a file with --out")
    if out.name == MODEL_NAME and (out.parent / CONFIG_NAME).exists():
        raise ModelFolderError(f"{out} belongs to a model folder: choose another --out")
    if out.exists() and not overwrite:
        raise ModelFolderError(f"{out} exists: --overwrite replaces it")


def _write_gguf(folder: ModelFolder, file: Path, config: ExportConfig) -> str | None:
    """--format gguf"""
    from .gguf.write_gguf import export_gguf, notice_of
    from .gguf.write_vocabulary import notice_of_text

    with _advice():
        export_gguf(folder, file, config.dtype)
    notices = notice_of(folder.model, config.dtype), notice_of_text(folder.tokenizer)
    return ". ".join(filter(None, notices)) or None


def _write_keras(folder: ModelFolder, file: Path, config: ExportConfig) -> str | None:
    """--format keras"""
    from .keras_export import write_keras_archive

    write_keras_archive(folder, file)
    return None


def _write_litert(folder: ModelFolder, file: Path, config: ExportConfig) -> str | None:
    """--format tflite and litert"""
    from .litert.writing import notice_of, write_litertlm, write_tflite

    write = write_litertlm if config.format == "litert" else write_tflite
    write(folder, file, config.dtype, config.context_length)
    return notice_of(folder, config.context_length)


def _write_bundle(folder: ModelFolder, file: Path, config: ExportConfig) -> str | None:
    """--format bundle"""
    with _advice():
        write_bundle(folder, file, config.dtype)
    return None


def _copy_model(folder: ModelFolder, file: Path, config: ExportConfig) -> str | None:
    """--format h5: model.h5 under another name, once its weights were found to be those of
    config.json."""
    source = folder.path / MODEL_NAME
    reserve_space(file.parent, source.stat().st_size)
    with folder.open_weights():
        shutil.copyfile(source, file)
    if not filecmp.cmp(source, file, shallow=False):
        raise ModelFolderError(f"{file}: could not be read back as written")
    return None


class FolderWriter(NamedTuple):
    """What writes a format that is a folder."""

    write: Callable[[ModelFolder, Path, ExportConfig, Listener], None]
    main_file: str
    """What shows that a folder holds such an export."""
    replaces: Callable[[str], bool] = lambda name: False
    """Whether an old file of that name goes if the new export has none."""


def _write_hf(folder: ModelFolder, out: Path, config: ExportConfig, listener: Listener) -> None:
    """--format hf"""
    from .huggingface.write_folder import write_huggingface_folder

    write_huggingface_folder(folder, out, config.dtype, listener)


def _write_onnx(folder: ModelFolder, out: Path, config: ExportConfig, listener: Listener) -> None:
    """--format onnx"""
    try:
        from .onnx.write_onnx import write_onnx
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--format onnx needs {error.name}: pip install 'minigpt_tf[onnx]' (or, in a clone, "
            "pip install -e '.[onnx]')"
        ) from None
    write_onnx(folder, out)


def _write_program(
    folder: ModelFolder, out: Path, config: ExportConfig, listener: Listener
) -> None:
    """--format c and web"""
    write_program(folder, out, config)


FOLDER_WRITERS: dict[str, FolderWriter] = {
    "hf": FolderWriter(_write_hf, CONFIG_NAME, _is_replaced),
    "onnx": FolderWriter(_write_onnx, "model.onnx"),
    "c": FolderWriter(_write_program, MODEL_FILE),
    "web": FolderWriter(_write_program, MODEL_FILE),
}
"""Format -> what writes its folder."""

FILE_WRITERS: dict[str, Callable[[ModelFolder, Path, ExportConfig], str | None]] = {
    "gguf": _write_gguf,
    "keras": _write_keras,
    "h5": _copy_model,
    "tflite": _write_litert,
    "litert": _write_litert,
    "bundle": _write_bundle,
}
"""Format -> what writes its file, and returns what a person should know about it."""


@contextmanager
def _advice() -> Iterator[None]:
    """Adds to a refusal which formats there are for any model."""
    try:
        yield
    except (ConfigError, DataError) as error:
        raise type(error)(f"{error}; --format keras and --format h5 take any model") from None
