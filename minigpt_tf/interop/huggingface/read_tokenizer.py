"""The tokenizer of a Hugging Face folder, and what its files say of beginnings, ends and chats."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...errors import DataError, ModelFolderError
from ...storage.json_files import read_object, read_object_if_there
from ...storage.model_folder import CHAT_TEMPLATE_NAME
from ...storage.reading import why_unreadable
from ...storage.regular import lies_within
from ...text.chat_template import ChatTemplate
from ...text.library_limits import check_ids
from ...text.tokenizers import (
    JSON_NAME,
    ImportedTokenizer,
    byte_level_backend,
    errors_of_the_library,
    load_tokenizer,
)
from ..source import recommended
from .tokenizer_settings import (
    ADDED_TOKENS_NAME,
    SETTINGS_NAME,
    add_listed_tokens,
    added_token,
    set_prefix_space,
    special_tokens,
    without_rowless,
)

GENERATION_NAME = "generation_config.json"
VOCABULARY_NAME, MERGES_NAME = "vocab.json", "merges.txt"
SENTENCEPIECE_NAME = "tokenizer.model"

SAMPLING_FIELDS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram",
}
"""Of generation_config.json -> of SamplingConfig."""


def read_tokenizer(
    folder: Path, config: dict[str, Any], vocab_size: int, left_out: list[str] | None = None
) -> tuple[ImportedTokenizer, list[int]]:
    """Reads the tokenizer of a Hugging Face folder.

    Args:
        folder: The folder.
        config: The content of config.json.
        vocab_size: Rows of the token embedding.
        left_out: Gets a sentence for each thing that is not taken over.

    Returns:
        The tokenizer with its end and prefix ids, and the ids from which an empty prompt starts.

    Raises:
        ModelFolderError: A file is missing or damaged.
        DataError: The tokenizer is unsupported or damaged.
    """
    settings = read_object_if_there(folder / SETTINGS_NAME)
    kind = _kind(folder)
    backend = _backend(folder, kind, settings)
    if kind == JSON_NAME:
        notes = [] if left_out is None else left_out
        backend = without_rowless(backend, settings, vocab_size, notes)
        add_listed_tokens(backend, folder, settings, vocab_size, notes)
        set_prefix_space(backend, folder, settings)
    ids = {name: backend.token_to_id(text) for name, text in special_tokens(folder).items()}
    begin, end = ids.get("bos_token"), ids.get("eos_token")
    # As in transformers, the model's own setting counts where there is no generation_config.json.
    generation = read_object_if_there(folder / GENERATION_NAME)
    stated = generation.get("eos_token_id", config.get("eos_token_id"))
    ends = [end, *(stated if isinstance(stated, list) else [stated])]
    prefix = _prefix(backend, folder)
    adds_begin = settings.get("add_bos_token", kind == SENTENCEPIECE_NAME)
    if not prefix and adds_begin is True and begin is not None:
        prefix = [begin]
    tokenizer = ImportedTokenizer(backend, _ids_below(vocab_size, ends), prefix)
    starts = _ids_below(vocab_size, [begin, config.get("bos_token_id"), *ends])
    return tokenizer, prefix or starts[:1] or [0]


def _kind(folder: Path) -> str:
    """The file that the tokenizer is in. Raises ModelFolderError if it is absent."""
    if (folder / JSON_NAME).is_file():
        return JSON_NAME
    if (folder / VOCABULARY_NAME).is_file() and (folder / MERGES_NAME).is_file():
        return VOCABULARY_NAME
    if (folder / SENTENCEPIECE_NAME).is_file():
        return SENTENCEPIECE_NAME
    raise ModelFolderError(
        f"{folder}: contains no tokenizer: expected {JSON_NAME}, or {VOCABULARY_NAME} with "
        f"{MERGES_NAME}, or {SENTENCEPIECE_NAME}"
    )


def _ids_below(vocab_size: int, ids: Iterable[Any]) -> list[int]:
    """Those that are ids of the model: files name some that it does not have."""
    return [i for i in ids if type(i) is int and 0 <= i < vocab_size]


def _backend(folder: Path, kind: str, settings: dict[str, Any]) -> Any:
    """The `tokenizers.Tokenizer` in the file `kind`."""
    if kind == JSON_NAME:
        tokenizer = load_tokenizer(folder / JSON_NAME, "imported")
        if not isinstance(tokenizer, ImportedTokenizer):
            raise DataError(f"{folder / JSON_NAME}: is not an imported tokenizer")
        return tokenizer.backend
    if kind == VOCABULARY_NAME:
        tokens, merges = read_byte_pairs(folder / VOCABULARY_NAME, folder / MERGES_NAME)
        backend = byte_pair_backend(tokens, merges, settings.get("add_prefix_space") is True)
    else:
        from ..vocabularies import sentencepiece_tokenizer

        backend = sentencepiece_tokenizer(folder / SENTENCEPIECE_NAME)
    _add_tokens(backend, folder, settings)
    return backend


def read_byte_pairs(vocabulary: Path, merges: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Reads the two files of GPT-2's tokenizer.

    Args:
        vocabulary: Such as vocab.json: ids by token.
        merges: Such as merges.txt: a pair of tokens on each line.

    Returns:
        The ids by token, and the merges in order of rank.

    Raises:
        DataError: The merges cannot be read, or a file is damaged.
        ModelFolderError: The vocabulary is missing or not a JSON object.
    """
    tokens = read_object(vocabulary)
    if not all(type(i) is int and 0 <= i < 2**31 for i in tokens.values()):
        raise DataError(f"{vocabulary}: is damaged: expected a number for each token")
    try:
        check_ids(max(tokens.values(), default=0), len(tokens))
    except DataError as error:
        raise DataError(f"{vocabulary}: {error}") from None
    try:
        lines = merges.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeError) as error:
        raise DataError(why_unreadable(merges, error, "is not UTF-8")) from None
    lines = [line for line in lines if line and not line.startswith("#version")]
    pairs: list[Any] = [tuple(line.split(" ")) for line in lines]
    wrong = next((pair for pair in pairs if len(pair) != 2), None)
    if wrong is not None:
        raise DataError(f"{merges}: is damaged: {' '.join(wrong)!r:.40} is not a pair of tokens")
    return tokens, pairs


