"""What every tokenizer offers, whatever its kind."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import numpy as np

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


class BaseTokenizer(ABC):
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
        """Text -> token ids.

        Args:
            text: Any text.

        Returns:
            int32 (T,).
        """

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Token ids -> text.

        Args:
            ids: Any number of them.

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
    def known_size(self) -> int:
        """Number of ids that stand for text; at most `vocab_size`."""

    def unknown(self, text: str) -> list[str]:
        """What of a text the tokenizer does not know.

        Args:
            text: Any text.

        Returns:
            Words or characters, in order, each once.
        """
        return []

    def count_unknown(self, counts: np.ndarray) -> int:
        """How many tokens of a text stand for something unknown.

        Args:
            counts: How often each id occurs in it (vocab_size,).

        Returns:
            The number.
        """
        return 0

    def piece_encoder(self, characters: int) -> Callable[[str], np.ndarray]:
        """What encodes the chunks of a long text, in many threads.

        Args:
            characters: Length of the whole text.

        Returns:
            A function that does what `encode` does.
        """
        return self.encode

    def suppressed_ids(self, vocab_size: int) -> np.ndarray:
        """The ids that stand for no text and are never to be generated.

        Args:
            vocab_size: The model's.

        Returns:
            Ids below it.
        """
        return np.arange(self.vocab_size, vocab_size)
