"""The tokenizers: word (the ids of Keras's Tokenizer), char, bpe and gpt2 (byte-level), imported.

All offer the same methods; `train_tokenizer` makes one from texts, `load_tokenizer` reads one from
a file. TensorFlow is never imported.
"""

import collections
import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..config import END_OF_TEXT, OOV_TOKEN, WORD_TOKENIZER_FILTERS
from ..errors import ConfigError, DataError
from . import byte_level, gpt2_files
from .vocabulary import KerasTokenizerRecord, dump_plain_pickle, load_plain_pickle

PICKLE_NAME = "tokenizer.pkl"
JSON_NAME = "tokenizer.json"
TOKENIZER_NAMES = {"word": PICKLE_NAME, "char": PICKLE_NAME}
TOKENIZER_NAMES |= dict.fromkeys(("bpe", "gpt2", "imported"), JSON_NAME)
"""The file of each kind of tokenizer."""

CUT_BEFORE = " \n"
"""No word, nor byte pair, lies across a cut before one of these and behind what is no white space:
a text may be cut there, and no vocabulary learned from it changes."""

LONG_TEXT = 4_000_000
"""From so many characters on compiled code encodes a text; it takes a second to get ready."""


class Tokenizer(ABC):
    """Text <-> token ids. `vocab_size` is the number of ids a model needs: all are below it."""

    kind: str
    vocab_size: int
    document_separator = "\n\n"
    end_ids: frozenset[int] = frozenset()
    """Ids that end a text when they are generated."""
    prefix_ids: tuple[int, ...] = ()
    """Ids that the model expects before every text, such as <s>; `encode` does not add them."""
    cut_before: str | None = None
    """The characters before which, and behind what is no white space, a text may be cut without a
    change of its ids; None: it may be cut anywhere."""

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Text -> int32 ids of shape (T,)."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """The content of the tokenizer's file."""

    @property
    def file_name(self) -> str:
        return TOKENIZER_NAMES[self.kind]

    @property
    @abstractmethod
    def known_size(self) -> int:
        """Number of ids that stand for text; at most `vocab_size`."""

    def unknown(self, text: str) -> list[str]:
        """The parts of the text that the tokenizer does not know, in order, each once."""
        return []

    def count_unknown(self, counts: np.ndarray) -> int:
        """How many tokens stand for something unknown; `counts` (vocab_size,): tokens by id."""
        return 0

    def piece_encoder(self, characters: int) -> Callable[[str], np.ndarray]:
        """What `encode` does, for the pieces of a text of so many characters, in many threads."""
        return self.encode

    def suppressed_ids(self, vocab_size: int) -> np.ndarray:
        """The ids below a model's `vocab_size` that stand for no text: never to be generated."""
        return np.arange(self.vocab_size, vocab_size)


