"""Our tokenizers as tokenizer.json, the format of the `tokenizers` library, with the same ids.

What that format cannot hold is refused. Every file is compared with the tokenizer it stands for.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from ...config import END_OF_TEXT
from ...errors import DataError
from ...inference.folder import ModelFolder
from ...text.tokenizers import BaseTokenizer, BytePairTokenizer, CharTokenizer, WordTokenizer

PAD_TOKEN = "<pad>"
"""What id 0 of a word tokenizer is called."""

NAMED_TOKENS = (
    *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"),
)
"""The special tokens that transformers knows by a name."""

_CASED = r"[\p{Cased}&&[^\p{Case_Ignorable}]]"
_BETWEEN = r"\p{Case_Ignorable}*"
FINAL_SIGMA = rf"{_CASED}{_BETWEEN}\KΣ(?!{_BETWEEN}{_CASED})"
"""A capital sigma at the end of a word, which Python's `lower` turns into another letter than all
others (Unicode, table 3-17); the library's Lowercase goes character by character."""

PIECE = 2**16
"""Words that are compared at a time."""


@dataclass(frozen=True)
class ExportedTokenizer:
    """A tokenizer in the terms of the `tokenizers` library and of transformers."""

    description: dict[str, Any]
    """The content of tokenizer.json."""
    named: dict[str, str] = field(default_factory=dict)
    """bos_token, eos_token ... -> the text of the token; all are ids of the tokenizer."""
    ids: dict[str, int] = field(default_factory=dict)
    """The same -> the id."""
    template_texts: dict[str, str] = field(default_factory=dict)
    """Names that the chat template uses for what is not a special token of the tokenizer."""
    literal: bool = False
    """Whether the text of a special token is text like any other where a text holds it."""


def export_tokenizer(folder: ModelFolder) -> ExportedTokenizer:
    """The tokenizer of a model folder, its beginning-of-text ids added by a post-processor.

    Raises DataError where tokenizer.json cannot give the same ids.
    """
    tokenizer = folder.tokenizer
    description = describe_tokenizer(tokenizer)
    backend = load_backend(description)
    check_equal(tokenizer, backend)
    description["post_processor"] = _post_processor(description, backend, tokenizer.prefix_ids)
    known = {token["content"] for token in description["added_tokens"]}
    wanted = _special_texts(folder, backend)
    if isinstance(tokenizer, WordTokenizer):
        named = {"pad_token": backend.id_to_token(0), "unk_token": tokenizer.oov_token}
    else:
        named = {name: text for name, text in wanted.items() if text in known}
    named = {name: named[name] for name in NAMED_TOKENS if name in named}
    return ExportedTokenizer(
        description,
        named,
        {name: backend.token_to_id(text) for name, text in named.items()},
        {name: text for name, text in wanted.items() if named.get(name) != text},
        isinstance(tokenizer, WordTokenizer),
    )


def _special_texts(folder: ModelFolder, backend: Any) -> dict[str, str]:
    """bos_token, eos_token ... -> text: as the chat template has them, else from the ids."""
    if folder.chat_template is not None:
        return folder.chat_template.special_tokens
    tokenizer, texts = folder.tokenizer, {}
    if tokenizer.end_ids:
        texts["eos_token"] = backend.id_to_token(min(tokenizer.end_ids))
    if len(tokenizer.prefix_ids) == 1:
        texts["bos_token"] = backend.id_to_token(tokenizer.prefix_ids[0])
    elif backend.token_to_id(END_OF_TEXT) in tokenizer.end_ids:
        texts["bos_token"] = END_OF_TEXT  # as GPT-2 has it
    return {name: text for name, text in texts.items() if text is not None}


def describe_tokenizer(tokenizer: BaseTokenizer) -> dict[str, Any]:
    """The content of a tokenizer.json with the ids of `encode`. Raises DataError."""
    if isinstance(tokenizer, BytePairTokenizer):
        return json.loads(tokenizer.to_bytes())
    if isinstance(tokenizer, WordTokenizer):
        return _describe_words(tokenizer)
    if isinstance(tokenizer, CharTokenizer):
        return _describe_characters(tokenizer)
    raise DataError(f"a {tokenizer.kind} tokenizer has no form in tokenizer.json")


