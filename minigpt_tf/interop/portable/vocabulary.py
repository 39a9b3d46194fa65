"""A tokenizer as sorted tables, in which a small program finds ids by halving."""

import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ConfigError, DataError
from ...inference.folder import ModelFolder
from ...inference.prompt import encode_chat
from ...text.chat_template import message
from ...text.compiled.byte_level import byte_symbols, describe
from ...text.tokenizers import BaseTokenizer, CharTokenizer, WordTokenizer
from ..gguf.write_vocabulary import COMPOSES, WrittenVocabulary, written_vocabulary
from ..vocabularies import GPT2_WORDS, SPACE, PieceType, cutting

Settings = dict[str, Any]
Tables = dict[str, np.ndarray]

PROBES = ("hello there", "What is 2 + 2?", "Ümit, go", "(a) is it?", "7 of them!")
"""Messages whose ids show where a chat template puts a message."""


def vocabulary_of(folder: ModelFolder) -> tuple[Settings, Tables]:
    """The tokenizer and the ids around texts.

    Lower case is taken character by character: a final sigma and a dotted capital I come out
    otherwise than in Python.

    Args:
        folder: The model.

    Returns:
        Lines of the header, and arrays; lists of ids are int32.

    Raises:
        ConfigError: The readers cannot cut text as this tokenizer does.
    """
    tokenizer, size = folder.tokenizer, folder.model.vocab_size
    if isinstance(tokenizer, WordTokenizer):
        settings, tables = _words(tokenizer, size)
    elif isinstance(tokenizer, CharTokenizer):
        settings, tables = _characters(tokenizer, size)
    else:
        settings, tables = _merging(folder)
    tables["end_ids"] = _ids(sorted(tokenizer.end_ids))
    tables["start_ids"] = _ids(folder.start_ids)
    tables["prefix_ids"] = _ids(list(tokenizer.prefix_ids))
    tables["suppressed"] = _ids(tokenizer.suppressed_ids(size).tolist())
    tables |= _chat(folder)
    return settings, {name: table for name, table in tables.items() if len(table)}


def _ids(ids: list[int]) -> np.ndarray:
    return np.array(ids, dtype=np.int32)


def _texts(texts: list[bytes]) -> Tables:
    """What each token reads, one behind the other."""
    starts = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    return {"token_texts": np.frombuffer(b"".join(texts), dtype=np.uint8), "token_starts": starts}


def _rows(rows: Sequence[tuple[int, ...]]) -> np.ndarray:
    """A table, sorted by its columns."""
    width = len(rows[0]) if rows else 1
    return np.array(sorted(rows), dtype=np.int32).reshape(-1, width)


def _lower() -> np.ndarray:
    """(character, its lower case) of all that have one of one character."""
    every = ((code, chr(code).lower()) for code in range(sys.maxunicode + 1))
    return _rows([(code, ord(low)) for code, low in every if len(low) == 1 and ord(low) != code])


# ---------------------------------------------------------------- words and characters


def _words(tokenizer: WordTokenizer, size: int) -> tuple[Settings, Tables]:
    limit, unknown = tokenizer.num_words or size, tokenizer.oov_id
    texts = [b""] * size
    for word, i in tokenizer.word_index.items():
        if i < size:
            texts[i] = word.encode("utf-8", "replace")
    settings: Settings = {"tokenizer": "word", "unknown_id": -1 if unknown is None else unknown}
    tables = _texts(texts)
    known = {w: i for w, i in tokenizer.word_index.items() if 0 < i < limit and i != unknown}
    if tokenizer.lower:
        tables["lower"] = _lower()
    if tokenizer.char_level:
        settings["tokenizer"] = "char"
        single = [(ord(word), i) for word, i in known.items() if len(word) == 1]
        return settings, tables | {"characters": _rows(single)}
    if len(tokenizer.split) != 1:
        raise ConfigError(
            f"split={tokenizer.split!r}: this format has words between single characters alone"
        )
    separators = {tokenizer.split, *tokenizer.filters}
    order = sorted(known.values(), key=lambda i: texts[i])
    tables["separators"] = _rows([(ord(character),) for character in separators])
    return settings, tables | {"order": _ids(order)}


def _characters(tokenizer: CharTokenizer, size: int) -> tuple[Settings, Tables]:
    texts = [c.encode("utf-8", "replace") for c in tokenizer.characters]
    texts += [b""] * (size - len(texts))
    rows = [(ord(character), i) for i, character in enumerate(tokenizer.characters)]
    settings = {"tokenizer": "char", "unknown_id": -1}
    return settings, _texts(texts) | {"characters": _rows(rows)}


# ---------------------------------------------------------------- byte pairs


