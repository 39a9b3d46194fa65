"""A model in another tool's format, and how it becomes a model folder: one weight at a time."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..config import CHECKPOINT_NAME, CONFIG_NAME, MODEL_NAME, ModelConfig, SamplingConfig
from ..errors import ConfigError, ModelFolderError
from ..events import SILENT, Listener
from ..inference.folder import describe_model, replacing_model, write_tokenizer
from ..inference.weights import Weights, check_finite, open_weights, weight_shapes
from ..storage.json_files import write_json
from ..storage.model_folder import (
    CHAT_TEMPLATE_NAME,
    HISTORY_NAME,
    LOSS_NAME,
    SAMPLES_NAME,
    claim_output,
)
from ..storage.replacing import removed_if_empty
from ..text.chat_template import ChatTemplate
from ..text.tokenizers import BaseTokenizer
from .license import is_license
from .tensors import Entry, Table, Tensor, check_tensors, entries, to_weights


@dataclass(frozen=True)
class Source:
    """Everything of a model that a model folder needs, before a weight is read."""

    where: str
    """Names the source in errors."""
    config: ModelConfig
    """Of the model folder."""
    expressed: ModelConfig
    """What the source's tensors are shaped by. It may have biases that `config` has not: those must
    be zeros (`families.expressed`)."""
    table: Table
    tensors: Mapping[str, Tensor]
    """All tensors of the source but those that are known to contain no weights, by name."""
    tokenizer: BaseTokenizer
    start_ids: list[int]
    """Tokens from which an empty prompt starts."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """The end of a weight's name -> what such weights are multiplied by: the source computes with
    a factor that we do not have."""
    chat_template: ChatTemplate | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    """Fields of SamplingConfig that the source recommends."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Plain data for config.json: where the model comes from, its license."""
    head: Literal["logits", "softmax"] = "logits"
    """What the source's model ends in, and model.h5 too. A softmax has no weights: the engine gives
    logits for both."""
    assumptions: tuple[str, ...] = ()
    """What the source does not say and is taken so: sentences for the user."""
    left_out: tuple[str, ...] = ()
    """What the source says and is not taken over: sentences for the user."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Further files of the folder by name, such as the text of the license."""


def recommended(
    stated: Mapping[str, tuple[str, Any]], left_out: list[str] | None = None
) -> dict[str, Any]:
    """Checks the sampling settings that a source recommends.

    Args:
        stated: By the source's own name: the field of SamplingConfig, and its value or None.
        left_out: Gets a sentence for each value that SamplingConfig does not take.

    Returns:
        Fields of SamplingConfig.
    """
    settings: dict[str, Any] = {}
    for key, (name, value) in stated.items():
        if value is None:
            continue
        try:
            SamplingConfig(**{name: value})
        except ConfigError as error:
            if left_out is not None:
                reason = str(error).partition(": ")[2]
                left_out.append(f"{key}={value!r:.40}: {reason}")
            continue
        settings[name] = value
    return settings


def check_source(source: Source) -> list[Entry]:
    """The tensors that hold the weights. Raises ModelFolderError where one is missing, extra or of
    another shape, the tokenizer has more ids than the model, or its prefix fills the context."""
    wanted = entries(source.table, source.expressed)
    check_tensors(source.tensors, wanted, source.expressed, source.where)
    prefix, context = len(source.tokenizer.prefix_ids), source.config.context_length
    if prefix >= context:
        raise ModelFolderError(
            f"{source.where}: a context of {context} has no room behind what the tokenizer puts "
            f"before every text (tokens: {prefix})"
        )
    if source.tokenizer.vocab_size > source.config.vocab_size:
        raise ModelFolderError(
            f"{source.where}: its tokenizer has ids up to {source.tokenizer.vocab_size - 1}, but "
            f"its token embedding has {source.config.vocab_size} rows: they do not belong together"
        )
    return wanted