def _describe_words(tokenizer: WordTokenizer) -> dict[str, Any]:
    """Lower case, filtered characters to spaces, and a table of words."""
    if tokenizer.char_level or tokenizer.analyzer is not None:
        raise DataError(
            "a Tokenizer with char_level or an analyzer has no form in tokenizer.json: train with "
            "--tokenizer char instead"
        )
    unknown_id = tokenizer.oov_id
    if unknown_id is None or not 0 < unknown_id < tokenizer.vocab_size:
        raise DataError(
            "the word tokenizer has no unknown word and drops what it does not know, which no "
            "table of words in tokenizer.json does"
        )
    words = {word: i for word, i in tokenizer.word_index.items() if 0 < i < tokenizer.vocab_size}
    pad = PAD_TOKEN
    while pad in words or tokenizer.split_words(pad) == [pad]:  # no text may hold it as a word
        pad = f"{pad[:-1]}{tokenizer.split}{pad[-1]}"
    steps: list[dict[str, Any]] = []
    if tokenizer.lower:
        if any(letter in word for word in words for letter in "σς"):
            steps.append(_replace({"Regex": FINAL_SIGMA}, "ς"))
        steps.append({"type": "Lowercase"})
    if tokenizer.filters:
        steps.append(_replace({"Regex": _character_class(tokenizer.filters)}, tokenizer.split))
    cut = {"type": "Split", "pattern": {"String": tokenizer.split}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
        "pre_tokenizer": {**cut, "behavior": "Removed", "invert": False},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {pad: 0, **words},
            "unk_token": tokenizer.oov_token,
        },
    }


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _character_class(characters: str) -> str:
    """A regular expression for any one of the characters."""
    escaped = ["\\" + c if c in "[]^-&\\" else c for c in dict.fromkeys(characters)]
    return f"[{''.join(escaped)}]"


def _describe_characters(tokenizer: CharTokenizer) -> dict[str, Any]:
    """Byte-pair encoding without any pair: characters that it does not know are dropped."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": tokenizer.char_index,
            "merges": [],
        },
    }


def load_backend(description: dict[str, Any]) -> Any:
    """The `tokenizers.Tokenizer` that a tokenizer.json describes. Raises DataError."""
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_str(json.dumps(description, ensure_ascii=False))
    except Exception as error:  # the library raises a bare Exception
        reason = " ".join(str(error).split())
        raise DataError(f"the tokenizer has no form in tokenizer.json ({reason:.120})") from None


def check_equal(tokenizer: BaseTokenizer, backend: Any) -> None:
    """Compares the ids of all words or characters that a tokenizer knows.

    Args:
        tokenizer: The model's tokenizer.
        backend: The `tokenizers.Tokenizer` that is written for it.

    Raises:
        DataError: The two give different ids.
    """
    if isinstance(tokenizer, WordTokenizer):
        separator = next(iter(tokenizer.filters), tokenizer.split)
        parts, separator = tokenizer.words, separator + tokenizer.split
    elif isinstance(tokenizer, CharTokenizer):
        parts, separator = list(tokenizer.characters), ""
    else:
        return  # it is the same one
    for first in range(0, len(parts), PIECE):
        some = parts[first : first + PIECE]
        for text in (separator.join(some), separator.join(some).upper()):
            theirs = backend.encode(text, add_special_tokens=False).ids
            if theirs != tokenizer.encode(text).tolist():
                raise DataError(
                    f"the {tokenizer.kind} tokenizer has no form in tokenizer.json: ids differ "
                    f"among those for {some[0]!r} to {some[-1]!r}"
                )


def _post_processor(
    description: dict[str, Any], backend: Any, prefix_ids: tuple[int, ...]
) -> dict[str, Any] | None:
    """What adds `prefix_ids` before a text, and nothing else; the tokenizer's own where it does."""
    plain = backend.encode("a", add_special_tokens=False).ids
    if backend.encode("a", add_special_tokens=True).ids == [*prefix_ids, *plain]:
        return description["post_processor"]
    if not prefix_ids:
        return None
    texts = [backend.id_to_token(i) for i in prefix_ids]
    if None in texts:
        missing = prefix_ids[texts.index(None)]
        raise DataError(f"prefix_ids: the tokenizer has no token with the id {missing}")
    special = {
        text: {"id": text, "ids": [i], "tokens": [text]}
        for text, i in zip(texts, prefix_ids, strict=True)
    }
    first, second = (
        [{"SpecialToken": {"id": text, "type_id": kind}} for text in texts]
        + [{"Sequence": {"id": name, "type_id": kind}}]
        for name, kind in (("A", 0), ("B", 1))
    )
    return {
        "type": "TemplateProcessing",
        "single": first,
        "pair": first + second,
        "special_tokens": special,
    }
