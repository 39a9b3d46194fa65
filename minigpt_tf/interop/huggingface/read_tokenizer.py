"""The tokenizer of a Hugging Face folder, and what its files say of beginnings, ends and chats."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...config import SamplingConfig
from ...errors import ConfigError, DataError, ModelFolderError
from ...storage.json_files import read_object, read_object_if_there
from ...storage.model_folder import CHAT_TEMPLATE_NAME
from ...storage.reading import why_unreadable
from ...storage.regular import lies_within
from ...text.chat_template import ChatTemplate
from ...text.tokenizers import (
    JSON_NAME,
    ImportedTokenizer,
    byte_level_backend,
    errors_of_the_library,
    load_tokenizer,
)

SETTINGS_NAME = "tokenizer_config.json"
SPECIAL_TOKENS_NAME = "special_tokens_map.json"
ADDED_TOKENS_NAME = "added_tokens.json"
GENERATION_NAME = "generation_config.json"
VOCABULARY_NAME, MERGES_NAME = "vocab.json", "merges.txt"
SENTENCEPIECE_NAME = "tokenizer.model"

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
"""Names by which chat templates know them."""

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
    folder: Path, config: dict[str, Any], vocab_size: int
) -> tuple[ImportedTokenizer, list[int]]:
    """Reads the tokenizer of a Hugging Face folder.

    Args:
        folder: The folder.
        config: The content of config.json.
        vocab_size: Rows of the token embedding.

    Returns:
        The tokenizer with its end and prefix ids, and the ids from which an empty prompt starts.

    Raises:
        ModelFolderError: A file is missing or damaged.
        DataError: The tokenizer is unsupported or damaged.
    """
    settings = read_object_if_there(folder / SETTINGS_NAME)
    kind = _kind(folder)
    backend = _backend(folder, kind, settings)
    backend.no_truncation()  # settings of the training of a tokenizer, which files carry along
    backend.no_padding()
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


def special_tokens(folder: Path) -> dict[str, str]:
    """The texts of bos_token and so on, by name."""
    tokens = {}
    for file in (folder / SPECIAL_TOKENS_NAME, folder / SETTINGS_NAME):  # the latter counts
        values = read_object_if_there(file)
        for name in SPECIAL_TOKENS:
            value = values.get(name)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                tokens[name] = text
    return tokens


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
            names = ("single_word", "lstrip", "rstrip")
            switches = {name: token.get(name) is True for name in names}
            tokens[text] = tokenizers.AddedToken(text, normalized=False, **switches)
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


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """From chat_template.jinja, or from tokenizer_config.json. Raises ModelFolderError."""
    file, settings = folder / CHAT_TEMPLATE_NAME, read_object_if_there(folder / SETTINGS_NAME)
    template = settings.get("chat_template")
    if file.is_file():
        if not lies_within(file, folder):
            raise ModelFolderError(f"{file}: is a link that leads out of the folder")
        try:
            template = file.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise ModelFolderError(why_unreadable(file, error, "is not UTF-8")) from None
    elif isinstance(template, list):  # several by name
        named = [item for item in template if isinstance(item, dict)]
        template = next((t.get("template") for t in named if t.get("name") == "default"), None)
    if template is None:
        return None
    if not isinstance(template, str):
        raise ModelFolderError(
            f"{folder / SETTINGS_NAME}: chat_template={template!r:.40}: expected a text"
        )
    return ChatTemplate(template, special_tokens(folder))


def read_generation(folder: Path) -> dict[str, Any]:
    """The fields of SamplingConfig that generation_config.json recommends, as far as it takes
    them."""
    values = read_object_if_there(folder / GENERATION_NAME)
    if values.get("do_sample") is False:
        return {"greedy": True}
    generation: dict[str, Any] = {}
    for theirs, ours in SAMPLING_FIELDS.items():
        if values.get(theirs) is not None:
            try:
                SamplingConfig(**{ours: values[theirs]})
            except ConfigError:
                continue
            generation[ours] = values[theirs]
    return generation