class WordTokenizer(Tokenizer):
    """Words as Keras's `Tokenizer(num_words, oov_token="<OOV>")` has them, with the same ids.

    Id 0 is padding, id 1 the unknown word, then words by falling frequency, equals in the order
    of the text. Words whose id would be `num_words` or more are unknown.
    """

    kind = "word"

    def __init__(
        self,
        words: Sequence[str],
        num_words: int | None,
        oov_token: str | None = OOV_TOKEN,
        filters: str = WORD_TOKENIZER_FILTERS,
        lower: bool = True,
        split: str = " ",
    ) -> None:
        """`words`: the vocabulary in the order of the ids 1, 2, ...; the unknown word included."""
        self.words = list(words)
        self.num_words, self.oov_token = num_words, oov_token
        self.filters, self.lower, self.split = filters, lower, split
        self.word_index = {word: index for index, word in enumerate(self.words, start=1)}
        self.oov_id = None if oov_token is None else self.word_index.get(oov_token)
        self.vocab_size = num_words or len(self.words) + 1
        self._spaces = str.maketrans({character: split for character in filters})
        self.cut_before = "".join(
            c for c in CUT_BEFORE if c in (split, *filters) and len(split) == 1
        )

    @classmethod
    def train(cls, texts: Iterable[str], num_words: int) -> "WordTokenizer":
        """Counts the words of the texts, as Keras's `fit_on_texts` does."""
        if num_words < 3:
            raise ConfigError(
                f"vocab_size={num_words}: words need at least 3 (padding, unknown, one)"
            )
        counts: collections.Counter[str] = collections.Counter()
        tokenizer = cls([], num_words)
        for text in texts:
            counts.update(tokenizer.split_words(text))
        by_frequency = sorted(counts, key=counts.__getitem__, reverse=True)  # stable, like Keras
        return cls([OOV_TOKEN, *by_frequency], num_words)

    def split_words(self, text: str) -> list[str]:
        """Text -> lower-case words, punctuation removed."""
        if self.lower:
            text = text.lower()
        return [word for word in text.translate(self._spaces).split(self.split) if word]

    def _id(self, word: str) -> int | None:
        index = self.word_index.get(word)
        if index is None or (self.num_words and index >= self.num_words):
            return self.oov_id
        return index

    def encode(self, text: str) -> np.ndarray:
        ids = (self._id(word) for word in self.split_words(text))
        return np.array([index for index in ids if index is not None], dtype=np.int32)

    def piece_encoder(self, characters: int) -> Callable[[str], np.ndarray]:
        """`encode`, or for long texts its equal in compiled code."""
        separators = {self.split, *self.filters}
        if characters < LONG_TEXT or len(self.split) != 1 or not "".join(separators).isascii():
            return self.encode
        from .word_table import WordTable  # Numba: only where a long text is to be encoded

        unknown = (None, self.oov_id)
        known = {word: i for word in self.word_index if (i := self._id(word)) not in unknown}
        table = WordTable(known, self.oov_id, separators)
        return lambda text: table.encode(text.lower() if self.lower else text)

    def decode(self, ids: Iterable[int]) -> str:
        unknown = self.oov_token or ""
        words = self.words
        known = self.known_size
        return " ".join(words[i - 1] if 0 < i <= known else unknown for i in map(int, ids))

    @property
    def known_size(self) -> int:
        return min(len(self.words), self.vocab_size - 1)

    def unknown(self, text: str) -> list[str]:
        words = dict.fromkeys(self.split_words(text))
        return [word for word in words if self._id(word) in (None, self.oov_id)]

    def count_unknown(self, counts: np.ndarray) -> int:
        return 0 if self.oov_id is None else int(counts[self.oov_id])

    def suppressed_ids(self, vocab_size: int) -> np.ndarray:
        silent = [0] if self.oov_id is None else [0, self.oov_id]
        return np.concatenate([silent, np.arange(self.known_size + 1, vocab_size)]).astype(int)

    def to_bytes(self) -> bytes:
        names = ("kind", "words", "num_words", "oov_token", "filters", "lower", "split")
        return dump_plain_pickle({name: getattr(self, name) for name in names})

    @classmethod
    def from_keras(cls, record: KerasTokenizerRecord) -> "WordTokenizer":
        """The tokenizer that a pickled Keras `Tokenizer` describes."""
        values = vars(record)
        word_index = values.get("word_index")
        if not isinstance(word_index, dict) or not word_index:
            raise DataError("holds a Keras Tokenizer that was not fitted on any text")
        if values.get("char_level"):
            raise DataError("holds a Keras Tokenizer with char_level=True: use --tokenizer char")
        ids = {word: index for word, index in word_index.items() if index != 0}  # 0 is padding
        if set(ids.values()) != set(range(1, len(ids) + 1)):
            raise DataError(f"holds a word_index whose ids are not 1 to {len(ids)}, each once")
        words = sorted(ids, key=ids.__getitem__)
        names = ("num_words", "oov_token", "filters", "lower", "split")
        return _word_tokenizer({"words": words, **{name: values.get(name) for name in names}})


class CharTokenizer(Tokenizer):
    """One id for each character of the training text, in the order of their code points."""

    kind = "char"

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self.char_index = {character: index for index, character in enumerate(characters)}
        self.vocab_size = len(characters)
        codes = [ord(character) for character in characters]
        self._ids = np.full(max(codes, default=0) + 2, -1, dtype=np.int32)  # by code point
        self._ids[codes] = np.arange(len(codes))

    @classmethod
    def train(cls, texts: Iterable[str]) -> "CharTokenizer":
        """Collects the characters of the texts."""
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        return cls("".join(sorted(characters)))

    def encode(self, text: str) -> np.ndarray:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        ids = self._ids[np.minimum(codes, len(self._ids) - 1)]
        return ids[ids >= 0]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.characters[i] for i in ids)

    @property
    def known_size(self) -> int:
        return self.vocab_size

    def unknown(self, text: str) -> list[str]:
        return [c for c in dict.fromkeys(text) if c not in self.char_index]

    def to_bytes(self) -> bytes:
        return dump_plain_pickle({"kind": self.kind, "characters": self.characters})


