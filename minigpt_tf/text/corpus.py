"""Documents and a tokenizer -> the training and validation ids of a run, with a report on them."""

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..config import DataConfig, ModelConfig
from ..errors import DataError
from ..events import SILENT, Listener
from ..files.documents import Documents
from ..files.notes import counted
from ..storage.cache import Facts, open_entry
from .chunks import rechunk, rechunk_splits, split_chunks
from .idfiles import ID_NAMES, map_ids, write_ids
from .tokenizers import (
    CUT_BEFORE,
    JSON_NAME,
    TOKENIZER_NAMES,
    BaseTokenizer,
    load_tokenizer,
    train_tokenizer,
)
from .windows import count_covered, count_windows

SMALLEST_CONTEXT = 4
"""A context is not shrunk below this many tokens."""

LEARNED_AT_ONCE = 1 << 16
ENCODED_AT_ONCE = 1 << 18
"""Characters in a piece. The `tokenizers` library holds 256 pieces when it learns."""

CACHE_VERSION = 1
"""Of what this module keeps in the cache: entries of another version are not looked at."""

COUNTS_NAME = "counts.npy"
OPENING_LENGTH = 80

MOST_NOTES = 100
"""Of a folder of more files with notes, the others are counted."""

LEARNING = "learning the vocabulary"


@dataclass(frozen=True)
class Corpus:
    """The ids of one run: `train_ids` and `val_ids`, shape (N,), of the smallest unsigned type that
    holds the vocabulary. They are mapped from a file, and take no memory of their own."""

    tokenizer: BaseTokenizer
    train_ids: np.ndarray
    val_ids: np.ndarray
    counts: np.ndarray
    """Tokens by part and id: int64 (2, vocab_size), first for training."""
    characters: int
    opening: str
    """How the training text begins: at least a few words of it."""
    fingerprint: str
    """SHA-256 of the ids of both splits: equal for equal text, tokenizer and split."""
    documents: int
    """How many were read."""
    skipped: list[tuple[Path, str]]
    """(path, reason) for every file that was passed over."""
    notes: list[tuple[Path | str, str]] = field(default_factory=list)
    """(path, note) for what was left out of files, or taken for something else."""
    twins: str = ""
    """Letters that are written in two ways."""


def learn_tokenizer(
    documents: Documents, kind: str, vocab_size: int, listener: Listener = SILENT
) -> BaseTokenizer:
    """A tokenizer of the kind for the documents, as `train_tokenizer` gives it; from the cache
    where it was learned before.

    Args:
        documents: The texts. They are read in chunks; the vocabulary is that of all of them.
        kind: word, char, bpe or gpt2.
        vocab_size: Bound on the number of tokens.
        listener: Gets how far it is.

    Returns:
        The tokenizer.

    Raises:
        DataError: A text has changed since it was read, or no tokenizer can be made of it.
    """
    if kind == "gpt2":  # nothing is learned
        return train_tokenizer(kind, [], vocab_size)
    with open_entry(_key(documents, kind, what="tokenizer", vocab_size=vocab_size)) as entry:
        if entry.problem:
            listener.notice(entry.problem)
        if entry.facts is None:
            tokenizer = train_tokenizer(kind, _chunks_to_learn(documents, listener), vocab_size)
            (entry.folder / tokenizer.file_name).write_bytes(tokenizer.to_bytes())
            listener.preparation(LEARNING, 1, 1)
            entry.finish({})
        return load_tokenizer(entry.folder / TOKENIZER_NAMES[kind], kind)


def _chunks_to_learn(documents: Documents, listener: Listener) -> Iterator[str]:
    """The texts, cut where no token can lie across."""
    done, total = 0, sum(document.characters for document in documents.documents)
    for document in documents.documents:
        for chunk in rechunk(document.chunks(), LEARNED_AT_ONCE, CUT_BEFORE):
            done += len(chunk)
            listener.preparation("collecting words", done, total)
            yield chunk
    listener.preparation(LEARNING, 0, 0)


