"""What the files beside a tokenizer.json say of it: added tokens, special tokens, first spaces."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...config import END_OF_TEXT
from ...errors import DataError
from ...storage.json_files import read_object_if_there
from ...text.compiled.byte_level import describe
from ...text.tokenizers import JSON_NAME

SETTINGS_NAME = "tokenizer_config.json"
SPECIAL_TOKENS_NAME = "special_tokens_map.json"
ADDED_TOKENS_NAME = "added_tokens.json"

SPECIAL_TOKENS = (
    *("bos_token", "eos_token", "unk_token", "pad_token"),
    *("sep_token", "cls_token", "mask_token"),
)
"""Names by which chat templates know them."""
CLASS_TOKENS: dict[str, dict[str, Any]] = {
    "GPT2Tokenizer": dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT),
    "Qwen2Tokenizer": dict.fromkeys(("eos_token", "unk_token", "pad_token"), END_OF_TEXT),
    "LlamaTokenizer": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
}
"""What classes of transformers take where the files do not say."""
TOWER_TOKENS = ("image_token", "audio_token", "video_token")
"""Names of tokens that stand for what a tower of vision or sound computes."""
MORE_SPECIAL_TOKENS = ("additional_special_tokens", "extra_special_tokens")
"""Names of lists of further ones."""

PREFIXING_CLASSES = ("GPT2Tokenizer", "Qwen2Tokenizer", "LlamaTokenizer")
"""Classes of transformers that heed add_prefix_space; others do as tokenizer.json says."""


def special_tokens(folder: Path) -> dict[str, str]:
    """The texts of bos_token and so on, by name.

    As in transformers, special_tokens_map.json is of the time before tokenizer_config.json listed
    the added tokens: where it does, what it says of a name counts, null as well.
    """
    settings = read_object_if_there(folder / SETTINGS_NAME)
    older = read_object_if_there(folder / SPECIAL_TOKENS_NAME)
    files = [older, settings] if "added_tokens_decoder" in settings else [settings, older]
    values = dict(CLASS_TOKENS.get(_class_of(settings), {}))
    values |= {name: value for file in files for name, value in file.items()}
    texts = {name: _text_of(values.get(name)) for name in SPECIAL_TOKENS}
    return {name: text for name, text in texts.items() if text is not None}


def _class_of(settings: dict[str, Any]) -> str:
    """The class of transformers that a tokenizer is of."""
    return str(settings.get("tokenizer_class")).removesuffix("Fast")


def _text_of(token: Any) -> str | None:
    """The text of a token, which files write alone or with switches."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def added_token(token: dict[str, Any], **switches: bool) -> Any:
    """Makes a token of `added_tokens_decoder` as the library has it.

    Args:
        token: Its content and switches.
        switches: Switches that count instead.

    Returns:
        A `tokenizers.AddedToken`.
    """
    import tokenizers

    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    given = {name: token[name] for name in names if isinstance(token.get(name), bool)}
    return tokenizers.AddedToken(token["content"], **{**given, **switches})


def add_listed_tokens(
    backend: Any,
    folder: Path,
    settings: dict[str, Any],
    vocab_size: int,
    left_out: list[str],
) -> None:
    """Adds the tokens to a tokenizer.json that only the files beside it list, as transformers does.

    Args:
        backend: The `tokenizers.Tokenizer`; it is changed.
        folder: The folder.
        settings: The content of tokenizer_config.json.
        vocab_size: Rows of the token embedding.
        left_out: Gets a sentence for each token that has no row.

    Raises:
        DataError: A token has another id than its file says.
    """
    import tokenizers

    named = [*special_tokens(folder).values(), *_more_special_tokens(folder)]
    listed = _listed_tokens(folder, settings, set(named))
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    extra = [text for text in dict.fromkeys(named) if text and text not in listed]
    wanted: list[tuple[int | None, Any]] = [
        (token_id, token)
        for token_id, token in sorted(listed.values(), key=lambda item: item[0])
        if token.content and token.content not in known
    ]
    wanted += [(None, tokenizers.AddedToken(t, special=True)) for t in extra if t not in known]
    for token_id, token in wanted:
        if token_id is None and backend.token_to_id(token.content) is None:
            token_id = _next_id(backend)  # as the library gives it
        if token_id is not None and token_id >= vocab_size:
            left_out.append(
                f"token {token.content!r:.40} of {SETTINGS_NAME}: its id {token_id} has no row"
            )
            continue
        backend.add_tokens([token])
        found = backend.token_to_id(token.content)
        if token_id is not None and found != token_id:
            raise DataError(
                f"{folder}: its added token {token.content!r:.40} should have the id {token_id}, "
                f"but gets {found}"
            )


def without_rowless(
    backend: Any, settings: dict[str, Any], vocab_size: int, left_out: list[str]
) -> Any:
    """Leaves out the tokens of images and sounds for which a model has no row.

    Gemma 3's tokenizer.json has one, which its models without a tower have no embedding for. Any
    other token without a row says that tokenizer and model do not belong together.

    Args:
        backend: The `tokenizers.Tokenizer`.
        settings: The content of tokenizer_config.json.
        vocab_size: Rows of the token embedding.
        left_out: Gets a sentence for each token.

    Returns:
        The tokenizer: the same if there is no such token.
    """
    import tokenizers

    named = {_text_of(settings.get(name)) for name in TOWER_TOKENS}
    rowless = {
        token.content: token_id
        for token_id, token in backend.get_added_tokens_decoder().items()
        if token_id >= vocab_size and token.content in named
    }
    if not rowless:
        return backend
    description = describe(backend)
    left_out += [f"token {text!r:.40}: its id {i} has no row" for text, i in rowless.items()]
    added = description["added_tokens"]
    description["added_tokens"] = [t for t in added if t["content"] not in rowless]
    return tokenizers.Tokenizer.from_str(json.dumps(description))


