"""The tokenizers: word (Keras's Tokenizer), char, bpe and gpt2 (byte-level), imported.

All offer the same methods; `train_tokenizer` makes one from texts, `load_tokenizer` reads one from
a file. TensorFlow is never imported.
"""

import copy
import functools
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..config import END_OF_TEXT
from ..errors import ConfigError, DataError, ModelFolderError
from ..storage.regular import read_regular
from . import gpt2_files
from .base_tokenizer import (
    CUT_BEFORE,
    JSON_NAME,
    LONG_TEXT,
    PICKLE_NAME,
    TOKENIZER_NAMES,
    BaseTokenizer,
)
from .compiled import byte_level
from .unicode import well_formed
from .vocabulary import PickledTokenizer, dump_plain_pickle, load_plain_pickle
from .word_tokenizer import Tokenizer, WordTokenizer, tokenizer_from_json

__all__ = [
    "CUT_BEFORE",
    "JSON_NAME",
    "LONG_TEXT",
    "PICKLE_NAME",
    "TOKENIZER_NAMES",
    "BaseTokenizer",
    "BytePairTokenizer",
    "CharTokenizer",
    "ImportedTokenizer",
    "Tokenizer",
    "WordTokenizer",
    "byte_level_backend",
    "errors_of_the_library",
    "load_tokenizer",
    "tokenizer_from_json",
    "train_tokenizer",
]

SHORT_TEXT = 2000
"""Characters of a text that is encoded at once; other threads run while a longer one is."""
CANNOT_ENCODE = "the tokenizer cannot encode this text"


class CharTokenizer(BaseTokenizer):
    """One id for each character of the training text, in the order of their code points."""

    kind = "char"

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self.char_index = {character: index for index, character in enumerate(characters)}
        codes = [ord(character) for character in characters]
        self._ids = np.full(max(codes, default=0) + 2, -1, dtype=np.int32)  # by code point
        self._ids[codes] = np.arange(len(codes))

    @classmethod
    def train(cls, texts: Iterable[str]) -> "CharTokenizer":
        """Collects the characters of the texts."""
        characters: set[str] = set()
        for text in texts:
            characters.update(well_formed(text))
        return cls("".join(sorted(characters)))

    def encode(self, text: str) -> np.ndarray:
        codes = np.frombuffer(well_formed(text).encode("utf-32-le"), dtype="<u4")
        ids = self._ids[np.minimum(codes, len(self._ids) - 1)]
        return ids[ids >= 0]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.characters[i] for i in ids)

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    @property
    def known_size(self) -> int:
        return self.vocab_size

    def unknown(self, text: str) -> list[str]:
        return [c for c in dict.fromkeys(well_formed(text)) if c not in self.char_index]

    def to_bytes(self) -> bytes:
        return dump_plain_pickle({"kind": self.kind, "characters": self.characters})