def build_corpus(
    documents: Documents,
    tokenizer: BaseTokenizer,
    data: DataConfig,
    listener: Listener = SILENT,
) -> Corpus:
    """Joins the documents, splits off the validation set and encodes both, on all cores.

    The ids are kept in the cache: the same text, tokenizer and split are not encoded again.

    Args:
        documents: The texts.
        tokenizer: Encodes them.
        data: Its `val_split` is the fraction that is split off.
        listener: Gets how far it is.

    Returns:
        The corpus.

    Raises:
        DataError: A text has changed since it was read, or the disk is full.
    """
    separator = tokenizer.document_separator
    vocabulary = hashlib.sha256(tokenizer.to_bytes()).hexdigest()
    settings = {"vocabulary": vocabulary, "val_split": data.val_split, "separator": separator}
    texts = [document.characters for document in documents.documents]
    characters = sum(texts) + len(separator) * (len(texts) - 1)
    with open_entry(_key(documents, tokenizer.kind, what="ids", **settings)) as entry:
        if entry.problem:
            listener.notice(entry.problem)
        facts = entry.facts
        if facts is None:
            facts = entry.finish(
                _encode(entry.folder, documents, tokenizer, data.val_split, characters, listener)
            )
        train_ids, val_ids = (map_ids(entry.folder / name, facts) for name in ID_NAMES)
        return Corpus(
            tokenizer=tokenizer,
            train_ids=train_ids,
            val_ids=val_ids,
            counts=np.load(entry.folder / COUNTS_NAME),
            characters=characters,
            opening=facts["opening"],
            fingerprint=facts["fingerprint"],
            documents=len(documents.documents),
            skipped=documents.skipped,
            notes=documents.notes,
            twins=documents.twins,
        )


def _encode(
    folder: Path,
    documents: Documents,
    tokenizer: BaseTokenizer,
    val_split: float,
    characters: int,
    listener: Listener,
) -> Facts:
    """Writes the ids of both sets and their counts into the folder."""
    chunks = split_chunks(
        _joined(documents, tokenizer.document_separator),
        characters,
        val_split,
        whole_words=tokenizer.kind == "word",
    )
    chunks = rechunk_splits(chunks, ENCODED_AT_ONCE, tokenizer.cut_before)
    opening: list[str] = []
    reported = _reporting(chunks, opening, characters, listener)
    facts, counts = write_ids(folder, reported, tokenizer, characters)
    np.save(folder / COUNTS_NAME, counts)
    return {**facts, "opening": "".join(opening)[:OPENING_LENGTH]}


def _joined(documents: Documents, separator: str) -> Iterator[str]:
    """All texts with the separator between two, in chunks."""
    for number, document in enumerate(documents.documents):
        if number:
            yield separator
        yield from document.chunks()


def _reporting(
    chunks: Iterator[tuple[int, str]], opening: list[str], characters: int, listener: Listener
) -> Iterator[tuple[int, str]]:
    """Passes the chunks on, keeps how the training text begins, and reports how far it is."""
    done, missing = 0, OPENING_LENGTH
    for split, chunk in chunks:
        if split == 0 and missing > 0:
            opening.append(chunk[:missing])
            missing -= len(opening[-1])
        yield split, chunk
        done += len(chunk)
        listener.preparation("encoding", done, characters)


def _key(documents: Documents, kind: str, **settings: Any) -> Facts:
    """What decides a vocabulary, or the ids: the texts, the settings, and the rules of Unicode."""
    versions = [CACHE_VERSION, unicodedata.unidata_version]
    if TOKENIZER_NAMES[kind] == JSON_NAME:
        import tokenizers

        versions.append(tokenizers.__version__)
    texts = hashlib.sha256(b"".join(document.digest for document in documents.documents))
    return {"texts": texts.hexdigest(), "kind": kind, "versions": versions, **settings}