def write_model_folder(
    source: Source,
    out: Path,
    *,
    overwrite: bool = False,
    listener: Listener = SILENT,
) -> None:
    """Writes a source as a model folder. On an error, nothing in `out` has changed.

    `check_source` runs first, and every weight is read back from model.h5 before the file is put in
    place.

    Args:
        source: The model.
        out: The folder to write.
        overwrite: Whether a model in it may be replaced.
        listener: Notified of progress, in values written.

    Raises:
        ModelFolderError: The source is damaged, or the folder is taken or not writable.
    """
    wanted = check_source(source)
    from ..model.keras_file import write_keras_file  # TensorFlow: only when all else is checked

    with (
        removed_if_empty(out),
        claim_output(out, overwrite=overwrite, resume=False),
        replacing_model(out, _of_training(out)) as scratch,
    ):
        reader = _Reader(source, wanted, listener)
        write_keras_file(scratch / MODEL_NAME, source.config, reader.read, source.head)
        reader.check_rest()
        reader.compare(scratch / MODEL_NAME)
        for name, content in source.files.items():
            (scratch / name).write_bytes(content)
        sections = {"generation": source.generation, "source": source.origin}
        if source.chat_template is not None:
            (scratch / CHAT_TEMPLATE_NAME).write_text(source.chat_template.source, "utf-8")
            sections["special_tokens"] = source.chat_template.special_tokens
        description = describe_model(source.config, source.tokenizer, source.start_ids, **sections)
        write_json(scratch / CONFIG_NAME, description)
        write_tokenizer(scratch, source.tokenizer)


def _of_training(out: Path) -> set[str]:
    """What describes a model that is overwritten: its training and its license."""
    licenses = (file.name for file in out.iterdir() if is_license(file.name) and file.is_file())
    return {HISTORY_NAME, LOSS_NAME, SAMPLES_NAME, CHECKPOINT_NAME, *licenses}


class _Reader:
    """Gives the weights of a source by name, and remembers a checksum of each."""

    def __init__(self, source: Source, wanted: list[Entry], listener: Listener) -> None:
        self.source, self.listener, self.done = source, listener, 0
        self.entry_of = {name: entry for entry in wanted for name in entry.weights}
        self.shapes = weight_shapes(source.config)
        self._expressed = weight_shapes(source.expressed)
        self._waiting: Weights = {}
        """Weights that were read along with another one of the same tensor."""
        self._sums: dict[str, int] = {}

    def read(self, name: str) -> np.ndarray:
        """A weight as float32, perhaps a view. Raises ModelFolderError where it is not finite."""
        if name not in self._waiting:
            self._waiting |= self._weights_of(self.entry_of[name])
        values = self._waiting.pop(name)
        self._sums[name] = _checksum(values)
        self.done += values.size
        self.listener.preparation("writing", self.done, self.source.config.parameter_count)
        return values

    def _weights_of(self, entry: Entry) -> Weights:
        tensor = self.source.tensors[entry.name].read()
        check_finite(tensor, entry.name, self.source.where)
        weights = to_weights(entry, tensor, self.source.expressed, self._expressed)
        for name in [name for name in weights if name not in self.shapes]:
            if weights.pop(name).any():
                raise ModelFolderError(
                    f"{self.source.where}: {entry.name} is not zero, but the configuration has no "
                    f"{name}"
                )
        for end, factor in self.source.factors.items():
            for name in [name for name in weights if f"/{name}".endswith(f"/{end}")]:
                weights[name] = weights[name] * np.float32(factor)
        return weights

    def check_rest(self) -> None:
        """Reads the tensors that hold none of the folder's weights: all must be zero."""
        for entry in {e.name: e for e in self.entry_of.values()}.values():
            if not any(name in self.shapes for name in entry.weights):
                self._weights_of(entry)

    def compare(self, file: Path) -> None:
        """Raises ModelFolderError where the file does not hold what was read."""
        with open_weights(file, self.source.config) as datasets:
            for name, dataset in datasets.items():
                if _checksum(dataset) != self._sums[name]:
                    raise ModelFolderError(f"{file}: {name} could not be read back as written")


def _checksum(values: Any) -> int:
    """A checksum of an array's values, or of a dataset's, in the order of their indices."""
    from ..model.keras_file import row_slices

    checksum = 0
    for rows in row_slices(values.shape):
        checksum = zlib.crc32(np.ascontiguousarray(values[rows], dtype=np.float32).data, checksum)
    return checksum
