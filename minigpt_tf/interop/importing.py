"""Any source of a model -> a model folder: the library's side of `minigpt import`."""

from dataclasses import replace
from pathlib import Path

from ..config import KERAS_SUFFIXES, MODEL_NAME, MODELS_DIRECTORY, ModelConfig
from ..errors import ConfigError, ModelFolderError
from ..events import SILENT, Listener
from ..storage.model_folder import check_output
from ..storage.paths import real_path
from .huggingface.hub import download, looks_like_id
from .huggingface.read_folder import holds_pickles, holds_safetensors, open_huggingface
from .keras_files.read_keras import open_keras
from .license import with_notice
from .openai_checkpoint import is_openai, open_openai
from .source import Source, check_source, write_model_folder
from .tensors import FirstRows

GGUF_SUFFIX = ".gguf"

FILE_SUFFIXES = (GGUF_SUFFIX, *KERAS_SUFFIXES)
"""Of models that are one file."""


def import_model(
    source: str | Path,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    context_length: int | None = None,
    revision: str | None = None,
    tokenizer: str | Path | None = None,
    listener: Listener = SILENT,
) -> Path:
    """Makes a model folder of another tool's model.

    Args:
        source: A folder of safetensors, a .gguf file, OpenAI's checkpoint folder, a Keras model
            file (.h5 or .keras), or the id of a model on Hugging Face.
        out: The folder (unset: `default_output`).
        overwrite: Whether to replace a model folder.
        context_length: A shorter context; for a Keras file that does not say, its context.
        revision: Branch, tag or commit on Hugging Face.
        tokenizer: tokenizer.pkl or tokenizer.json of a Keras model file, which has none.
        listener: Receives the progress.

    Returns:
        The folder's path.

    Raises:
        ModelFolderError: The source does not exist, is damaged or is of an unsupported
            architecture; then nothing has changed.
        DataError: Its tokenizer cannot be read.
        ConfigError: Options contradict each other.

    Example:
        >>> import minigpt_tf as mg
        >>> tokenizer = mg.Tokenizer()
        >>> tokenizer.fit_on_texts(["who is hardy"])
        >>> model = mg.build_gpt_model(4, 8, embed_dim=8, num_heads=2, ff_dim=8, num_layers=1)
        >>> folder = mg.save_model_folder(model, tokenizer, "models/mine")
        >>> exported = mg.export_model(folder, "mine.h5", format="h5")
        >>> mg.import_model(exported.path, "models/again", tokenizer=folder / "tokenizer.pkl").name
        'again'
    """
    out = default_output(source) if out is None else Path(out)
    check_apart(source, out)
    check_output(out, overwrite=overwrite, resume=False)  # before anything is downloaded
    opened = open_path(fetch(source, revision), source, tokenizer, context_length)
    if context_length is not None:
        opened = shortened(opened, context_length)
    write_model_folder(opened, out, overwrite=overwrite, listener=listener)
    return out


def fetch(source: str | Path, revision: str | None = None) -> Path:
    """Finds a source on this machine, or downloads it. An existing path wins over an id.

    Args:
        source: A path, or an id on Hugging Face.
        revision: A branch, a tag or a commit on Hugging Face (unset: the main branch).

    Returns:
        The path of the file or folder.

    Raises:
        ConfigError: A revision is given for a path.
        ModelFolderError: The source does not exist and cannot be downloaded.
    """
    path = Path(source)
    if path.exists():
        if revision is not None:
            raise ConfigError(f"{path} exists here: --revision is for ids on Hugging Face")
        return path
    if path.suffix in FILE_SUFFIXES or not looks_like_id(str(source)):
        raise ModelFolderError(f"{path}: no such file or folder")
    return download(str(source), revision)