def byte_pair_backend(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], add_prefix_space: bool = False
) -> Any:
    """Builds a tokenizer that splits text as GPT-2 does.

    Args:
        vocabulary: Ids by token.
        merges: Pairs of tokens in order of rank.
        add_prefix_space: Whether a text without a leading space gets one.

    Returns:
        A `tokenizers.Tokenizer`.

    Raises:
        DataError: The vocabulary and the merges do not fit together.
    """
    import tokenizers

    with errors_of_the_library("the tokenizer's vocabulary and merges do not fit together"):
        model = tokenizers.models.BPE(vocab=vocabulary, merges=merges)
    return byte_level_backend(model, add_prefix_space)


def _add_tokens(backend: Any, folder: Path, settings: dict[str, Any]) -> None:
    """Adds the tokens that stand beside the vocabulary, which no text is ever split within.

    Raises DataError where one has another id than its file says.
    """
    import tokenizers

    ids: dict[str, Any] = dict(read_object_if_there(folder / ADDED_TOKENS_NAME))
    tokens = {text: tokenizers.AddedToken(text, normalized=False) for text in ids}
    decoder = settings.get("added_tokens_decoder")
    for number, token in (decoder if isinstance(decoder, dict) else {}).items():
        text = token.get("content") if isinstance(token, dict) else None
        if isinstance(text, str) and number.isdecimal():
            tokens[text] = added_token(token, normalized=False)
            ids[text] = int(number)
    if not all(type(i) is int for i in ids.values()):
        raise DataError(f"{folder / ADDED_TOKENS_NAME}: is damaged: expected a number for each")
    for text in special_tokens(folder).values():
        if text not in tokens and backend.token_to_id(text) is not None:
            tokens[text] = tokenizers.AddedToken(text, normalized=False)
            ids[text] = backend.token_to_id(text)
    for text in sorted(tokens, key=ids.__getitem__):
        backend.add_special_tokens([tokens[text]])
        if backend.token_to_id(text) != ids[text]:
            raise DataError(
                f"{folder}: its added token {text!r:.40} should have the id {ids[text]}, but gets "
                f"{backend.token_to_id(text)}"
            )


def _prefix(backend: Any, where: Path) -> list[int]:
    """The ids that the tokenizer's own post-processor puts before every text."""
    with errors_of_the_library(f"{where}: the tokenizer cannot encode a text: it is damaged"):
        encoding = backend.encode("a")
    ids, is_added = encoding.ids, encoding.special_tokens_mask
    return ids[: is_added.index(0)] if 0 in is_added else []


def read_chat_template(folder: Path, left_out: list[str] | None = None) -> ChatTemplate | None:
    """Reads the chat template of a Hugging Face folder.

    Args:
        folder: The folder: with chat_template.jinja, or with a template in tokenizer_config.json.
        left_out: Gets a sentence where none of several templates is the default.

    Returns:
        The template, if there is one.

    Raises:
        ModelFolderError: A file cannot be read, or what should be a template is not a text.
    """
    file, settings = folder / CHAT_TEMPLATE_NAME, read_object_if_there(folder / SETTINGS_NAME)
    template = settings.get("chat_template")
    if file.is_file():
        if not lies_within(file, folder):
            raise ModelFolderError(f"{file}: is a link that leads out of the folder")
        try:
            template = file.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise ModelFolderError(why_unreadable(file, error, "is not UTF-8")) from None
    elif isinstance(template, list | dict):  # several by name
        items = template if isinstance(template, list) else [template]
        named = {t["name"]: t.get("template") for t in items if isinstance(t, dict) and "name" in t}
        if isinstance(template, dict) and not named:
            named = template
        template = named.get("default")
        if template is None and named and left_out is not None:
            names = ", ".join(map(repr, named))
            left_out.append(f"chat templates {names} of {SETTINGS_NAME}: none is the default")
    if template is None:
        return None
    if not isinstance(template, str):
        raise ModelFolderError(
            f"{folder / SETTINGS_NAME}: chat_template={template!r:.40}: expected a text"
        )
    return ChatTemplate(template, special_tokens(folder))


def read_generation(folder: Path, left_out: list[str] | None = None) -> dict[str, Any]:
    """Reads how the model's makers recommend to sample.

    Args:
        folder: The folder, perhaps with generation_config.json.
        left_out: Gets a sentence for each value that is out of range.

    Returns:
        Fields of SamplingConfig.
    """
    values = read_object_if_there(folder / GENERATION_NAME)
    if values.get("do_sample") is False:
        return {"greedy": True}
    stated = {
        f"{GENERATION_NAME}: {key}": (ours, values.get(key))
        for key, ours in SAMPLING_FIELDS.items()
    }
    return recommended(stated, left_out)
