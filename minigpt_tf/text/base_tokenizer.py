"""What every tokenizer offers, whatever its kind."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np

from ..errors import DataError

PICKLE_NAME = "tokenizer.pkl"
JSON_NAME = "tokenizer.json"
TOKENIZER_NAMES = {"word": PICKLE_NAME, "char": PICKLE_NAME}
TOKENIZER_NAMES |= dict.fromkeys(("bpe", "gpt2", "imported"), JSON_NAME)
"""The file of each kind of tokenizer."""

CUT_BEFORE = " \n"
"""No word, nor byte pair, lies across a cut before one of these and behind what is not white space:
a text may be cut there, and no vocabulary learned from it changes."""

LONG_TEXT = 4_000_000
"""From so many characters on compiled code encodes a text; it takes a second to get ready."""


class BaseTokenizer(ABC):
    """Text <-> token ids."""

    kind: str
    document_separator = "\n\n"
    end_ids: frozenset[int] = frozenset()
    """Ids that end a text when they are generated."""
    prefix_ids: tuple[int, ...] = ()
    """Ids that the model expects before every text, such as <s>; `encode` does not add them."""

    @property
    def cut_before(self) -> str | None:
        """The characters before which, and behind what is not white space, a text may be cut
        without a change of its ids; None: it may be cut anywhere."""
        return None

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """The ids of a text.

        Args:
            text: The text.

        Returns:
            Int32 ids (T,).
        """

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids.

        Args:
            ids: Ids below `vocab_size`.

        Returns:
            The text.
        """

    @abstractmethod
    def to_bytes(self) -> bytes:
        """The content of the tokenizer's file.

        Returns:
            What is written to a model folder.
        """

    @property
    def file_name(self) -> str:
        """The name of the tokenizer's file in a model folder."""
        return TOKENIZER_NAMES[self.kind]

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of ids that a model needs: all are below it."""

    @property
    @abstractmethod
    def known_size(self) -> int:
        """Number of ids that stand for text; at most `vocab_size`."""

    def unknown(self, text: str) -> list[str]:
        """What of a text the tokenizer does not know.

        Args:
            text: The text.

        Returns:
            Words or characters in order, each once.
        """
        return []

    @property
    def added_tokens(self) -> Mapping[str, tuple[int, bool]]:
        """The tokens that are found in a text before all else: id, and whether it is special."""
        return {}

    @property
    def unknown_ids(self) -> frozenset[int]:
        """The ids that stand for what is not known."""
        return frozenset()

    @cached_property
    def turn_tokens(self) -> dict[Any, Any]:
        """What `turn_tokens.turn_tokens` found for each template."""
        return {}

    def id_of(self, token: str) -> int | None:
        """The id of a token.

        Args:
            token: As the vocabulary spells it.

        Returns:
            The id; None if there is none.
        """
        return None

    def normalizes(self, tokens: Iterable[str]) -> bool:
        """Whether a text may have added tokens in other spellings, such as capitals.

        Args:
            tokens: The added tokens.

        Returns:
            True where that is so for one of them.
        """
        return False

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same tokenizer with other spellings of some tokens.

        Args:
            names: The new spellings by the old ones.

        Returns:
            A tokenizer to which the old ones are ordinary text.

        Raises:
            DataError: It cannot be made.
        """
        raise DataError(f"a {self.kind} tokenizer has no special tokens")

    def count_unknown(self, counts: np.ndarray) -> int:
        """How many tokens stand for something unknown.

        Args:
            counts: Tokens by id, (vocab_size,).

        Returns:
            The number of tokens.
        """
        return 0

    def chunk_encoder(self, characters: int) -> Callable[[str], np.ndarray]:
        """An encoder of chunks for many threads.

        Args:
            characters: How many all chunks have together.

        Returns:
            What gives the ids that `encode` gives.
        """
        return self.encode

    def suppressed_ids(self, vocab_size: int) -> np.ndarray:
        """Ids that are never to be generated.

        Args:
            vocab_size: The model's.

        Returns:
            The ids below it that stand for no text, in order.
        """
        return np.arange(self.vocab_size, vocab_size)
