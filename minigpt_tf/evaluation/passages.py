"""What a model is scored on: the splits of its training text, or a file; rebuilt and checked."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import CONFIG_NAME, DataConfig
from ..config.settings import from_dict
from ..errors import ConfigError, DataError, ModelFolderError
from ..events import SILENT, Listener
from ..files.documents import read_documents
from ..files.sources import full_name, is_url
from ..inference.folder import ModelFolder
from ..text.corpus import Corpus, build_corpus

SPLITS = ("train", "validation")
"""The splits of a training text, in the order of `Corpus.counts`."""


@dataclass(frozen=True)
class Passage:
    """A text to score, as a model's tokenizer has it."""

    name: str
    """"train", "validation", or the file's name."""
    text: str
    """Which text it is, or a part of: figures on another one do not compare."""
    ids: np.ndarray
    """(N,), mapped from a file."""
    unknown: int
    """How many words or characters of it the tokenizer does not know. Unknown words have a token
    of their own, unknown characters none."""


def stored_corpus(contents: ModelFolder, listener: Listener = SILENT) -> Corpus:
    """The text that a model was trained on, split as it was then, from the record of the run.

    Args:
        contents: The model folder.
        listener: Receives progress and notices.

    Returns:
        The text as the model's tokenizer has it.

    Raises:
        DataError: The folder has no such record, or the text is gone or no longer the same.
        ModelFolderError: The record is damaged.
    """
    record = contents.description.get("data")
    where = contents.path / CONFIG_NAME
    record = record if isinstance(record, dict) else {}
    sources = record.get("sources")
    if not isinstance(sources, list) or not all(isinstance(s, str) for s in sources) or not sources:
        raise DataError(f"{contents.path}: has no record of a training text: give --data FILE")
    fields = {name: record[name] for name in DataConfig.__dataclass_fields__ if name in record}
    try:
        data = from_dict(DataConfig, fields, str(where))
    except ConfigError as error:
        raise ModelFolderError(str(error)) from None
    gone = [source for source in sources if not is_url(source) and not Path(source).exists()]
    if gone:
        more = f" and {len(gone) - 1} more of its texts are" if len(gone) > 1 else " is"
        raise DataError(
            f"{contents.path}: was trained on {gone[0]}, which{more} not there (seen from "
            f"{Path.cwd()}): go where it is, or give --data FILE"
        )
    documents = read_documents(sources, data.encoding, listener)
    corpus = build_corpus(documents, contents.tokenizer, data, listener)
    if corpus.fingerprint != record.get("fingerprint"):
        raise DataError(
            f"{contents.path}: its training text {sources[0]} has changed since: restore it, or "
            "give --data FILE"
        )
    return corpus


def stored_passages(contents: ModelFolder, corpus: Corpus, split: str) -> list[Passage]:
    """Splits of a training text, to be scored.

    Args:
        contents: The model folder.
        corpus: Its text, from `stored_corpus`.
        split: "train", "validation" or "both".

    Returns:
        A passage for each split.

    Raises:
        DataError: The model was trained without a validation split.
    """
    wanted = SPLITS if split == "both" else (split,)
    if "validation" in wanted and not len(corpus.val_ids):
        raise DataError(
            f"{contents.path}: was trained without a validation split: give --split train, or "
            "--data FILE"
        )
    record = contents.description["data"]
    sources = sorted(map(full_name, record["sources"]))
    text = f"{' '.join(sources)}, {record['val_split']}"
    return [
        Passage(name, text, ids, contents.tokenizer.count_unknown(counts))
        for name, ids, counts in zip(
            SPLITS, (corpus.train_ids, corpus.val_ids), corpus.counts, strict=True
        )
        if name in wanted
    ]


def file_passage(
    contents: ModelFolder,
    files: list[str],
    encoding: str,
    listener: Listener = SILENT,
) -> Passage:
    """All of the text of some files, folders or URLs, to be scored.

    Args:
        contents: The model folder, whose tokenizer is used.
        files: Paths or http(s) URLs.
        encoding: Of the files.
        listener: Receives progress and notices.

    Returns:
        One passage.

    Raises:
        DataError: The files cannot be read, or contain no text.
    """
    documents = read_documents(files, encoding, listener)
    for path, note in documents.notes:
        listener.notice(f"{path}: {note}")
    data = DataConfig(tokenizer="bpe", encoding=encoding, val_split=0.0)
    corpus = build_corpus(documents, contents.tokenizer, data, listener)
    unknown = contents.tokenizer.count_unknown(corpus.counts[0])
    if contents.tokenizer.kind == "char":
        unknown = corpus.characters - len(corpus.train_ids)
    first = files[0] if is_url(files[0]) else Path(files[0]).name
    name = first + f" and {len(files) - 1} more" * (len(files) > 1)
    return Passage(name, " ".join(map(str, files)), corpus.train_ids, unknown)
