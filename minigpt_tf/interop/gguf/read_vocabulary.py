"""The tokenizer, its special tokens and the chat template in a GGUF file's metadata."""

from dataclasses import dataclass
from typing import Any

from ...config import ModelConfig
from ...errors import DataError, ModelFolderError
from ...storage.reading import why_unreadable
from ...text.chat_template import ChatTemplate
from ...text.compiled.byte_level import byte_symbols
from ...text.tokenizers import BaseTokenizer, BytePairTokenizer, CharTokenizer, ImportedTokenizer
from ..vocabularies import (
    SPECIAL,
    PieceType,
    byte_level_tokenizer,
    cutting,
    sentencepiece_from_pieces,
)
from .metadata import MODEL_KEY, TEXT_KEY, Metadata

ROOT = "tokenizer.ggml"
KINDS = {"gpt2": "byte-level BPE", "llama": "SentencePiece's BPE"}
"""Values of tokenizer.ggml.model that are known here."""

END_KEYS = ("eos", "eot", "eom")
"""Tokens that end a text, a turn, a message."""

ENDS_OF_TURNS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
)
"""Special tokens that end a turn whether a file says so or not: many do not."""

LLAMA_IDS = {"unknown": 0, "bos": 1, "eos": 2}
"""What SentencePiece's vocabularies have where a file does not say it."""


@dataclass(frozen=True)
class Vocabulary:
    """What a Source needs to know of text."""

    tokenizer: BaseTokenizer
    start_ids: list[int]
    chat_template: ChatTemplate | None


def read_vocabulary(values: Metadata, config: ModelConfig) -> Vocabulary:
    """Builds the tokenizer of a GGUF file.

    Args:
        values: The metadata of the file.
        config: The model's configuration.

    Returns:
        The tokenizer with its end and prefix ids, the ids from which an empty prompt starts, and
        the chat template.

    Raises:
        ModelFolderError: The kind of tokenizer is unsupported, or its metadata are damaged.
    """
    kind = values.text(f"{ROOT}.model")
    if kind not in KINDS:
        known = ", ".join(f"{name} ({what})" for name, what in KINDS.items())
        raise ModelFolderError(
            f"{values.file}: unsupported kind of tokenizer {kind!r:.40}: supported are {known}"
        )
    tokens, types = _tokens(values, config)
    ids = _special_ids(values, kind, len(tokens))
    try:
        tokenizer = _tokenizer(values, kind, tokens, types)
        by_default = kind == "llama" or cutting(_cut(values)).starts_with_bos
    except DataError as error:
        raise ModelFolderError(f"{values.file}: its tokenizer: {error}") from None
    except Exception as error:  # the library raises bare Exceptions
        damaged = "its tokenizer is damaged"
        raise ModelFolderError(why_unreadable(values.file, error, damaged)) from None
    ends = {ids[name] for name in END_KEYS if name in ids}
    ends -= {i for i in ends if types[i] == PieceType.UNUSED}  # none, but llama.cpp needs one
    if MODEL_KEY not in values:
        ends |= {i for i, t in enumerate(tokens) if types[i] in SPECIAL and t in ENDS_OF_TURNS}
    tokenizer.end_ids = frozenset(ends)
    if values.flag(f"{ROOT}.add_bos_token", by_default) and "bos" in ids:
        tokenizer.prefix_ids = (ids["bos"],)
    start = [ids["bos"]] if "bos" in ids else sorted(ends)[:1] or [0]
    return Vocabulary(
        tokenizer, _own_start(values, config) or start, _chat_template(values, tokens, ids)
    )


def _tokens(values: Metadata, config: ModelConfig) -> tuple[list[str], list[int]]:
    """The tokens and their types, of the same number."""
    tokens = values.texts(f"{ROOT}.tokens")
    if not tokens:
        raise ModelFolderError(f"{values.file}: its metadata lack {ROOT}.tokens")
    given = values.numbers(f"{ROOT}.token_type")
    types = [int(PieceType.NORMAL)] * len(tokens) if given is None else given.tolist()
    if MODEL_KEY in values:  # without the end token that export may have added
        size = config.vocab_size
        return tokens[:size], types[:size] if len(types) == len(tokens) else types
    return tokens, types


def _special_ids(values: Metadata, kind: str, count: int) -> dict[str, int]:
    """Ids of special tokens by their name in the keys."""
    ids = dict(LLAMA_IDS) if kind == "llama" else {}
    for name in ("bos", *END_KEYS, "unknown", "padding"):
        token_id = values.whole(f"{ROOT}.{name}_token_id")
        if token_id is not None:
            ids[name] = token_id
    return {name: token_id for name, token_id in ids.items() if 0 <= token_id < count}


def _cut(values: Metadata) -> str:
    return values.text(f"{ROOT}.pre", "default")


def _tokenizer(values: Metadata, kind: str, tokens: list[str], types: list[int]) -> BaseTokenizer:
    own = values.json(TEXT_KEY).get("tokenizer")
    if kind == "llama":
        scores = values.numbers(f"{ROOT}.scores")
        if scores is None:
            raise DataError(f"the metadata lack {ROOT}.scores")
        scores = scores.tolist()[: len(tokens)]
        space = values.flag(f"{ROOT}.add_space_prefix", True)
        return ImportedTokenizer(sentencepiece_from_pieces(tokens, scores, types, space))
    if own == "char":
        return CharTokenizer(_characters(tokens, types))
    merges = values.texts(f"{ROOT}.merges")
    if merges is None:
        raise DataError(f"the metadata lack {ROOT}.merges")
    backend = byte_level_tokenizer(tokens, merges, _cut(values), types)
    size = backend.get_vocab_size()
    if own in ("bpe", "gpt2") and max(backend.get_vocab().values(), default=0) == size - 1:
        return BytePairTokenizer(backend, own)
    return ImportedTokenizer(backend)


def _characters(tokens: list[str], types: list[int]) -> str:
    """The characters of a char tokenizer, from the symbols of their bytes."""
    byte_of = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    wanted = [t for t, kind in zip(tokens, types, strict=True) if kind == PieceType.NORMAL]
    try:
        characters = [
            bytes(byte_of[symbol] for symbol in token).decode("utf-8", "surrogatepass")
            for token in wanted
        ]
    except (KeyError, UnicodeDecodeError):
        raise DataError("its tokens are not characters") from None
    if any(len(character) != 1 for character in characters):
        raise DataError("its tokens are not characters")
    return "".join(characters)


def _own_start(values: Metadata, config: ModelConfig) -> list[int]:
    """Where an empty prompt starts, in files that this package has written."""
    start = values.json(TEXT_KEY).get("start_ids", [])
    sound = isinstance(start, list) and len(start) <= config.context_length
    if not sound or any(type(i) is not int or not 0 <= i < config.vocab_size for i in start):
        raise ModelFolderError(f"{values.file}: {TEXT_KEY} has start_ids that are not token ids")
    return start


def _chat_template(values: Metadata, tokens: list[str], ids: dict[str, int]) -> ChatTemplate | None:
    source = values.text("tokenizer.chat_template")
    if not source:
        return None
    names: dict[str, Any] = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token"}
    names["padding"] = "pad_token"
    special = {ours: tokens[ids[name]] for name, ours in names.items() if name in ids}
    return ChatTemplate(source, special)