def fit_context(corpus: Corpus, context_length: int, *, may_shrink: bool) -> int:
    """A context for which the training text has windows.

    Args:
        corpus: The ids.
        context_length: The context that is wanted, in tokens.
        may_shrink: Whether a shorter one will do.

    Returns:
        The context wanted, or a shorter one.

    Raises:
        DataError: The text is too short, or too short for a context that must not shrink.
    """
    tokens = len(corpus.train_ids)
    if tokens > context_length:
        return context_length
    shorter = (tokens - 1) // 2
    if not may_shrink or shorter < SMALLEST_CONTEXT:
        split = f" and {len(corpus.val_ids)} for validation" if len(corpus.val_ids) else ""
        needed = context_length + 1 if not may_shrink else 2 * SMALLEST_CONTEXT + 1
        raise DataError(
            f"the text is too short: {tokens} tokens for training{split}, and a context of "
            f"{context_length} needs at least {needed}: give more text, a smaller --context-length "
            "or a smaller --val-split"
        )
    return shorter


def check_validation(corpus: Corpus, val_split: float) -> None:
    """Refuses a validation set that was asked for and has nothing to predict.

    Args:
        corpus: The ids.
        val_split: The fraction of the text that was to be split off.

    Raises:
        DataError: Fewer than two tokens are for validation.
    """
    if val_split and len(corpus.val_ids) < 2:
        raise DataError(
            f"val_split={val_split} leaves {len(corpus.val_ids)} tokens for validation, and at "
            "least 2 are needed: give a larger --val-split, or 0 for none"
        )


def describe(corpus: Corpus, data: DataConfig, model: ModelConfig) -> Iterator[tuple[str, str]]:
    """The data report.

    Args:
        corpus: The ids.
        data: How windows are made of them.
        model: Its vocabulary and context.

    Returns:
        (name, value) pairs to print before training.
    """
    tokenizer, train_ids, val_ids = corpus.tokenizer, corpus.train_ids, corpus.val_ids
    tokens = len(train_ids) + len(val_ids)
    unknown = tokenizer.count_unknown(corpus.counts.sum(axis=0))
    context = model.context_length
    yield "documents", f"{corpus.documents} read, {len(corpus.skipped)} skipped"
    for path, reason in corpus.skipped:
        yield "skipped", f"{path}: {reason}"
    for source, note in corpus.notes[:MOST_NOTES]:
        yield "noted", f"{source}: {note}"
    if len(corpus.notes) > MOST_NOTES:
        rest = {source for source, _ in corpus.notes[MOST_NOTES:]}
        last = corpus.notes[-1][0]
        yield "noted", f"as much of {counted(len(rest), 'more file')}, the last {last}"
    if corpus.twins:
        yield "noted", corpus.twins
    yield "characters", f"{corpus.characters:,}"
    yield (
        "tokens",
        f"{tokens:,} ({tokenizer.kind}): {len(train_ids):,} training, {len(val_ids):,} validation",
    )
    yield (
        "vocabulary",
        f"{tokenizer.known_size:,} tokens known, {model.vocab_size:,} ids in the model",
    )
    yield "unknown tokens", f"{unknown:,} ({unknown / max(1, tokens):.2%})"
    stride = data.stride_for(context)
    windows = count_windows(len(train_ids), context, stride)
    covered = count_covered(len(train_ids), context, stride)
    validation = f"{-(-(len(val_ids) - 1) // context):,} validation" if len(val_ids) else "none"
    if 1 < len(val_ids) <= context:
        validation += f" (of {len(val_ids) - 1}: the set is shorter than the context)"
    yield "windows", f"{windows:,} training (of {context}, stride {stride}), {validation}"
    yield (
        "in a window",
        f"{covered:,} of {len(train_ids):,} training tokens ({covered / len(train_ids):.2%})",
    )
    yield "tokens / context", f"{tokens / context:.1f}"
