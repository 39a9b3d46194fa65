"""A tokenizer as llama.cpp's vocabulary: tokens, types, merges or scores."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

import gguf

from ...errors import ConfigError
from ...inference.folder import ModelFolder
from ...text.compiled.byte_level import describe
from ...text.tokenizers import BaseTokenizer, BytePairTokenizer, CharTokenizer, WordTokenizer
from ..vocabularies import CUTTINGS, SPACE, PieceType, pre_tokenizer, symbols_of

_NO_SENTENCEPIECE = (
    "the tokenizer's merges are not those of SentencePiece, nor is it byte-level: it fits into no "
    "GGUF file"
)
NO_MERGE = "\u2580 \u2580"
"""Stands where a vocabulary has no merges, which llama.cpp does not take: of symbols of no byte."""

COMPOSES = {"type": "NFC"}
"""Qwen's tokenizers make one character of a letter and its accents; llama.cpp does not."""
_SPLIT_AT_SPACES = {"type": "Split", "pattern": {"String": " "}, "invert": False}
_SPLIT_AT_SPACES |= {"behavior": "MergedWithPrevious"}
"""Gemma's, where no space is left any more: it cuts nothing."""


@dataclass(frozen=True)
class WrittenVocabulary:
    """What a GGUF file says of a tokenizer."""

    kind: str
    """tokenizer.ggml.model"""
    tokens: list[str]
    types: list[int]
    merges: list[str] = field(default_factory=list)
    pre: str = ""
    scores: list[float] = field(default_factory=list)
    add_space_prefix: bool = False
    extra_rows: int = 0
    """1 where the last token is none of the model's."""
    end_id: int = 0
    """Ends a text, where the tokenizer has no token for that."""

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    @property
    def nbytes(self) -> int:
        """At least the bytes that the lists take in the file."""
        texts = sum(len(text.encode()) + 8 for text in (*self.tokens, *self.merges))
        return texts + 8 * len(self.tokens)

    @property
    def id_of(self) -> dict[str, int]:
        """Ids by token."""
        return {token: i for i, token in enumerate(self.tokens)}

    def write(self, writer: gguf.GGUFWriter) -> None:
        """Adds the vocabulary to the metadata."""
        writer.add_tokenizer_model(self.kind)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.kind == "gpt2":
            writer.add_tokenizer_pre(self.pre)
            writer.add_token_merges(self.merges or [NO_MERGE])
            writer.add_add_space_prefix(False)
        else:
            writer.add_token_scores(self.scores)
            writer.add_add_space_prefix(self.add_space_prefix)


def written_vocabulary(folder: ModelFolder) -> WrittenVocabulary:
    """The vocabulary of a model folder, with a token for each row of the embedding and one that
    ends a text. Raises ConfigError where llama.cpp has no such tokenizer."""
    vocabulary = written_tokenizer(folder.tokenizer)
    return _with_end(_padded(vocabulary, folder.model.vocab_size), folder.tokenizer)


def written_tokenizer(tokenizer: BaseTokenizer) -> WrittenVocabulary:
    """Writes a tokenizer alone.

    Args:
        tokenizer: Of any kind.

    Returns:
        The vocabulary; unused ids have empty tokens.

    Raises:
        ConfigError: llama.cpp has no such tokenizer.
    """
    if isinstance(tokenizer, WordTokenizer):
        raise ConfigError(
            "a word tokenizer fits into no GGUF file: llama.cpp can neither lower-case words nor "
            "drop their punctuation; train with --tokenizer bpe or char"
        )
    if isinstance(tokenizer, CharTokenizer):
        return _characters(tokenizer)
    if not isinstance(tokenizer, BytePairTokenizer):
        raise ConfigError(f"a tokenizer of the kind {tokenizer.kind} fits into no GGUF file")
    description = describe(tokenizer.backend)
    kind = description["model"]["type"]
    if kind != "BPE":
        raise ConfigError(
            f"a tokenizer of the kind {kind} fits into no GGUF file of this architecture: only "
            "byte-level BPE and SentencePiece's BPE do"
        )
    byte_level = (description["decoder"] or {}).get("type") == "ByteLevel"
    return (_byte_level if byte_level else _sentencepiece)(tokenizer, description)


