"""Any source of a model -> a model folder: the library's side of `minigpt import`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..config import MODEL_NAME, MODELS_DIRECTORY
from ..errors import ConfigError, ModelFolderError
from ..modelfolder import check_output
from .huggingface.hub import download, looks_like_id
from .huggingface.reading import holds_pickles, holds_safetensors, open_huggingface
from .openai_checkpoint import is_openai, open_openai
from .source import Source, check_source, write_model_folder
from .tensors import FirstRows

GGUF_SUFFIX = ".gguf"


def import_model(
    source: str | Path,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    context_length: int | None = None,
    revision: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Makes a model folder of another tool's model, and gives its path.

    `source`: a folder of safetensors, a .gguf file, OpenAI's checkpoint folder, or the id of a
    model on Hugging Face (of which `revision` names a branch, tag or commit). `out` is by default
    `default_output`. `progress` is called with how many values of how many are written. Raises
    MiniGPTError of some kind where that cannot be done; then nothing has changed.
    """
    out = default_output(source) if out is None else Path(out)
    check_apart(source, out)
    check_output(out, overwrite=overwrite, resume=False)  # before anything is downloaded
    opened = open_source(source, revision)
    if context_length is not None:
        opened = shortened(opened, context_length)
    write_model_folder(opened, out, overwrite=overwrite, progress=progress)
    return out


def open_source(source: str | Path, revision: str | None = None) -> Source:
    """Reads everything of a model but its weights. Raises MiniGPTError of some kind."""
    return open_path(fetch(source, revision), source)


def fetch(source: str | Path, revision: str | None = None) -> Path:
    """Where the source lies on this machine; what exists here wins over an id of that name.

    Raises ModelFolderError where it does not exist and cannot be downloaded.
    """
    path = Path(source)
    if path.exists():
        if revision is not None:
            raise ConfigError(f"{path} exists here: --revision is for ids on Hugging Face")
        return path
    if path.suffix == GGUF_SUFFIX or not looks_like_id(str(source)):
        raise ModelFolderError(f"{path}: no such file or folder")
    return download(str(source), revision)


def open_path(path: Path, source: str | Path) -> Source:
    """As `open_source`, where `fetch` gave the path."""
    if path != Path(source):  # downloaded: the folder is named by the commit
        opened = open_huggingface(path, str(source))
        return replace(opened, origin=opened.origin | {"revision": path.name})
    if path.is_file():
        if path.suffix != GGUF_SUFFIX:
            raise ModelFolderError(
                f"{path}: is neither a {GGUF_SUFFIX} file nor a folder: of safetensors or of a "
                "checkpoint give the folder they lie in"
            )
        from .gguf.reading import open_gguf

        return open_gguf(path)
    if is_openai(path) and not holds_safetensors(path):
        return open_openai(path)
    if holds_safetensors(path) or holds_pickles(path):
        return open_huggingface(path)
    if (path / MODEL_NAME).is_file():
        raise ModelFolderError(f"{path} is a model folder already: use it with --model")
    raise ModelFolderError(
        f"{path}: holds no model that is known here: expected config.json with model.safetensors, "
        "or OpenAI's hparams.json with model.ckpt, or a .gguf file by its name"
    )


def default_output(source: str | Path) -> Path:
    """models/NAME, with the last part of the source as its name."""
    path = Path(source)
    if path.exists():
        path = path.resolve()
    return Path(MODELS_DIRECTORY) / (path.stem if path.suffix == GGUF_SUFFIX else path.name)


def check_apart(source: str | Path, out: Path) -> None:
    """Raises ConfigError where the model folder would be written into its source."""
    if out.exists() and Path(source).exists() and out.samefile(source):
        raise ConfigError(f"{out} is the source itself: choose another --out")


def shortened(source: Source, context_length: int) -> Source:
    """The same model with a shorter context: a table of learned positions is cut.

    Raises ConfigError where the source's is shorter already, ModelFolderError where its tensors
    are not what its configuration says.
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
        config=replace(source.config, context_length=context_length),
        expressed=replace(source.expressed, context_length=context_length),
        tensors=tensors,
    )