class BytePairTokenizer(Tokenizer):
    """Byte-level BPE of the `tokenizers` library: no character is ever unknown."""

    kind = "bpe"
    document_separator = END_OF_TEXT

    def __init__(self, backend: Any, kind: str = "bpe") -> None:
        """`backend`: a `tokenizers.Tokenizer`."""
        self.backend, self.kind = backend, kind
        self.vocab_size = backend.get_vocab_size()
        end_id = backend.token_to_id(END_OF_TEXT)
        self.end_ids = frozenset() if end_id is None else frozenset({end_id})

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "BytePairTokenizer":
        """Learns merges from the texts until there are `vocab_size` tokens, or no pair repeats."""
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
        backend.train_from_iterator(texts, trainer)
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

    @functools.cached_property
    def cut_before(self) -> str:
        return CUT_BEFORE if byte_level.cuts_as_gpt2(byte_level.describe(self.backend)) else ""

    def encode(self, text: str) -> np.ndarray:
        return np.array(self.backend.encode(text, add_special_tokens=False).ids, dtype=np.int32)

    def piece_encoder(self, characters: int) -> Callable[[str], np.ndarray]:
        fast = None
        if characters >= LONG_TEXT:
            fast = byte_level.fast_encoder(byte_level.describe(self.backend))
        return fast or self._encode_batch

    def _encode_batch(self, text: str) -> np.ndarray:
        """As `encode`; other threads run meanwhile."""
        (encoding,) = self.backend.encode_batch_fast([text], add_special_tokens=False)
        return np.array(encoding.ids, dtype=np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        return self.backend.decode([int(i) for i in ids], skip_special_tokens=False)

    @property
    def known_size(self) -> int:
        return self.vocab_size

    def to_bytes(self) -> bytes:
        return self.backend.to_str(pretty=False).encode()


class ImportedTokenizer(BytePairTokenizer):
    """The tokenizer of an imported model, of any kind that the `tokenizers` library has."""

    def __init__(
        self, backend: Any, end_ids: Iterable[int] = (), prefix_ids: Iterable[int] = ()
    ) -> None:
        super().__init__(backend, "imported")
        self.end_ids, self.prefix_ids = frozenset(end_ids), tuple(prefix_ids)
        self._ids = frozenset(backend.get_vocab().values())
        self.vocab_size = max(self._ids, default=0) + 1  # some vocabularies have gaps

    @property
    def known_size(self) -> int:
        return len(self._ids)

    def suppressed_ids(self, vocab_size: int) -> np.ndarray:
        return np.array(sorted(set(range(vocab_size)) - self._ids), dtype=int)


def byte_level_backend(model: Any, add_prefix_space: bool = False) -> Any:
    """A `tokenizers.Tokenizer` that splits text as GPT-2 does and keeps every byte."""
    import tokenizers

    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = tokenizers.decoders.ByteLevel()
    return backend


def train_tokenizer(kind: str, texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of the kind word | char | bpe | gpt2 for the texts, or pieces of texts.

    `vocab_size` bounds word and bpe; char has what the text has, and gpt2 what OpenAI gave it.
    """
    if kind == "word":
        return WordTokenizer.train(texts, vocab_size)
    if kind == "char":
        return CharTokenizer.train(texts)
    if kind == "bpe":
        return BytePairTokenizer.train(texts, vocab_size)
    return BytePairTokenizer.gpt2()


def load_tokenizer(path: str | Path, kind: str | None = None) -> Tokenizer:
    """The tokenizer in a tokenizer.pkl or tokenizer.json file. Raises DataError.

    `kind` is the kind expected; it tells bpe from gpt2, which share a format.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        if path.suffix == ".json":
            return _load_json(content, kind or "bpe")
        tokenizer = _load_pickle(content)
        if kind not in (None, tokenizer.kind):
            raise DataError(f"is a {tokenizer.kind} tokenizer, where {kind} was expected")
        return tokenizer
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


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
        logging.getLogger(__name__).debug("tokenizers: %s", error)
        raise DataError(message) from None


def _load_json(content: bytes, kind: str) -> BytePairTokenizer:
    import tokenizers

    with errors_of_the_library("is damaged, or not a file of the tokenizers library"):
        backend = tokenizers.Tokenizer.from_buffer(content)
    if kind == "imported":
        return ImportedTokenizer(backend)
    vocabulary = backend.get_vocab()
    byte_level = type(backend.model).__name__ == "BPE" and backend.decoder is not None
    if not byte_level or max(vocabulary.values(), default=0) >= len(vocabulary):
        raise DataError("is not a byte-level BPE tokenizer")
    return BytePairTokenizer(backend, kind)


def _load_pickle(content: bytes) -> Tokenizer:
    values = load_plain_pickle(content)
    if isinstance(values, KerasTokenizerRecord):
        return WordTokenizer.from_keras(values)
    kind = values.get("kind") if isinstance(values, dict) else None
    if kind == "word":
        return _word_tokenizer({name: values.get(name) for name in values if name != "kind"})
    if kind == "char" and isinstance(values.get("characters"), str) and values["characters"]:
        return CharTokenizer(values["characters"])
    raise DataError("is not a tokenizer: expected a dict with kind 'word' or 'char'")


def _word_tokenizer(values: dict[str, Any]) -> WordTokenizer:
    """A WordTokenizer from a file's values, each checked."""
    words, num_words = values.get("words"), values.get("num_words")
    sound = isinstance(words, list) and bool(words) and all(isinstance(w, str) for w in words)
    sound = sound and (num_words is None or (type(num_words) is int and num_words > 1))
    sound = sound and isinstance(values.get("oov_token"), (str, type(None)))
    sound = sound and isinstance(values.get("filters"), str) and type(values.get("lower")) is bool
    sound = sound and isinstance(values.get("split"), str) and len(values["split"]) > 0
    if not sound or set(values) != {"words", "num_words", "oov_token", "filters", "lower", "split"}:
        raise DataError("is damaged: it is not the vocabulary of a word tokenizer")
    return WordTokenizer(**values)