def open_path(
    path: Path,
    source: str | Path,
    tokenizer: str | Path | None = None,
    context_length: int | None = None,
) -> Source:
    """Reads everything of a model but its weights.

    Args:
        path: The path that `fetch` returned.
        source: What `fetch` was given.
        tokenizer: tokenizer.pkl or tokenizer.json, for Keras model files.
        context_length: The longest sequence in tokens, for Keras model files that do not say.

    Returns:
        The source of a model folder; its tensors are read later.

    Raises:
        ConfigError: A Keras file needs a tokenizer, or another source is given one.
        ModelFolderError: The model is missing, unsupported or damaged.
        DataError: The tokenizer cannot be read.
    """
    opened = _opened(path, source, tokenizer, context_length)
    return replace(opened, files=with_notice(opened.files, opened.origin.get("license", "")))


def _opened(
    path: Path, source: str | Path, tokenizer: str | Path | None, context_length: int | None
) -> Source:
    """The source, by what lies there."""
    if path.is_file() and path.suffix.lower() in KERAS_SUFFIXES:
        return open_keras(path, tokenizer, context_length)
    if tokenizer is not None:
        raise ConfigError(f"{path} brings its tokenizer along: --tokenizer is for Keras files")
    if path != Path(source):  # downloaded: the folder is named by the commit
        opened = open_huggingface(path, str(source))
        return replace(opened, origin=opened.origin | {"revision": path.name})
    if path.is_file():
        if path.suffix != GGUF_SUFFIX:
            raise ModelFolderError(
                f"{path}: is neither a {GGUF_SUFFIX}, .h5 or .keras file nor a folder: of "
                "safetensors or of a checkpoint give the folder they lie in"
            )
        from .gguf.read_gguf import open_gguf

        return open_gguf(path)
    if is_openai(path) and not holds_safetensors(path):
        return open_openai(path)
    if holds_safetensors(path) or holds_pickles(path):
        return open_huggingface(path)
    if (path / MODEL_NAME).is_file():
        raise ModelFolderError(f"{path} is a model folder already: use it with --model")
    raise ModelFolderError(
        f"{path}: contains no supported model: expected config.json with model.safetensors, "
        "or OpenAI's hparams.json with model.ckpt, or a .gguf, .h5 or .keras file by its name"
    )


def default_output(source: str | Path) -> Path:
    """models/NAME, with the last part of the source as its name."""
    path = Path(source)
    if path.exists():
        path = real_path(path)
    return Path(MODELS_DIRECTORY) / (path.stem if path.suffix in FILE_SUFFIXES else path.name)


def check_apart(source: str | Path, out: Path) -> None:
    """Checks that a source is not overwritten by its import.

    Args:
        source: What is imported.
        out: The model folder to write.

    Raises:
        ConfigError: They are the same folder.
    """
    if out.exists() and Path(source).exists() and out.samefile(source):
        raise ConfigError(f"{out} is the source itself: choose another --out")


def _within(config: ModelConfig, context_length: int) -> ModelConfig:
    """The configuration with a shorter context, which no window exceeds."""
    window = None if config.window is None else min(config.window, context_length)
    return replace(config, context_length=context_length, window=window)


def shortened(source: Source, context_length: int) -> Source:
    """Shortens the context of a model. A table of learned positions is truncated.

    Args:
        source: The model.
        context_length: The new context, in tokens.

    Returns:
        The same model with the shorter context.

    Raises:
        ConfigError: The source's context is shorter already.
        ModelFolderError: The source's tensors are not those of its configuration.
    """
    check_source(source)
    longest = source.config.context_length
    if context_length > longest:
        raise ConfigError(
            f"context_length={context_length}: {source.where} has only {longest} positions"
        )
    tensors = dict(source.tensors)
    for entry in source.table.before:
        if entry.weights[0].startswith("position_encoding/"):
            tensors[entry.name] = FirstRows(tensors[entry.name], context_length)
    return replace(
        source,
        config=_within(source.config, context_length),
        expressed=_within(source.expressed, context_length),
        tensors=tensors,
    )
