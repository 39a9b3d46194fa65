"""Vocabularies of other tools as tokenizers of the `tokenizers` library: SentencePiece's models,
and the two kinds of vocabulary that GGUF files carry."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, ModelFolderError
from ..storage.regular import read_regular
from ..text.compiled.byte_level import byte_symbols
from ..text.library_limits import check_charsmap

if TYPE_CHECKING:
    import tokenizers

SPACE = "\u2581"
"""Stands for a space in SentencePiece's pieces."""


class PieceType(IntEnum):
    """What a piece is for, in SentencePiece's models and GGUF files alike."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


SPECIAL = (PieceType.CONTROL, PieceType.UNKNOWN)

# ---------------------------------------------------------------- SentencePiece


@dataclass(frozen=True)
class _Normalizer:
    """What SentencePiece does to a text first."""

    charsmap: bytes = b""
    add_space_prefix: bool = True
    remove_extra_spaces: bool = False
    escape_spaces: bool = True


def sentencepiece_tokenizer(path: str | Path) -> "tokenizers.Tokenizer":
    """The tokenizer in a tokenizer.model file of SentencePiece, of the kinds BPE and Unigram.

    Its ids are those of SentencePiece (Kudo and Richardson, 2018), but for the text of control
    pieces, such as </s>: that becomes their id, as chat templates need it. Raises DataError.
    """
    proto = _read_model(Path(path))
    kind = {1: "unigram", 2: "bpe"}.get(proto.trainer_spec.model_type)
    if kind is None:
        raise DataError(
            f"{path}: is not a BPE or Unigram model of SentencePiece; no other is supported"
        )
    if proto.trainer_spec.treat_whitespace_as_suffix:
        raise DataError(f"{path}: puts spaces behind words, which is not supported")
    spec = proto.normalizer_spec
    normalizer = _Normalizer(
        spec.precompiled_charsmap,
        spec.add_dummy_prefix,
        spec.remove_extra_whitespaces,
        spec.escape_whitespaces,
    )
    try:
        return _sentencepiece(
            [piece.piece for piece in proto.pieces],
            [piece.score for piece in proto.pieces],
            [piece.type for piece in proto.pieces],
            normalizer,
            unigram=kind == "unigram",
            markers=False,
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _read_model(path: Path) -> Any:
    """The content of a tokenizer.model file."""
    try:
        content = read_regular(path)
    except ModelFolderError as error:
        raise DataError(str(error)) from None
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    try:
        proto = sentencepiece_model_pb2.ModelProto.FromString(content)
    except DecodeError:
        raise DataError(f"{path}: is damaged, or no model of SentencePiece") from None
    if not proto.pieces:
        raise DataError(f"{path}: has no pieces: it is damaged, or no model of SentencePiece")
    return proto


def sentencepiece_from_pieces(
    pieces: Sequence[str],
    scores: Sequence[float],
    types: Sequence[int],
    add_space_prefix: bool = True,
) -> "tokenizers.Tokenizer":
    """Builds the tokenizer of a GGUF file's "llama" vocabulary: SentencePiece's BPE.

    Args:
        pieces: The tokens, by id.
        scores: The score of each; pairs with higher ones are merged first.
        types: The PieceType of each.
        add_space_prefix: Whether each text between two special pieces gets a leading space.

    Returns:
        The tokenizer.

    Raises:
        DataError: The vocabulary is damaged.
    """
    return _sentencepiece(
        pieces,
        scores,
        types,
        _Normalizer(add_space_prefix=add_space_prefix),
        unigram=False,
        markers=True,
    )


def _sentencepiece(
    pieces: Sequence[str],
    scores: Sequence[float],
    types: Sequence[int],
    normalizer: _Normalizer,
    *,
    unigram: bool,
    markers: bool,
) -> "tokenizers.Tokenizer":
    """`markers`: user-defined pieces cut a text as special ones do; else they are part of it."""
    import tokenizers

    _check_pieces(pieces, types, scores)
    inside = [p for p, t in zip(pieces, types, strict=True) if t == PieceType.USER_DEFINED]
    inside = [] if markers else inside
    unknown = next((i for i, t in enumerate(types) if t == PieceType.UNKNOWN), None)
    has_bytes = PieceType.BYTE in types
    if unigram:
        model = _unigram_model(pieces, scores, types, unknown, has_bytes)
    else:
        model = _merging_model(pieces, scores, types, unknown, has_bytes, bool(inside))
    backend = tokenizers.Tokenizer(model)
    steps = _normalizers(normalizer)
    if steps:
        backend.normalizer = tokenizers.normalizers.Sequence(steps)
    patterns = [re.escape(piece) for piece in sorted(inside, key=len, reverse=True)]
    if unigram and has_bytes:  # "<0x41>" in a text is no byte's piece
        patterns.append("<(?=0x[0-9A-F]{2}>)")
    if patterns:
        cut = tokenizers.Regex("|".join(patterns))
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(cut, "isolated")
    backend.decoder = _sentencepiece_decoder(normalizer.add_space_prefix)
    _add_special(backend, pieces, types, markers=markers)
    return backend


def _check_pieces(pieces: Sequence[str], types: Sequence[int], scores: Sequence[float]) -> None:
    """Raises DataError where the lists do not fit together."""
    if not len(pieces) == len(types) == len(scores):
        raise DataError(
            f"{len(pieces)} pieces have {len(types)} types and {len(scores)} scores: the "
            "vocabulary is damaged"
        )
    wrong = next((t for t in types if t not in set(PieceType)), None)
    if wrong is not None:
        raise DataError(f"a piece is of the unknown type {wrong}: the vocabulary is damaged")
    if not all(isinstance(piece, str) for piece in pieces):
        raise DataError("is damaged: a piece is not UTF-8")
    _check_unique(pieces)


def _check_unique(pieces: Sequence[str]) -> None:
    if len(set(pieces)) < len(pieces):
        twice = next(p for p, times in Counter(pieces).items() if times > 1)
        raise DataError(f"duplicate piece {twice!r:.60} in the vocabulary")


def _normalizers(normalizer: _Normalizer) -> list[Any]:
    """SentencePiece's normalization as steps of the library."""
    import tokenizers
    from tokenizers.normalizers import Precompiled, Prepend, Replace

    steps: list[Any] = []
    if normalizer.charsmap:
        check_charsmap(normalizer.charsmap)
        try:
            steps.append(Precompiled(normalizer.charsmap))
        except Exception as error:  # the library raises a bare Exception
            raise DataError(f"its normalization cannot be read: {error!s:.80}") from None
    if normalizer.remove_extra_spaces:
        steps.append(Replace(tokenizers.Regex("^ +| +$"), ""))
        steps.append(Replace(tokenizers.Regex(" {2,}"), " "))
    space = SPACE if normalizer.escape_spaces else " "
    if normalizer.add_space_prefix:
        steps.append(Prepend(space))
    if normalizer.escape_spaces:
        steps.append(Replace(" ", SPACE))
    return steps