def notice_of_text(tokenizer: BaseTokenizer) -> str | None:
    """Explains where llama.cpp reads a text otherwise.

    Args:
        tokenizer: The model's.

    Returns:
        A message for the user; None if there is nothing to say.
    """
    if not isinstance(tokenizer, BytePairTokenizer):
        return None
    if describe(tokenizer.backend)["normalizer"] != COMPOSES:
        return None
    return (
        "this tokenizer composes letters with their accents (NFC), llama.cpp does not: a text that "
        "is not composed already gets other tokens there"
    )


def _padded(vocabulary: WrittenVocabulary, size: int) -> WrittenVocabulary:
    """With an unused token for each row of the embedding that stands for no text."""
    taken = set(vocabulary.tokens)
    names = (f"[PAD{i}]" for i in range(2 * size))
    tokens = [*vocabulary.tokens, *[""] * (size - vocabulary.size)]
    types = [*vocabulary.types, *[int(PieceType.UNUSED)] * (size - vocabulary.size)]
    scores = vocabulary.scores
    if scores:
        scores = [*scores, *[-1e4] * (size - vocabulary.size)]
    for i, token in enumerate(tokens):
        if types[i] == PieceType.UNUSED and not token:
            tokens[i] = next(name for name in names if name not in taken)
    return replace(vocabulary, tokens=tokens, types=types, scores=scores)


def _with_end(vocabulary: WrittenVocabulary, tokenizer: BaseTokenizer) -> WrittenVocabulary:
    """With a token that ends texts: without one, llama.cpp takes one of the others.

    A row that stands for no text serves; else one is added to the embedding, the mean of all rows:
    its score is the mean of all scores, so it is never the most likely token.
    """
    if tokenizer.end_ids:
        return replace(vocabulary, end_id=min(tokenizer.end_ids))
    if PieceType.UNUSED not in vocabulary.types:
        longer = replace(_padded(vocabulary, vocabulary.size + 1), extra_rows=1)
        return replace(longer, end_id=vocabulary.size)
    return replace(vocabulary, end_id=vocabulary.types.index(PieceType.UNUSED))


def _characters(tokenizer: CharTokenizer) -> WrittenVocabulary:
    """Tokens are the symbols of each character's bytes, merged one by one if there are several.

    llama.cpp drops the bytes of an unknown character as `encode` drops the character.
    """
    merges: dict[str, None] = {}
    tokens = []
    try:
        for character in tokenizer.characters:
            symbols = symbols_of(character)
            tokens.append(symbols)
            merges |= {f"{symbols[:n]} {symbols[n]}": None for n in range(1, len(symbols))}
    except UnicodeEncodeError:
        raise ConfigError(
            f"the character {character!r} is half of one: it fits into no GGUF file"
        ) from None
    types = [int(PieceType.NORMAL)] * len(tokens)
    return WrittenVocabulary("gpt2", tokens, types, list(merges), "gpt-2")


def _tokens_and_types(
    tokenizer: BaseTokenizer, description: dict[str, Any]
) -> tuple[list[str], list[int]]:
    """Tokens in the order of their ids; unused ones are empty as yet."""
    tokens = [""] * tokenizer.vocab_size
    types = [int(PieceType.UNUSED)] * tokenizer.vocab_size
    for token, i in description["model"]["vocab"].items():
        tokens[i], types[i] = token, int(PieceType.NORMAL)
    for added in description["added_tokens"]:
        if added["lstrip"] or added["rstrip"] or added["single_word"]:
            raise ConfigError(
                f"the token {added['content']!r} takes the spaces around it along, which llama.cpp "
                "does not"
            )
        kind = PieceType.CONTROL if added["special"] else PieceType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], int(kind)
    return tokens, types


def _pairs(description: dict[str, Any]) -> list[tuple[str, str]]:
    """The merges; files have them as pairs, or as texts with a space between the two."""
    merges = description["model"]["merges"]
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    return [(left, right) for left, right in pairs]


def _byte_level(tokenizer: BaseTokenizer, description: dict[str, Any]) -> WrittenVocabulary:
    tokens, types = _tokens_and_types(tokenizer, description)
    merges = [" ".join(pair) for pair in _pairs(description)]
    return WrittenVocabulary("gpt2", tokens, types, merges, _cut_name(description))


