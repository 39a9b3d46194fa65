"""A model folder as a whole: the model's sizes, its tokenizer, its template, and its description.

`storage.model_folder` has the names of its files, `storage.manifest` what keeps them together.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..config import CONFIG_NAME, FORMAT_VERSION, MODEL_NAME, ModelConfig, SamplingConfig
from ..config.settings import from_dict, to_dict
from ..errors import ConfigError, DataError, ModelFolderError
from ..storage.manifest import FILES_SECTION, Files, check_file, commit, files_of
from ..storage.model_folder import (
    ADAPTER_NAME,
    CHAT_TEMPLATE_NAME,
    CONFUSION_NAME,
    ENGINE_NAMES,
    HEAD_NAME,
    read_description,
)
from ..storage.reading import why_unreadable
from ..storage.replacing import staging
from ..text.chat_template import ChatTemplate
from ..text.tokenizers import TOKENIZER_NAMES, BaseTokenizer, load_tokenizer
from .weights import open_weights

OPTIONAL_NAMES = frozenset(
    {
        *TOKENIZER_NAMES.values(),
        *ENGINE_NAMES,
        CHAT_TEMPLATE_NAME,
        ADAPTER_NAME,
        HEAD_NAME,
        CONFUSION_NAME,
    }
)
"""Files that some models have, and that no other model takes over."""

READINGS = 10
"""How often a folder is read anew because another process replaces its model meanwhile."""

Loaded = TypeVar("Loaded")

_Stamp = tuple[int, int, int]


class FolderReplacedError(ModelFolderError):
    """The model in a folder was replaced while it was read."""


@dataclass(frozen=True)
class ModelFolder:
    """The contents of a model folder, except the weights, which are in `path / MODEL_NAME`."""

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
    """None if the model was not trained for conversations."""
    files: Files | None = None
    """What the other files hold, by config.json; None in a folder of an earlier version."""
    stamp: _Stamp | None = None
    """Of config.json when it was read."""

    def check_current(self) -> None:
        """Checks that the folder still has the model that was read.

        A new model begins with its config.json. So a file that was opened before this check is of
        this model.

        Raises:
            FolderReplacedError: It has another one.
        """
        if self.stamp is None or _stamp_of(self.path) == self.stamp:
            return
        with_config = read_description(self.path)  # may have been edited, or put back as it was
        if self.files is None or with_config.get(FILES_SECTION) != self.files:
            raise FolderReplacedError(
                f"{self.path}: its model was replaced while it was read: try again"
            )

    @contextmanager
    def open_weights(self) -> Iterator[dict[str, Any]]:
        """A context in which the weights of this model can be read, whatever replaces it meanwhile.

        Yields:
            Weight name -> dataset, as `weights.open_weights`.

        Raises:
            ModelFolderError: They are missing, damaged, or of another model.
        """
        file = self.path / MODEL_NAME
        with open_weights(file, self.model) as weights:
            self.check_current()
            yield weights
        try:  # afterwards: what is damaged has been named more closely
            check_file(file, self.files)
        except ModelFolderError:
            self.check_current()  # what is there now may be of the next model
            raise


def load_whole(folder: str | Path, load: Callable[[ModelFolder], Loaded]) -> Loaded:
    """Loads something from a model folder, anew if its model is replaced meanwhile.

    Args:
        folder: The model folder.
        load: Makes it of the folder's contents.

    Returns:
        What `load` returned.

    Raises:
        ModelFolderError: As `load_folder` and `load`.
    """
    for _ in range(READINGS):
        contents = load_folder(folder)
        try:
            return load(contents)
        except ModelFolderError:
            try:
                contents.check_current()
            except FolderReplacedError as error:
                replaced = error
            else:
                raise
    raise replaced


def _stamp_of(path: Path) -> _Stamp | None:
    """What changes whenever config.json is replaced; None if it is not there."""
    try:
        state = os.stat(path / CONFIG_NAME)
    except (OSError, ValueError):  # a NUL in the name is a ValueError
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def load_folder(folder: str | Path) -> ModelFolder:
    """Reads and checks a model folder, except the weights.

    Args:
        folder: Such as "models/mine".

    Returns:
        Its configuration, tokenizer and description.

    Raises:
        ModelFolderError: A file is missing or damaged; it is named.

    Example:
        >>> import minigpt_tf as mg
        >>> tokenizer = mg.Tokenizer()
        >>> tokenizer.fit_on_texts(["who is hardy"])
        >>> model = mg.build_gpt_model(4, 8, embed_dim=8, num_heads=2, ff_dim=8, num_layers=1)
        >>> folder = mg.save_model_folder(model, tokenizer, "models/mine")
        >>> mg.load_folder(folder).model.context_length
        8
    """
    path = Path(folder)
    for left in reversed(range(READINGS)):
        stamp = _stamp_of(path)
        try:
            contents = _read_folder(path, stamp)
            contents.check_current()
        except ModelFolderError:  # if files of two models did not fit, it is read anew
            if not left or _stamp_of(path) == stamp:
                raise
        else:
            break
    return contents


def _read_folder(path: Path, stamp: _Stamp | None) -> ModelFolder:
    description = read_description(path)
    where = str(path / CONFIG_NAME)
    files = files_of(description, where)
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
    for name in (tokenizer.file_name, CHAT_TEMPLATE_NAME, ADAPTER_NAME, HEAD_NAME):
        check_file(path / name, files)
    return ModelFolder(
        path, model, tokenizer, start_ids, description, generation, template, files, stamp
    )


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
        raise ModelFolderError(why_unreadable(file, error, "is not UTF-8")) from None


def _load_tokenizer(path: Path, description: dict[str, Any]) -> BaseTokenizer:
    kind = description.get("tokenizer")
    name = TOKENIZER_NAMES.get(kind) if isinstance(kind, str) else None
    if name is None:
        known = ", ".join(TOKENIZER_NAMES)
        raise DataError(f"{path / CONFIG_NAME}: tokenizer={kind!r:.40}: expected one of {known}")
    if not (path / name).is_file():
        raise DataError(f"{path}: {name} is missing")
    return load_tokenizer(path / name, kind)


def describe_model(
    model: ModelConfig, tokenizer: BaseTokenizer, start_ids: list[int], **sections: Any
) -> dict[str, Any]:
    """The content of config.json.

    Args:
        model: The architecture.
        tokenizer: Its kind and special tokens.
        start_ids: Tokens from which an empty prompt starts.
        sections: More sections by name, such as "training".

    Returns:
        What JSON can write.
    """
    return {
        "format_version": FORMAT_VERSION,
        "model": to_dict(model),
        "tokenizer": tokenizer.kind,
        "start_ids": start_ids,
        "end_ids": sorted(tokenizer.end_ids),
        "prefix_ids": list(tokenizer.prefix_ids),
        **sections,
    }


@contextmanager
def replacing_model(folder: Path, obsolete: Iterable[str] = ()) -> Iterator[Path]:
    """A scratch folder whose files, with a config.json, become the model of a folder as one.

    Args:
        folder: The model folder.
        obsolete: Names that go with the old model, if the new one has none of that name, beside
            OPTIONAL_NAMES.

    Yields:
        The scratch folder.

    Raises:
        ModelFolderError: The disk is full or not writable; the old model is unchanged.
    """
    gone = {*OPTIONAL_NAMES, *obsolete}
    with staging(folder, functools.partial(commit, obsolete=gone)) as scratch:
        yield scratch


def write_tokenizer(folder: Path, tokenizer: BaseTokenizer) -> None:
    """Writes tokenizer.pkl or tokenizer.json.

    Args:
        folder: Where to.
        tokenizer: Its kind decides the name.
    """
    (folder / tokenizer.file_name).write_bytes(tokenizer.to_bytes())