def _sentencepiece_decoder(add_space_prefix: bool) -> Any:
    from tokenizers.decoders import ByteFallback, Fuse, Replace, Sequence, Strip

    steps = [Replace(SPACE, " "), ByteFallback(), Fuse()]
    return Sequence([*steps, Strip(" ", 1, 0)] if add_space_prefix else steps)


def _merging_model(
    pieces: Sequence[str],
    scores: Sequence[float],
    types: Sequence[int],
    unknown: int | None,
    has_bytes: bool,
    has_whole_words: bool,
) -> Any:
    """SentencePiece's BPE joins the neighbors whose piece has the highest score: so the merges are
    all splits of all pieces, in that order."""
    from tokenizers.models import BPE

    ids = {piece: i for i, piece in enumerate(pieces) if types[i] != PieceType.UNUSED}
    text = {p: i for p, i in ids.items() if types[i] == PieceType.NORMAL}
    merges = [
        (-scores[i], text[left], text[right], left, right)
        for piece, i in text.items()
        for left, right in ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        if left in text and right in text
    ]
    merges.sort()
    return BPE(
        vocab=ids,
        merges=[merge[3:] for merge in merges],
        unk_token=None if unknown is None else pieces[unknown],
        fuse_unk=True,
        byte_fallback=has_bytes,
        ignore_merges=has_whole_words,
    )


def _unigram_model(
    pieces: Sequence[str],
    scores: Sequence[float],
    types: Sequence[int],
    unknown: int | None,
    has_bytes: bool,
) -> Any:
    """The most probable pieces of a text (Kudo, 2018, "Subword regularization")."""
    from tokenizers.models import Unigram

    pairs = list(zip(scores, types, strict=True))
    lowest = min((score for score, kind in pairs if kind == PieceType.NORMAL), default=0.0)
    fixed: dict[int, float | None] = {
        PieceType.NORMAL: None,
        PieceType.USER_DEFINED: 0.0,
        PieceType.UNUSED: 100 * lowest,
    }
    scored = []
    for piece, (score, kind) in zip(pieces, pairs, strict=True):
        other = fixed.get(kind, lowest)  # the library takes unknown characters to be 10 below all
        scored.append((piece, score if other is None else other))
    return Unigram(scored, unk_id=unknown, byte_fallback=has_bytes)


# ---------------------------------------------------------------- byte-level BPE

GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""Radford et al., 2019."""

_TIKTOKEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BY_CASE = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s"
    r"|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""A new word begins where lower case turns into upper case."""
_ENGLISH_ENDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"


@dataclass(frozen=True)
class Cutting:
    """How a byte-level vocabulary cuts text into words before it merges."""

    patterns: tuple[str, ...]
    """Each cuts the pieces that those before it have left."""
    whole_words: bool = False
    """A word that is a token stays whole, whatever the merges make of it."""
    starts_with_bos: bool = False
    """What llama.cpp takes where a file does not say it."""