def _cut_name(description: dict[str, Any]) -> str:
    """The name in CUTTINGS of the way in which a tokenizer cuts text. Raises ConfigError."""
    cuts = _essential(description["pre_tokenizer"])
    whole = bool(description["model"].get("ignore_merges"))
    for name, way in CUTTINGS.items():
        if cuts == _essential(_as_written(pre_tokenizer(way))) and whole == way.whole_words:
            if (description["normalizer"] or COMPOSES) != COMPOSES:
                break
            return name
    raise ConfigError(
        "the tokenizer cuts text in a way that has no name in llama.cpp known here: known are "
        + ", ".join(CUTTINGS)
    )


def _as_written(cutter: Any) -> dict[str, Any]:
    """A pre-tokenizer as a tokenizer's file has it."""
    return json.loads(cutter.__getstate__())


def _essential(description: dict[str, Any] | None) -> Any:
    """A pre-tokenizer's description without what changes no id."""
    if description is None:
        return None
    parts = description.get("pretokenizers", [description])
    return [{k: v for k, v in part.items() if k != "trim_offsets"} for part in parts]


def _sentencepiece(tokenizer: BaseTokenizer, description: dict[str, Any]) -> WrittenVocabulary:
    """Scores are the negative ranks of the merges."""
    tokens, types = _tokens_and_types(tokenizer, description)
    unknown = description["model"].get("unk_token")
    vocabulary = set(description["model"]["vocab"])
    whole = {t for t, kind in zip(tokens, types, strict=True) if kind != PieceType.NORMAL}
    pairs = _pairs(description)
    rank = _ranks([pair for pair in pairs if "".join(pair) not in whole], vocabulary)
    for i, token in enumerate(tokens):
        if token == unknown:
            types[i] = int(PieceType.UNKNOWN)
        elif types[i] == PieceType.NORMAL and _is_byte(token):
            types[i] = int(PieceType.BYTE)
    if PieceType.BYTE not in types or not description["model"].get("byte_fallback"):
        raise ConfigError(
            "the tokenizer has no pieces for single bytes: llama.cpp's SentencePiece needs them"
        )
    worst = -float(len(rank) + len(description["model"]["merges"]))
    scores = [-float(rank[t]) if t in rank else worst for t in tokens]
    scores = [s if kind == PieceType.NORMAL else 0.0 for s, kind in zip(scores, types, strict=True)]
    prefix = _space_prefix(description)
    spaced = {int(PieceType.USER_DEFINED), int(PieceType.CONTROL)}  # found in the text as it is
    tokens = [
        t.replace(SPACE, " ") if kind in spaced and set(t) == {SPACE} else t
        for t, kind in zip(tokens, types, strict=True)
    ]
    return WrittenVocabulary("llama", tokens, types, scores=scores, add_space_prefix=prefix)


def _ranks(pairs: list[tuple[str, str]], tokens: set[str]) -> dict[str, int]:
    """The rank of each token that merges make. Raises ConfigError where the merges are not all
    splits of one token after the other, which is what llama.cpp takes them for."""
    rank: dict[str, int] = {}
    last = -1
    for number, (left, right) in enumerate(pairs):
        if rank.setdefault(left + right, number) < last:
            raise ConfigError(_NO_SENTENCEPIECE)
        last = rank[left + right]
    splits = sum(t[:cut] in tokens and t[cut:] in tokens for t in rank for cut in range(1, len(t)))
    if splits != len(pairs):
        raise ConfigError(_NO_SENTENCEPIECE)
    return rank


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _space_prefix(description: dict[str, Any]) -> bool:
    """Whether a text begins with a space. Raises ConfigError where llama.cpp cannot do what the
    tokenizer does to a text."""
    normalizer, cuts = description["normalizer"] or {}, description["pre_tokenizer"]
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    steps = [{k: v for k, v in step.items() if v is not None} for step in steps]
    replace_space = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepend = {"type": "Prepend", "prepend": SPACE}
    if steps and cuts == _SPLIT_AT_SPACES:
        cuts = None
    if cuts is None and steps in ([prepend, replace_space], [replace_space]):
        return len(steps) == 2
    if not steps and (cuts or {}).get("type") == "Metaspace" and not cuts.get("split", True):
        scheme = cuts.get("prepend_scheme", "always")
        if cuts.get("replacement") == SPACE and scheme in ("first", "never", "always"):
            return scheme != "never"
    raise ConfigError(
        "the tokenizer changes text in a way that llama.cpp does not: it fits into no GGUF file"
    )
