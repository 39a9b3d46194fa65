"""Documents and a tokenizer -> the training and validation ids of a run, with a report on them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..config import DataConfig, ModelConfig
from ..errors import DataError
from .documents import Documents
from .tokenizers import Tokenizer
from .windows import count_windows, split_text

SMALLEST_CONTEXT = 4
"""A context is not shrunk below this many tokens."""


@dataclass(frozen=True)
class Corpus:
    """The ids of one run: `train_ids` and `val_ids`, int32 arrays of shape (N,)."""

    tokenizer: Tokenizer
    train_ids: np.ndarray
    val_ids: np.ndarray
    characters: int
    opening: str
    """How the training text begins: at least a few words of it."""

    def fingerprint(self) -> str:
        """SHA-256 of the ids of both parts: equal for equal text, tokenizer and split."""
        digest = hashlib.sha256(np.int64(len(self.train_ids)).tobytes())
        digest.update(self.train_ids.tobytes())
        digest.update(self.val_ids.tobytes())
        return digest.hexdigest()


def build_corpus(documents: Documents, tokenizer: Tokenizer, data: DataConfig) -> Corpus:
    """Joins the documents, splits off the validation part and encodes both."""
    text = tokenizer.document_separator.join(documents.texts)
    train_text, val_text = split_text(text, data.val_split, whole_words=tokenizer.kind == "word")
    return Corpus(
        tokenizer=tokenizer,
        train_ids=tokenizer.encode(train_text),
        val_ids=tokenizer.encode(val_text),
        characters=len(text),
        opening=train_text[:80],
    )


def fit_context(corpus: Corpus, context_length: int, *, may_shrink: bool) -> int:
    """A context for which the training part has windows: the one asked for, or a shorter one.

    Raises DataError where the text is too short, or too short for a context that must not shrink.
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
    """Raises DataError where a validation part was asked for that has nothing to predict."""
    if val_split and len(corpus.val_ids) < 2:
        raise DataError(
            f"val_split={val_split} leaves {len(corpus.val_ids)} tokens for validation, and at "
            "least 2 are needed: give a larger --val-split, or 0 for none"
        )


def describe(
    documents: Documents, corpus: Corpus, data: DataConfig, model: ModelConfig
) -> Iterator[tuple[str, str]]:
    """The data report: (name, value) pairs to print before training."""
    tokenizer, train_ids, val_ids = corpus.tokenizer, corpus.train_ids, corpus.val_ids
    tokens = len(train_ids) + len(val_ids)
    unknown = tokenizer.count_unknown(train_ids) + tokenizer.count_unknown(val_ids)
    context = model.context_length
    yield "documents", f"{len(documents.documents)} read, {len(documents.skipped)} skipped"
    for path, reason in documents.skipped:
        yield "skipped", f"{path}: {reason}"
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
    windows = count_windows(len(train_ids), context, data.stride)
    validation = f"{-(-(len(val_ids) - 1) // context):,} validation" if len(val_ids) else "none"
    if 1 < len(val_ids) <= context:
        validation += f" (of {len(val_ids) - 1}: the part is shorter than the context)"
    yield "windows", f"{windows:,} training (of {context}, stride {data.stride}), {validation}"
    yield "tokens / context", f"{tokens / context:.1f}"
