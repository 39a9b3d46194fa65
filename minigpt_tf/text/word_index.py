"""Words and their ids: the methods and attributes of Keras's `Tokenizer`, with the same results.

The reference is keras.src.legacy.preprocessing.text.Tokenizer; nothing of Keras is imported.
"""

import collections
import json
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..config import WORD_TOKENIZER_FILTERS
from ..errors import ConfigError, DataError
from .tokenizer_state import SETTINGS, TABLES, check_settings, state_to_json

MATRIX_MODES = ("binary", "count", "freq", "tfidf")

_counting = threading.Lock()
"""One thread at a time adds what it has counted, and numbers the words anew."""


class WordIndex:
    """What `Tokenizer` has of Keras; its settings are described there."""

    num_words: int | None
    filters: str
    lower: bool
    split: str
    char_level: bool
    oov_token: str | None
    document_count: int

    def __init__(
        self,
        num_words: int | None = None,
        filters: str = WORD_TOKENIZER_FILTERS,
        lower: bool = True,
        split: str = " ",
        char_level: bool = False,
        oov_token: str | None = None,
        analyzer: Callable[[str], Iterable[str]] | None = None,
        *,
        document_count: int = 0,
    ) -> None:
        if analyzer is not None and not callable(analyzer):
            raise ConfigError("analyzer: must be a function that takes a text and returns words")
        settings = check_settings(
            num_words, filters, lower, split, char_level, oov_token, document_count
        )
        for name, value in settings.items():
            setattr(self, name, value)
        self.analyzer = analyzer
        self.word_counts: dict[str, int] = {}
        """How often each word occurs, in the order of the texts."""
        self.word_docs: dict[str, int] = collections.defaultdict(int)
        """In how many texts each word occurs."""
        self.index_docs: dict[int, int] = collections.defaultdict(int)
        """The same by id."""
        self.word_index: dict[str, int] = {}
        self.index_word: dict[int, str] = {}

    def fit_on_texts(self, texts: Iterable[str | list[str]]) -> None:
        """Counts the words of texts, and numbers all words seen so far anew.

        Args:
            texts: Texts, or lists of words, which are taken as they are but for their case.

        Raises:
            DataError: If a text is neither; nothing is counted then. Or if the tokenizer comes
                from a model folder, which keeps no counts.

        Example:
            >>> tokenizer = Tokenizer()
            >>> tokenizer.fit_on_texts(["the cat", "the dog and the bird"])
            >>> tokenizer.word_index
            {'the': 1, 'cat': 2, 'dog': 3, 'and': 4, 'bird': 5}
        """
        if not self.word_counts and self.word_index.keys() - {self.oov_token}:
            raise DataError(
                "this tokenizer has no word_counts, since a model folder does not keep them: it "
                "cannot learn more words; fit a new Tokenizer on all texts"
            )
        counts: collections.Counter[str] = collections.Counter()
        docs: collections.Counter[str] = collections.Counter()
        documents = 0
        for words in self._split_texts(texts):
            documents += 1
            counts.update(words)
            docs.update(dict.fromkeys(words).keys())
        with _counting:
            self.document_count += documents
            for known, new in ((self.word_counts, counts), (self.word_docs, docs)):
                for word, count in new.items():
                    known[word] = known.get(word, 0) + count
            by_frequency = sorted(self.word_counts, key=self.word_counts.__getitem__, reverse=True)
            self._number([*([] if self.oov_token is None else [self.oov_token]), *by_frequency])
            for word, count in self.word_docs.items():
                self.index_docs[self.word_index[word]] = count

    def fit_on_sequences(self, sequences: Sequence[Sequence[int]]) -> None:
        """Counts in how many sequences each id occurs, for the mode "tfidf" of a matrix.

        Args:
            sequences: Lists of ids.

        Raises:
            DataError: If one holds something else.

        Example:
            >>> tokenizer = Tokenizer(num_words=4)
            >>> tokenizer.fit_on_sequences([[1, 2, 2], [2, 3]])
            >>> dict(tokenizer.index_docs), tokenizer.document_count
            ({1: 1, 2: 2, 3: 1}, 2)
        """
        found = [list(_counts_of_ids(ids, row)) for row, ids in enumerate(sequences)]
        with _counting:
            self.document_count += len(found)
            for ids in found:
                for i in ids:
                    self.index_docs[i] = self.index_docs.get(i, 0) + 1

    def texts_to_sequences(self, texts: Iterable[str | list[str]]) -> list[list[int]]:
        """Texts -> a list of ids for each.

        Args:
            texts: As in `fit_on_texts`.

        Returns:
            A list of ids for each text.

        Raises:
            DataError: If a text is not text, or if the tokenizer was not fitted.

        Example:
            >>> tokenizer = Tokenizer(oov_token="<OOV>")
            >>> tokenizer.fit_on_texts(["the cat"])
            >>> tokenizer.texts_to_sequences(["The cat!", "the dog", ""])
            [[2, 3], [2, 1], []]
        """
        return list(self.texts_to_sequences_generator(texts))

    def texts_to_sequences_generator(self, texts: Iterable[str | list[str]]) -> Iterator[list[int]]:
        """The same, one text at a time.

        Args:
            texts: As in `fit_on_texts`.

        Yields:
            A list of ids.

        Example:
            >>> tokenizer = Tokenizer.from_words(["<OOV>", "the", "cat"])
            >>> next(tokenizer.texts_to_sequences_generator(["the dog", "the cat"]))
            [2, 1]
        """
        self._check_fitted()
        nameless = self.oov_token is not None and self.oov_id is None
        for words in self._split_texts(texts):
            if nameless and not self.word_index.keys() >= {*words}:
                raise DataError(
                    f"oov_token={self.oov_token!r:.40} has no id: set it before fit_on_texts"
                )
            yield self._ids(words)

    def sequences_to_texts(self, sequences: Iterable[Iterable[int]]) -> list[str]:
        """Lists of ids -> a text for each: words with a space between two.

        Args:
            sequences: Ids. What stands for no word becomes the `oov_token` or, without one, is left
                out.

        Returns:
            A text for each sequence.

        Raises:
            DataError: If the tokenizer was not fitted.

        Example:
            >>> tokenizer = Tokenizer.from_words(["<OOV>", "the", "cat"])
            >>> tokenizer.sequences_to_texts([[2, 3], [2, 1, 77]])
            ['the cat', 'the <OOV> <OOV>']
        """
        return list(self.sequences_to_texts_generator(sequences))

    def sequences_to_texts_generator(self, sequences: Iterable[Iterable[int]]) -> Iterator[str]:
        """The same, one sequence at a time.

        Args:
            sequences: As in `sequences_to_texts`.

        Yields:
            A text.

        Example:
            >>> tokenizer = Tokenizer.from_words(["<OOV>", "the", "cat"])
            >>> next(tokenizer.sequences_to_texts_generator([[2, 3], [2]]))
            'the cat'
        """
        self._check_fitted()
        for ids in sequences:
            yield " ".join(self._words(ids))

    def texts_to_matrix(self, texts: Iterable[str | list[str]], mode: str = "binary") -> np.ndarray:
        """Texts -> a row of `num_words` numbers for each, one for each id.

        Args:
            texts: As in `fit_on_texts`.
            mode: As in `sequences_to_matrix`.

        Returns:
            float64 (texts, num_words).

        Raises:
            ConfigError: For an unsupported mode.
            DataError: As in `texts_to_sequences`.

        Example:
            >>> tokenizer = Tokenizer()
            >>> tokenizer.fit_on_texts(["the cat", "the dog"])
            >>> tokenizer.texts_to_matrix(["the dog and the cat", ""], mode="count")
            array([[0., 2., 1., 1.],
                   [0., 0., 0., 0.]])
        """
        return self.sequences_to_matrix(self.texts_to_sequences(texts), mode)

    def sequences_to_matrix(
        self, sequences: Sequence[Sequence[int]], mode: str = "binary"
    ) -> np.ndarray:
        """Lists of ids -> a row of `num_words` numbers for each, one for each id.

        Args:
            sequences: Ids; those from num_words on are left out.
            mode: "binary": 1 if the id occurs; "count": how often; "freq": the same as a fraction
                of the list; "tfidf": (1 + ln count) * ln(1 + N / (1 + n)), where n of the N texts
                that were fitted on have the id.

        Returns:
            float64 (sequences, num_words); without num_words (sequences, number of words + 1).

        Raises:
            ConfigError: For an unsupported mode.
            DataError: If the number of ids is not known, or if "tfidf" has no texts to count.

        Example:
            >>> Tokenizer(num_words=4).sequences_to_matrix([[1, 3, 3]], mode="count")
            array([[0., 1., 0., 2.]])
        """
        if mode not in MATRIX_MODES:
            raise ConfigError(f"mode={mode!r:.40}: expected one of {', '.join(MATRIX_MODES)}")
        if not self.num_words and not self.word_index:
            raise DataError("the width of the matrix is not known: give num_words, or fit on texts")
        if mode == "tfidf" and not self.document_count:
            raise DataError('mode="tfidf" counts texts: fit the tokenizer on some first')
        size = self.num_words or len(self.word_index) + 1
        matrix = np.zeros((len(sequences), size))
        for row, ids in enumerate(sequences):
            for i, count in _counts_of_ids(ids, row).items():
                if i < size:
                    matrix[row, i] = self._matrix_value(mode, i, count, len(ids))
        return matrix

    def _matrix_value(self, mode: str, i: int, count: int, length: int) -> float:
        if mode == "binary":
            return 1
        if mode == "count":
            return count
        if mode == "freq":
            return count / length
        holding = self.index_docs.get(i, 0)
        return (1 + np.log(count)) * np.log(1 + self.document_count / (1 + holding))

    def get_config(self) -> dict[str, Any]:
        """Settings and tables; the tables as JSON, as Keras has them. An analyzer is left out.

        Example:
            >>> Tokenizer(num_words=5000).get_config()["num_words"]
            5000
        """
        settings = {name: getattr(self, name) for name in SETTINGS}
        return settings | {name: json.dumps(getattr(self, name)) for name in TABLES}

    def to_json(self, **options: Any) -> str:
        """The tokenizer as JSON, for `tokenizer_from_json`, Keras's too.

        Args:
            **options: Those of `json.dumps`.

        Returns:
            The JSON.

        Example:
            >>> tokenizer_from_json(Tokenizer.from_words(["he", "was"]).to_json()).word_index
            {'he': 1, 'was': 2}
        """
        return state_to_json(self.get_config(), **options)

    @property
    def oov_id(self) -> int | None:
        """The id of the unknown word, if there is one.

        Example:
            >>> Tokenizer.from_words(["<OOV>", "he", "was"]).oov_id
            1
        """
        return None if self.oov_token is None else self.word_index.get(self.oov_token)

    def split_words(self, text: str | list[str]) -> list[str]:
        """One text -> its words, known or not; a list of words is taken as it is but for its case.

        Args:
            text: A text, or its words.

        Returns:
            The words.

        Example:
            >>> Tokenizer().split_words("He was -- twice! -- at Trinity.")
            ['he', 'was', 'twice', 'at', 'trinity']
        """
        if isinstance(text, list):
            _check_words(text, "a list that holds")
            return [word.lower() if self.lower else str(word) for word in text]
        if not isinstance(text, str):
            raise DataError(f"is {_kind_of(text)}: expected a string, or a list of words")
        if self.analyzer is not None and not self.char_level:
            words = list(self.analyzer(text))
            _check_words(words, "a text of which the analyzer makes")
            return words
        if self.lower:
            text = text.lower()
        if self.char_level:
            return list(text)
        spaces = str.maketrans(dict.fromkeys(self.filters, self.split))
        return [word for word in text.translate(spaces).split(self.split) if word]

    def _split_texts(self, texts: Iterable[str | list[str]]) -> Iterator[list[str]]:
        """The words of each text."""
        if isinstance(texts, bytes) or (isinstance(texts, str) and not self.char_level):
            raise DataError("expected a list of texts, not one text: write [text]")
        if not isinstance(texts, Iterable):
            raise DataError(f"expected a list of texts, not {_kind_of(texts)}")
        for number, text in enumerate(texts):
            try:
                words = self.split_words(text)
            except DataError as error:
                raise DataError(f"texts[{number}] {error}") from None
            yield words

    def _number(self, words: Iterable[str]) -> None:
        """Gives the words the ids from 1 on; of two equal ones the later id counts, as in Keras."""
        self.word_index = {word: i for i, word in enumerate(words, start=1)}
        self.index_word = {i: word for word, i in self.word_index.items()}

    def _ids(self, words: Iterable[str]) -> list[int]:
        """The ids of the words. Without an `oov_token`, a word that has none is dropped."""
        limit, unknown = self.num_words or math.inf, self.oov_id
        found = map(self.word_index.get, words)
        ids = (i if i is not None and i < limit else unknown for i in found)
        return [i for i in ids if i is not None]

    def _words(self, ids: Iterable[int]) -> Iterator[str]:
        """The words of the ids."""
        limit = self.num_words or math.inf
        unknown = None if self.oov_id is None else self.oov_token
        for i in ids:
            word = self.index_word.get(i, unknown) if i < limit else unknown
            if word is not None:
                yield word

    def _check_fitted(self) -> None:
        if not self.word_index and not self.document_count:
            raise DataError(
                "the tokenizer was not fitted on any text: call fit_on_texts([text]) first"
            )


def _check_words(words: list[Any], where: str) -> None:
    for word in words:
        if not isinstance(word, str):
            raise DataError(f"is {where} {_kind_of(word)}: expected words, as strings")


def _counts_of_ids(ids: Iterable[int], row: int) -> collections.Counter[int]:
    """How often each id occurs in a sequence. Raises DataError for what is not an id."""
    counts: collections.Counter[int] = collections.Counter()
    for i, count in collections.Counter(ids).items():
        if not isinstance(i, int | np.integer) or i < 0:
            raise DataError(f"sequences[{row}] holds {i!r:.40}: expected ids, integers from 0 on")
        counts[int(i)] += count
    return counts


def _kind_of(value: Any) -> str:
    """None, "a float" or "an int"."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