def _next_id(backend: Any) -> int:
    """The id of the next token that is added."""
    added = max(backend.get_added_tokens_decoder(), default=-1)
    return max(added + 1, backend.get_vocab_size(with_added_tokens=False))


def _listed_tokens(
    folder: Path, settings: dict[str, Any], special: set[str]
) -> dict[str, tuple[int, Any]]:
    """Ids and tokens by text: of tokenizer_config.json, else of added_tokens.json."""
    import tokenizers

    found: dict[str, tuple[int, Any]] = {}
    decoder = settings.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        for number, token in decoder.items():
            if not (number.isdecimal() and isinstance(token, dict) and _text_of(token)):
                raise DataError(
                    f"{folder / SETTINGS_NAME}: added_tokens_decoder is damaged at {number!r:.20}"
                )
            switches = {"special": True} if token["content"] in special else {}
            found[token["content"]] = int(number), added_token(token, **switches)
        return found
    for text, token_id in read_object_if_there(folder / ADDED_TOKENS_NAME).items():
        if type(token_id) is not int or token_id < 0:
            raise DataError(f"{folder / ADDED_TOKENS_NAME}: is damaged: expected a number for each")
        is_special = text in special
        token = tokenizers.AddedToken(text, normalized=not is_special, special=is_special)
        found[text] = token_id, token
    return found


def _more_special_tokens(folder: Path) -> list[str]:
    """The further special tokens, which have no names."""
    texts: list[str] = []
    for file in (folder / SETTINGS_NAME, folder / SPECIAL_TOKENS_NAME):
        values = read_object_if_there(file)
        for name in MORE_SPECIAL_TOKENS:
            tokens = values.get(name)
            items = tokens.values() if isinstance(tokens, dict) else tokens
            texts += filter(None, map(_text_of, items if items else ()))
    return texts


def set_prefix_space(backend: Any, folder: Path, settings: dict[str, Any]) -> None:
    """Lets a text begin with a space, or not, where tokenizer_config.json says so.

    Args:
        backend: The `tokenizers.Tokenizer`; it is changed.
        folder: The folder.
        settings: The content of tokenizer_config.json.

    Raises:
        DataError: The tokenizer has no place for the space.
    """
    kind = _class_of(settings)
    wanted = settings.get("add_prefix_space")
    if kind in ("GPT2Tokenizer", "Qwen2Tokenizer") and wanted is None:
        wanted = False
    if not isinstance(wanted, bool) or kind not in PREFIXING_CLASSES:
        return
    names = ("normalizer", "pre_tokenizer", "decoder")
    found = [getattr(backend, name) for name in names]
    parts = {
        name: None if part is None else json.loads(part.__getstate__())
        for name, part in zip(names, found, strict=True)
    }
    scheme = "never" if not wanted else "first" if settings.get("legacy") is False else "always"
    prepends = any(step.get("type") == "Prepend" for step in _steps(parts["normalizer"]))
    has_place = prepends
    for step in [*_steps(parts["pre_tokenizer"]), *_steps(parts["decoder"])]:
        if step.get("type") == "ByteLevel":
            step["add_prefix_space"] = wanted
            has_place = True
        elif step.get("type") == "Metaspace":
            if (step.get("prepend_scheme") != "never") != wanted and not prepends:
                step["prepend_scheme"] = scheme
            has_place = True
    if wanted and not has_place:
        raise DataError(f"{folder / SETTINGS_NAME}: add_prefix_space has no place in {JSON_NAME}")
    if not wanted and kind == "LlamaTokenizer":
        parts = {name: _without(part, ("Prepend", "Strip")) for name, part in parts.items()}
    _set_parts(backend, parts)


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """A part of a tokenizer, and all steps that it consists of."""
    if isinstance(part, dict):
        yield part
        for name in ("normalizers", "pretokenizers", "decoders"):
            for step in part.get(name) or ():
                yield from _steps(step)


def _without(part: Any, kinds: tuple[str, ...]) -> Any:
    """The part without steps of some kinds."""
    if not isinstance(part, dict) or part.get("type") in kinds:
        return None
    for name in ("normalizers", "pretokenizers", "decoders"):
        if name in part:
            part[name] = [step for step in part[name] if _without(step, kinds) is not None]
    return part


def _set_parts(backend: Any, parts: dict[str, Any]) -> None:
    """Gives a tokenizer other parts, from their descriptions in JSON."""
    import tokenizers

    smallest = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    described: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "model": smallest,
        "post_processor": None,
    }
    described |= dict.fromkeys(("truncation", "padding", "post_processor")) | parts
    made = tokenizers.Tokenizer.from_str(json.dumps(described))
    for name in parts:
        setattr(backend, name, getattr(made, name))