class BytePairTokenizer(BaseTokenizer):
    """Byte-level BPE of the `tokenizers` library: no character is ever unknown."""

    kind = "bpe"
    document_separator = END_OF_TEXT

    def __init__(self, backend: Any, kind: str = "bpe") -> None:
        """`backend`: a `tokenizers.Tokenizer`."""
        self.backend, self.kind = backend, kind
        self._size = backend.get_vocab_size()
        end_id = backend.token_to_id(END_OF_TEXT)
        self.end_ids = frozenset() if end_id is None else frozenset({end_id})

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "BytePairTokenizer":
        """Learns the merges of byte-level BPE.

        Args:
            texts: The training text, in any chunks.
            vocab_size: Tokens to learn at most, with the 256 bytes and the end of text.
                Training stops early if no pair repeats.

        Returns:
            The tokenizer.

        Raises:
            ConfigError: `vocab_size` is below 257.
        """
        import tokenizers

        if vocab_size < 257:
            raise ConfigError(f"vocab_size={vocab_size}: byte-level BPE needs at least 257")
        backend = byte_level_backend(tokenizers.models.BPE())
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(map(well_formed, texts), trainer)
        return cls(backend)

    @classmethod
    def gpt2(cls) -> "BytePairTokenizer":
        """OpenAI's GPT-2 tokenizer: 50,257 tokens; `gpt2_files` says where it is looked for."""
        import tokenizers

        vocabulary, merges = gpt2_files.find()
        try:
            model = tokenizers.models.BPE(vocab=vocabulary, merges=merges)
        except Exception as error:  # the library raises a bare Exception
            raise DataError(f"GPT-2's tokenizer files do not fit together: {error}") from None
        backend = byte_level_backend(model)
        backend.add_special_tokens([END_OF_TEXT])
        return cls(backend, kind="gpt2")

    @property
    def vocab_size(self) -> int:
        return self._size

    @functools.cached_property
    def cut_before(self) -> str:
        return CUT_BEFORE if byte_level.cuts_as_gpt2(byte_level.describe(self.backend)) else ""

    def encode(self, text: str) -> np.ndarray:
        if len(text) > SHORT_TEXT:
            return self._encode_batch(text)
        with errors_of_the_library(CANNOT_ENCODE):
            try:
                encoding = self.backend.encode(text, add_special_tokens=False)
            except TypeError:  # UTF-8 cannot write half a character
                encoding = self.backend.encode(well_formed(text), add_special_tokens=False)
        return np.array(encoding.ids, dtype=np.int32)

    def chunk_encoder(self, characters: int) -> Callable[[str], np.ndarray]:
        fast = None
        if characters >= LONG_TEXT:
            fast = byte_level.fast_encoder(byte_level.describe(self.backend))
        return fast or self._encode_batch

    def _encode_batch(self, text: str) -> np.ndarray:
        """As `encode`; other threads run meanwhile."""
        with errors_of_the_library(CANNOT_ENCODE):
            chunks = [well_formed(text)]
            (encoding,) = self.backend.encode_batch_fast(chunks, add_special_tokens=False)
        return np.array(encoding.ids, dtype=np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        known = [int(i) for i in ids]
        with errors_of_the_library("the tokenizer cannot decode: it is damaged"):
            if len(known) <= SHORT_TEXT:
                return self.backend.decode(known, skip_special_tokens=False)
            (text,) = self.backend.decode_batch([known], skip_special_tokens=False)
            return text

    @property
    def known_size(self) -> int:
        return self.vocab_size

    @functools.cached_property
    def added_tokens(self) -> dict[str, tuple[int, bool]]:
        added = self.backend.get_added_tokens_decoder()
        return {token.content: (i, token.special) for i, token in added.items() if token.content}

    @functools.cached_property
    def unknown_ids(self) -> frozenset[int]:
        named = self.id_of(getattr(self.backend.model, "unk_token", None) or "")
        ids = set() if named is None else {named}
        with suppress(DataError):  # it has no word for the unknown
            ids |= {*self.encode("\U0010fffd\ua66e").tolist()}  # private, and of one manuscript
        return frozenset(ids)

    def id_of(self, token: str) -> int | None:
        return self.backend.token_to_id(token)

    def normalizes(self, tokens: Iterable[str]) -> bool:
        if self.backend.normalizer is None:
            return False
        chosen, added = set(tokens), self.backend.get_added_tokens_decoder().values()
        return any(token.normalized for token in added if token.content in chosen)

    def renamed(self, names: Mapping[str, str]) -> Self:
        import tokenizers

        from .renaming import rename_tokens

        wanted = {name: self.id_of(text) for text, name in names.items()}
        with errors_of_the_library("the tokenizer cannot do without its special tokens"):
            content = rename_tokens(self.backend.to_str(pretty=False), names)
            backend = tokenizers.Tokenizer.from_str(content)
        if any(backend.token_to_id(name) != token_id for name, token_id in wanted.items()):
            raise DataError("the tokenizer cannot do without its special tokens")
        other = copy.copy(self)
        other.backend = backend
        return other

    def to_bytes(self) -> bytes:
        return self.backend.to_str(pretty=False).encode()


class ImportedTokenizer(BytePairTokenizer):
    """The tokenizer of an imported model, of any kind that the `tokenizers` library has."""

    def __init__(
        self, backend: Any, end_ids: Iterable[int] = (), prefix_ids: Iterable[int] = ()
    ) -> None:
        from .library_limits import check_ids

        super().__init__(backend, "imported")
        self.end_ids, self.prefix_ids = frozenset(end_ids), tuple(prefix_ids)
        self._ids = frozenset(backend.get_vocab().values())
        self._size = max(self._ids, default=0) + 1  # some vocabularies have gaps
        check_ids(self._size - 1, len(self._ids))

    @property
    def known_size(self) -> int:
        return len(self._ids)

    def suppressed_ids(self, vocab_size: int) -> np.ndarray:
        return np.array(sorted(set(range(vocab_size)) - self._ids), dtype=int)


def byte_level_backend(model: Any, add_prefix_space: bool = False) -> Any:
    """Wraps a model of the tokenizers library to split text as GPT-2 does and keep every byte.

    Args:
        model: Such as `tokenizers.models.BPE`.
        add_prefix_space: Whether a text without a leading space gets one.

    Returns:
        A `tokenizers.Tokenizer`.
    """
    import tokenizers

    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = tokenizers.decoders.ByteLevel()
    return backend


def train_tokenizer(kind: str, texts: Iterable[str], vocab_size: int) -> BaseTokenizer:
    """Learns a tokenizer.

    Args:
        kind: word, char, bpe or gpt2.
        texts: The texts, or chunks of them.
        vocab_size: Bound on the tokens of word and bpe; char has what the text has, and gpt2 what
            OpenAI gave it.

    Returns:
        The tokenizer.

    Raises:
        ConfigError: `vocab_size` is too small for the kind.
        DataError: GPT-2's files are unavailable.

    Example:
        >>> import minigpt_tf as mg
        >>> tokenizer = mg.train_tokenizer("char", ["he was a genius"], 100)
        >>> tokenizer.decode(tokenizer.encode("genius")), tokenizer.vocab_size
        ('genius', 10)
    """
    if kind == "word":
        return WordTokenizer.train(texts, vocab_size)
    if kind == "char":
        return CharTokenizer.train(texts)
    if kind == "bpe":
        return BytePairTokenizer.train(texts, vocab_size)
    return BytePairTokenizer.gpt2()


def load_tokenizer(path: str | Path, kind: str | None = None) -> BaseTokenizer:
    """Loads a tokenizer.

    Args:
        path: A tokenizer.pkl or tokenizer.json file. Nothing in it is run.
        kind: The kind expected; bpe and gpt2 have the same format.

    Returns:
        The tokenizer.

    Raises:
        DataError: The file cannot be read, is not a tokenizer, or is of another kind.

    Example:
        >>> from pathlib import Path
        >>> import minigpt_tf as mg
        >>> tokenizer = mg.train_tokenizer("char", ["he was a genius"], 100)
        >>> _ = Path("tokenizer.pkl").write_bytes(tokenizer.to_bytes())
        >>> mg.load_tokenizer("tokenizer.pkl", "char").vocab_size
        10
    """
    path = Path(path)
    try:
        content = read_regular(path)
    except ModelFolderError as error:
        raise DataError(str(error)) from None
    try:
        if path.suffix == ".json":
            return _load_json(content, kind or "bpe")
        tokenizer = _load_pickle(content)
        if kind not in (None, tokenizer.kind):
            raise DataError(f"is a {tokenizer.kind} tokenizer, where {kind} was expected")
        return tokenizer
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def as_tokenizer(tokenizer: Any) -> BaseTokenizer:
    """A tokenizer of ours as it is; Keras's `Tokenizer`, or the path of a tokenizer's file, as one.

    Raises:
        DataError: it is none of these, or was not fitted on any text.

    Example:
        >>> as_tokenizer(CharTokenizer("abc")).vocab_size
        3
    """
    if isinstance(tokenizer, BaseTokenizer):
        return tokenizer
    if isinstance(tokenizer, (str, Path)):
        return load_tokenizer(tokenizer)
    if type(tokenizer).__name__ == "Tokenizer" and hasattr(tokenizer, "texts_to_sequences"):
        return _load_pickle(pickle.dumps(tokenizer))
    raise DataError(
        f"{type(tokenizer).__name__} is not a tokenizer: give a minigpt_tf.Tokenizer, Keras's, or "
        "the path of tokenizer.pkl"
    )


@contextmanager
def errors_of_the_library(message: str) -> Iterator[None]:
    """Raises DataError with the message where the `tokenizers` library fails.

    It raises bare Exceptions, and where its Rust code panics what is not even an Exception.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        import logging

        logging.getLogger(__name__).debug("tokenizers: %s", error)
        raise DataError(message) from None


def _load_json(content: bytes, kind: str) -> BytePairTokenizer:
    import tokenizers

    from .library_limits import check_backend, check_content

    check_content(content)
    with errors_of_the_library("is damaged, or not a file of the tokenizers library"):
        backend = tokenizers.Tokenizer.from_buffer(content)
    check_backend(backend)
    backend.no_truncation()  # settings of the training of a tokenizer, which files carry along
    backend.no_padding()
    if kind == "imported":
        return ImportedTokenizer(backend)
    vocabulary = backend.get_vocab()
    byte_level = type(backend.model).__name__ == "BPE" and backend.decoder is not None
    if not byte_level or max(vocabulary.values(), default=0) >= len(vocabulary):
        raise DataError("is not a byte-level BPE tokenizer")
    return BytePairTokenizer(backend, kind)


def _load_pickle(content: bytes) -> BaseTokenizer:
    values = load_plain_pickle(content)
    if type(values) is PickledTokenizer:
        tokenizer = Tokenizer.from_state(values.state)
        if not tokenizer.word_index:
            raise DataError("holds a Tokenizer that was not fitted on any text")
        return tokenizer
    kind = values.get("kind") if type(values) is dict else None
    if kind == "word":
        return Tokenizer.from_file({name: values[name] for name in values if name != "kind"})
    if kind == "char" and type(values.get("characters")) is str and values["characters"]:
        return CharTokenizer(values["characters"])
    raise DataError("is not a tokenizer: expected a dict with kind 'word' or 'char'")