def _merging(folder: ModelFolder) -> tuple[Settings, Tables]:
    """Byte-level BPE, or SentencePiece's."""
    try:
        written = written_vocabulary(folder)
    except ConfigError as error:
        raise ConfigError(str(error).replace("GGUF file", "such file")) from None
    description = describe(folder.tokenizer.backend)  # type: ignore[attr-defined]
    if description["normalizer"] == COMPOSES:
        raise ConfigError(
            "the tokenizer composes letters with their accents (NFC), which programs of this "
            "format do not; --format gguf takes it"
        )
    vocabulary = description["model"]["vocab"]
    pieces = written.kind == "llama"
    merges = []
    for rank, merge in enumerate(description["model"]["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        merges.append((vocabulary[left], vocabulary[right], rank, vocabulary[left + right]))
    texts = _piece_texts(written) if pieces else _byte_texts(written)
    texts = texts[: folder.model.vocab_size]
    whole = [i for i, kind in enumerate(written.types) if kind in _WHOLE and texts[i : i + 1]]
    whole.sort(key=lambda i: -len(texts[i]))
    tables = _texts(texts) | {"merges": _rows(merges), "special": _ids(whole)}
    if pieces:
        settings = {"tokenizer": "pieces", "space_prefix": int(written.add_space_prefix)}
        single = [(ord(p), i) for p, i in vocabulary.items() if len(p) == 1]
        tables["characters"] = _rows(single)
        tables["byte_ids"] = _ids([vocabulary[f"<0x{byte:02X}>"] for byte in range(256)])
        return settings, tables
    tables["byte_ids"] = _ids([vocabulary.get(symbol, 0) for symbol in byte_symbols()])
    tables["classes"] = _classes()
    settings = {"tokenizer": "bytes", **_cut_of(written.pre)}
    if settings["whole_words"]:
        plain = [i for i, kind in enumerate(written.types) if kind == PieceType.NORMAL]
        tables["order"] = _ids(sorted(plain, key=lambda i: texts[i]))
    return settings, tables


_WHOLE = (PieceType.CONTROL, PieceType.USER_DEFINED)


def _byte_texts(written: WrittenVocabulary) -> list[bytes]:
    """The bytes that tokens stand for."""
    byte_of = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    texts = []
    for token, kind in zip(written.tokens, written.types, strict=True):
        if kind == PieceType.UNUSED:
            texts.append(b"")
        elif kind == PieceType.NORMAL and all(symbol in byte_of for symbol in token):
            texts.append(bytes(byte_of[symbol] for symbol in token))
        else:
            texts.append(token.encode("utf-8", "replace"))
    return texts


def _piece_texts(written: WrittenVocabulary) -> list[bytes]:
    texts = []
    for token, kind in zip(written.tokens, written.types, strict=True):
        if kind == PieceType.BYTE:
            texts.append(bytes([int(token[3:5], 16)]))
        else:
            text = "" if kind == PieceType.UNUSED else token.replace(SPACE, " ")
            texts.append(text.encode("utf-8", "replace"))
    return texts


def _cut_of(pre: str) -> Settings:
    """How text is cut into words, in the terms of the readers."""
    way = cutting(pre)
    last = way.patterns[-1]
    settings: Settings = {"whole_words": int(way.whole_words), "digits_alone": 0, "digits": 0}
    if last == GPT2_WORDS and way.patterns[:-1] in ((), (r"\p{N}",)):
        return settings | {"cut": "gpt2", "digits_alone": len(way.patterns) - 1}
    found = re.search(r"\|\\p\{N\}(\{1,3\})?\| \?", last)
    if len(way.patterns) == 1 and last.startswith("(?i:'s") and found:
        return settings | {"cut": "tiktoken", "digits": 3 if found[1] else 1}
    raise ConfigError(
        f"the tokenizer cuts text as {pre}, which this format cannot: it has the ways of gpt-2, "
        "smollm, llama-bpe and qwen2"
    )


def _classes() -> np.ndarray:
    """(first, last, class) of the ranges of letters, numbers and white space."""
    rows: list[tuple[int, int, int]] = []
    for code in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        kind = {"L": "L", "N": "N", "Z": "S"}.get(category[0], "")
        if chr(code) in "\t\n\v\f\r\x85":
            kind = "S"
        if not kind:
            continue
        if rows and rows[-1][1] == code - 1 and rows[-1][2] == ord(kind):
            rows[-1] = (rows[-1][0], code, ord(kind))
        else:
            rows.append((code, code, ord(kind)))
    return _rows(rows)


# ---------------------------------------------------------------- conversations


def _chat(folder: ModelFolder) -> Tables:
    """The ids around a message that begins a conversation; none where a template does not keep them
    apart."""
    template, tokenizer = folder.chat_template, folder.tokenizer
    if template is None:
        return {}
    context = folder.model.context_length
    try:
        found = [
            encode_chat(tokenizer, context, template, [message("user", probe)]).ids
            for probe in PROBES
        ]
        alone = [_message_ids(tokenizer, probe) for probe in PROBES]
    except DataError:
        return {}
    for first in range(len(found[0]) - len(alone[0]) + 1):
        before, after = found[0][:first], found[0][first + len(alone[0]) :]
        if all(before + ids + after == whole for ids, whole in zip(alone, found, strict=True)):
            return {"chat_before": _ids(before), "chat_after": _ids(after)}
    return {}


def _message_ids(tokenizer: BaseTokenizer, text: str) -> list[int]:
    return tokenizer.encode(text).tolist()
