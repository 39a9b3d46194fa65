"""`Tokenizer`: Keras's methods of `word_index`, as a tokenizer of this project, of kind "word"."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..config import OOV_TOKEN
from ..errors import ConfigError, DataError
from .base_tokenizer import CUT_BEFORE, LONG_TEXT, BaseTokenizer
from .tokenizer_state import SETTINGS, TABLES, check_state, check_word_index, state_from_json
from .unicode import well_formed
from .vocabulary import TOKENIZER_HOME, dump_plain_pickle
from .word_index import WordIndex

FILE_SETTINGS = ("num_words", "oov_token", "filters", "lower", "split")
"""Settings in a model folder's tokenizer.pkl; `char_level` is added only where it is set."""


class Tokenizer(WordIndex, BaseTokenizer):
    """Turns texts into lists of word ids, as Keras's `Tokenizer` does.

    Id 0 is padding. Words have ids by falling frequency, equals in the order of the texts, from 1
    on, or from 2 on where an `oov_token` takes id 1. Every word has an id in `word_index`; those
    from `num_words` on count as unknown when a text is encoded. An unknown word becomes the
    `oov_token` or, without one, is dropped.

    Half a character, such as a cut emoji of a JSON file, is kept in words, as Keras does; `train`,
    `encode` and `unknown` take it for U+FFFD, as every tokenizer of this project.

    In this project it is the tokenizer of kind "word", and goes into training, `TextGenerator` and
    model folders as it is. `pickle` writes its attributes as plain data, which `load_tokenizer`
    reads without running code.

    Args:
        num_words: Ids in use: 0 to num_words - 1. None: those of all words.
        filters: The characters that are removed.
        lower: Whether texts become lower case.
        split: What lies between two words.
        char_level: Whether each character is a word. Nothing is removed then, and `decode` puts
            nothing between two.
        oov_token: What stands for an unknown word.
        analyzer: A function that cuts a text into words, in place of filters, lower and split.
        document_count: Number of texts seen before, as in `get_config`.

    Raises:
        ConfigError: For an impossible setting.

    Example:
        >>> tokenizer = Tokenizer(num_words=5000, oov_token="<OOV>")
        >>> tokenizer.fit_on_texts(["Who is Hardy? Hardy is a mathematician."])
        >>> tokenizer.texts_to_sequences(["who is Ramanujan"])
        [[4, 2, 1]]
        >>> tokenizer.word_index["hardy"], tokenizer.index_word[3]
        (3, 'hardy')
    """

    __module__ = TOKENIZER_HOME  # the place that a pickle names: it outlives a move of this file

    kind = "word"

    @classmethod
    def from_words(
        cls,
        words: Sequence[str],
        num_words: int | None = None,
        oov_token: str | None = OOV_TOKEN,
        **settings: Any,
    ) -> "Tokenizer":
        """A tokenizer with a known vocabulary; it has no `word_counts`.

        Args:
            words: In the order of their ids 1, 2, ...; the `oov_token` is one of them.
            num_words: As in `Tokenizer`.
            oov_token: As in `Tokenizer`.
            **settings: The other settings of `Tokenizer`.

        Returns:
            The tokenizer.

        Example:
            >>> Tokenizer.from_words(["<OOV>", "he", "was"]).encode("he is")
            array([2, 1], dtype=int32)
        """
        tokenizer = cls(num_words, oov_token=oov_token, **settings)
        tokenizer._number(words)
        return tokenizer

    @classmethod
    def train(cls, texts: Iterable[str], num_words: int) -> "Tokenizer":
        """The tokenizer that training makes: "<OOV>" stands for unknown words.

        Args:
            texts: Texts, or chunks of texts.
            num_words: As in `Tokenizer`.

        Returns:
            The tokenizer.

        Raises:
            ConfigError: If no word has room.

        Example:
            >>> Tokenizer.train(["to be or not to be"], num_words=4).word_counts
            {'to': 2, 'be': 2, 'or': 1, 'not': 1}
        """
        if num_words < 3:
            raise ConfigError(
                f"vocab_size={num_words}: words need at least 3 (padding, unknown, one)"
            )
        tokenizer = cls(num_words, oov_token=OOV_TOKEN)
        tokenizer.fit_on_texts(map(well_formed, texts))
        return tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of ids that a model needs: num_words, or the number of words and padding.

        Raises:
            DataError: If neither is known yet.

        Example:
            >>> Tokenizer.from_words(["<OOV>", "he", "was"]).vocab_size
            4
        """
        if self.num_words:  # an oov_token that also occurs in the texts may have an id beyond
            return max(self.num_words, (self.oov_id or 0) + 1)
        self._check_fitted()
        return max(self.word_index.values(), default=0) + 1

    @property
    def known_size(self) -> int:
        """Number of words that have an id in use, the unknown word included.

        Example:
            >>> Tokenizer.from_words(["<OOV>", "he", "was"], num_words=3).known_size
            2
        """
        return len(self._known_ids())

    @property
    def words(self) -> list[str]:
        """The words in the order of their ids 1, 2, ...: what `from_words` takes.

        An id without a word has the word of the next id that has one, which counts there.

        Example:
            >>> Tokenizer.train(["to be or not to be"], num_words=4).words
            ['<OOV>', 'to', 'be', 'or', 'not']
        """
        by_id = {i: word for word, i in self.word_index.items()}
        words, word = [], ""
        for i in range(max(by_id, default=0), 0, -1):
            word = by_id.get(i, word)
            words.append(word)
        return words[::-1]

    @property
    def cut_before(self) -> str | None:
        """See BaseTokenizer."""
        if self.char_level:  # how a capital sigma is lowered depends on its neighbors
            return CUT_BEFORE if self.lower else None
        if self.analyzer is not None or len(self.split) != 1:
            return ""
        return "".join(c for c in CUT_BEFORE if c in (self.split, *self.filters))

    def encode(self, text: str) -> np.ndarray:
        """Text -> int32 ids of shape (T,).

        Raises:
            DataError: If the tokenizer was not fitted.

        Example:
            >>> Tokenizer.from_words(["<OOV>", "he", "was"]).encode("Was he?")
            array([3, 2], dtype=int32)
        """
        self._check_fitted()
        return np.array(self._ids(self._well_formed_words(text)), dtype=np.int32)

    def chunk_encoder(self, characters: int) -> Callable[[str], np.ndarray]:
        """`encode`, or for long texts its equal in compiled code."""
        self._check_fitted()
        separators = {self.split, *self.filters}
        by_table = characters >= LONG_TEXT and not self.char_level and self.analyzer is None
        if not by_table or len(self.split) != 1 or not "".join(separators).isascii():
            return self.encode
        from .compiled.word_table import WordTable  # Numba: only where a long text is to be encoded

        unknown, limit, lower = self.oov_id, self.num_words or math.inf, self.lower
        known = {word: i for word, i in self.word_index.items() if i < limit and i != unknown}
        table = WordTable(known, unknown, separators)

        def encode(text: str) -> np.ndarray:
            text = well_formed(text)
            return table.encode(text.lower() if lower else text)

        return encode

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text, as in `sequences_to_texts`, but characters without a space between them.

        Raises:
            DataError: If the tokenizer was not fitted.

        Example:
            >>> Tokenizer.from_words(["<OOV>", "he", "was"]).decode([2, 3, 0])
            'he was <OOV>'
        """
        self._check_fitted()
        return ("" if self.char_level else " ").join(self._words(map(int, ids)))

    def unknown(self, text: str) -> list[str]:
        """The words of the text that have no id of their own, in order, each once.

        Example:
            >>> Tokenizer.from_words(["<OOV>", "he", "was"]).unknown("He is, he was")
            ['is']
        """
        words = dict.fromkeys(self._well_formed_words(text))
        return [word for word in words if self._ids([word]) in ([], [self.oov_id])]

    def _well_formed_words(self, text: str) -> list[str]:
        """As `split_words`; half a character is U+FFFD."""
        return self.split_words(well_formed(text) if isinstance(text, str) else text)

    def count_unknown(self, counts: np.ndarray) -> int:
        """How many tokens are the unknown word; `counts` (vocab_size,): tokens by id.

        Example:
            >>> Tokenizer.from_words(["<OOV>", "he", "was"]).count_unknown(np.array([0, 7, 2, 1]))
            7
        """
        return 0 if self.oov_id is None else int(counts[self.oov_id])

    def suppressed_ids(self, vocab_size: int) -> np.ndarray:
        """Padding, the unknown word and all ids without a word, below a model's `vocab_size`.

        Example:
            >>> Tokenizer.from_words(["<OOV>", "he", "was"]).suppressed_ids(6)
            array([0, 1, 4, 5])
        """
        self._check_fitted()
        suppressed = np.ones(vocab_size, dtype=bool)
        suppressed[[i for i in self._known_ids() if i != self.oov_id and i < vocab_size]] = False
        return np.flatnonzero(suppressed)

    def _known_ids(self) -> list[int]:
        """The ids that a text can have."""
        limit, unknown = self.num_words or math.inf, self.oov_id
        return [i for i in self.word_index.values() if 0 < i < limit or i == unknown]

    def to_bytes(self) -> bytes:
        """The content of a model folder's tokenizer.pkl: the vocabulary, without its counts.

        Raises:
            DataError: If the tokenizer was not fitted, or has an analyzer.
        """
        self._check_fitted()
        self._check_plain()
        check_word_index(self.word_index)
        values = {"words": self.words, **{name: getattr(self, name) for name in FILE_SETTINGS}}
        if self.char_level:
            values["char_level"] = True
        _reload(Tokenizer.from_file, values)
        return dump_plain_pickle({"kind": self.kind, **values})

    @classmethod
    def from_file(cls, values: dict[str, Any]) -> "Tokenizer":
        """The tokenizer that `to_bytes` wrote, each value checked.

        Args:
            values: What the file holds, less its "kind".

        Returns:
            The tokenizer.

        Raises:
            DataError: Whose message continues the name of the file.
        """
        words = values.get("words")
        sound = type(words) is list and len(words) > 0 and {*map(type, words)} == {str}
        if not sound or values.keys() - {"char_level"} != {"words", *FILE_SETTINGS}:
            raise DataError("is damaged: it is not the vocabulary of a word tokenizer")
        try:
            return cls.from_words(**values)
        except ConfigError as error:
            raise DataError(f"is damaged: {error}") from None

    @classmethod
    def from_state(cls, state: Any) -> "Tokenizer":
        """The tokenizer with these attributes, each checked: ours, or those of a Keras of any age.

        Args:
            state: Attributes by name, as a pickled `Tokenizer` has them.

        Returns:
            The tokenizer.

        Raises:
            DataError: Whose message continues the name of the file.
        """
        tokenizer = cls.__new__(cls)
        tokenizer._restore(state)
        return tokenizer

    def _restore(self, state: Any) -> None:
        settings, tables = check_state(state, lambda name: hasattr(Tokenizer, name))
        try:
            Tokenizer.__init__(self, **settings)
        except ConfigError as error:
            raise DataError(f"is damaged: {error}") from None
        for name, table in tables.items():
            getattr(self, name).update(table)

    def __getstate__(self) -> dict[str, Any]:
        """All attributes as plain data."""
        self._check_plain()
        state = {name: getattr(self, name) for name in SETTINGS}
        for name in TABLES:
            table = getattr(self, name)
            state[name] = dict(table) if isinstance(table, dict) else table
        _reload(Tokenizer.from_state, state)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        try:
            self._restore(state)
        except DataError as error:
            raise DataError(f"the pickled Tokenizer {error}") from None

    def _check_plain(self) -> None:
        if self.analyzer is not None:
            raise DataError(
                "a tokenizer with an analyzer cannot be saved, since a file of plain data has no "
                "place for a function: set its analyzer to None, and again after loading"
            )


WordTokenizer = Tokenizer
"""Its name where it stands beside CharTokenizer and BytePairTokenizer."""


def _reload(load: Callable[[dict[str, Any]], Tokenizer], values: dict[str, Any]) -> None:
    """What could not be loaded again, since an attribute was set to something odd, is not saved."""
    try:
        load(values)
    except DataError as error:
        raise DataError(f"the tokenizer cannot be saved: it {error}") from None


def tokenizer_from_json(json_string: str) -> Tokenizer:
    """The tokenizer in the JSON that `Tokenizer.to_json` gives, Keras's too.

    Args:
        json_string: The JSON.

    Returns:
        The tokenizer.

    Raises:
        DataError: For any other text.

    Example:
        >>> tokenizer = Tokenizer(oov_token="<OOV>")
        >>> tokenizer.fit_on_texts(["the cat"])
        >>> tokenizer_from_json(tokenizer.to_json()).texts_to_sequences(["the dog"])
        [[2, 1]]
    """
    try:
        return Tokenizer.from_state(state_from_json(json_string))
    except DataError as error:
        raise DataError(f"the JSON text {error}") from None