_DIGITS_AND_WORDS = Cutting((r"\p{N}", GPT2_WORDS))
_LLAMA3 = Cutting((_TIKTOKEN_WORDS.format(digits="{1,3}"),), True, True)

CUTTINGS = {
    "gpt-2": Cutting((GPT2_WORDS,)),
    "smollm": _DIGITS_AND_WORDS,
    "starcoder": _DIGITS_AND_WORDS,
    "refact": _DIGITS_AND_WORDS,
    "command-r": _DIGITS_AND_WORDS,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "lfm2": _LLAMA3,
    "dbrx": Cutting((_TIKTOKEN_WORDS.format(digits="{1,3}"),)),
    "olmo": Cutting((GPT2_WORDS,)),
    "gpt-4o": Cutting((_BY_CASE % (_ENGLISH_ENDS, _ENGLISH_ENDS, "{1,3}"),)),
    "tekken": Cutting((_BY_CASE % ("", "", ""),), True, True),
    "qwen2": Cutting((_TIKTOKEN_WORDS.format(digits=""),)),
    "default": Cutting((r"[\p{P}\$\+<=>\^~\|]+", GPT2_WORDS, r"\p{N}+", r"[0-9][0-9][0-9]")),
}
"""The names of `tokenizer.ggml.pre` that are known here. Several models cut alike; the first name
of a way to cut is the one that is written."""


def cutting(pre: str) -> Cutting:
    """The way to cut of a name. Raises DataError that lists the known ones."""
    if pre not in CUTTINGS:
        raise DataError(
            f"unsupported pre-tokenizer {pre!r:.40}: supported are " + ", ".join(CUTTINGS)
        )
    return CUTTINGS[pre]


def byte_level_tokenizer(
    tokens: Sequence[str],
    merges: Sequence[str],
    pre: str,
    types: Sequence[int] = (),
) -> "tokenizers.Tokenizer":
    """Builds the tokenizer of a GGUF file's "gpt2" vocabulary: byte-level BPE.

    Args:
        tokens: The tokens, by id.
        merges: Two tokens with a space between, in order of rank.
        pre: The name of the pre-tokenizer.
        types: The PieceType of each token (unset: all normal).

    Returns:
        The tokenizer.

    Raises:
        DataError: The pre-tokenizer is unsupported, or the vocabulary is damaged.
    """
    import tokenizers

    way = cutting(pre)
    types = types if len(types) else [PieceType.NORMAL] * len(tokens)
    _check_pieces(tokens, types, [0.0] * len(tokens))
    ids = {token: i for i, token in enumerate(tokens) if types[i] != PieceType.UNUSED}
    pairs: list[Any] = [tuple(merge.split(" ")) for merge in merges]
    wrong = next((p for p in pairs if len(p) != 2 or "" in p), None)
    if wrong is not None:
        raise DataError(f"the merge {' '.join(wrong)!r:.60} is not a pair of tokens")
    pairs = [p for p in pairs if p[0] in ids and p[1] in ids]  # others never come about
    wrong = next((p for p in pairs if "".join(p) not in ids), None)
    if wrong is not None:
        raise DataError(f"the merge {' '.join(wrong)!r:.60} makes no token of the vocabulary")
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=ids, merges=pairs, ignore_merges=way.whole_words)
    )
    backend.pre_tokenizer = pre_tokenizer(way)
    backend.decoder = tokenizers.decoders.ByteLevel()
    _add_special(backend, tokens, types, markers=True)
    return backend


def pre_tokenizer(way: Cutting) -> Any:
    """What cuts text in that way, and writes bytes as `byte_symbols`."""
    import tokenizers
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

    if way.patterns[-1] == GPT2_WORDS:  # the library's own pattern, and of a model's own file
        last = ByteLevel(add_prefix_space=False)
        return last if len(way.patterns) == 1 else Sequence([Digits(individual_digits=True), last])
    cuts = [Split(tokenizers.Regex(pattern), "isolated") for pattern in way.patterns]
    return Sequence([*cuts, ByteLevel(add_prefix_space=False, use_regex=False)])


def symbols_of(text: str) -> str:
    """A text as byte-level vocabularies write it: a symbol for each of its bytes."""
    symbols = byte_symbols()
    return "".join(symbols[byte] for byte in text.encode())


def _add_special(
    backend: "tokenizers.Tokenizer", pieces: Sequence[str], types: Sequence[int], *, markers: bool
) -> None:
    """Registers the pieces that stand whole in a text. `markers`: user-defined ones too."""
    import tokenizers

    found = [
        (piece, kind in SPECIAL)
        for piece, kind in zip(pieces, types, strict=True)
        if piece and (kind in SPECIAL or (markers and kind == PieceType.USER_DEFINED))
    ]
    for special in (True, False):
        added = [
            tokenizers.AddedToken(piece, normalized=False, special=special)
            for piece, is_special in found
            if is_special == special
        ]
        if special:
            backend.add_special_tokens(added)
        else:
            backend.add_tokens(added)
