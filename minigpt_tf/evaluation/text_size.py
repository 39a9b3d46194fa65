"""How many bytes of text each token stands for: what makes tokenizers comparable."""

import re

import numpy as np

from ..text.compiled import byte_level
from ..text.tokenizers import BaseTokenizer, BytePairTokenizer, CharTokenizer, WordTokenizer

_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_SPACE = "\u2581"
"""What stands for a space in SentencePiece's vocabularies, which name single bytes <0x0A>."""


def byte_lengths(tokenizer: BaseTokenizer, vocab_size: int) -> np.ndarray:
    """UTF-8 bytes of the text that each id stands for.

    Over the ids of a text they add up to its bytes if the tokenizer keeps all of it, and to those
    of the space that it puts before every text, if it does (`added_bytes`). A word counts with the
    space before it, since case and punctuation are not kept; what the tokenizer does not know is
    not counted at all, or as the unknown word's name.

    Args:
        tokenizer: Of any kind.
        vocab_size: The model's, which may have ids that stand for nothing.

    Returns:
        int64 (vocab_size,), or longer if the tokenizer has more ids.
    """
    lengths = np.zeros(max(vocab_size, tokenizer.vocab_size), dtype=np.int64)
    if isinstance(tokenizer, WordTokenizer):
        words = tokenizer.words[: tokenizer.vocab_size - 1]
        space = 0 if tokenizer.char_level else 1
        lengths[1 : len(words) + 1] = [_size(word) + space for word in words]
    elif isinstance(tokenizer, CharTokenizer):
        lengths[: tokenizer.vocab_size] = [_size(character) for character in tokenizer.characters]
    elif isinstance(tokenizer, BytePairTokenizer):
        for token_id, length in _lengths_of_tokens(tokenizer).items():
            lengths[token_id] = length
    return lengths


def added_bytes(tokenizer: BaseTokenizer, ids: np.ndarray, lengths: np.ndarray) -> int:
    """The space that SentencePiece's tokenizers put before a text, and take away when they decode.

    Args:
        tokenizer: Of any kind.
        ids: The text's (N,).
        lengths: Those of `byte_lengths`.

    Returns:
        1 if the first id begins with a space that the text does not have, else 0.
    """
    if not len(ids) or not isinstance(tokenizer, BytePairTokenizer):
        return 0
    first = int(ids[0])
    return int(_size(tokenizer.decode([first])) == lengths[first] - 1)


def _lengths_of_tokens(tokenizer: BytePairTokenizer) -> dict[int, int]:
    """Id -> bytes, for a tokenizer of the `tokenizers` library."""
    description = byte_level.describe(tokenizer.backend)
    special = {token["id"] for token in description["added_tokens"]}
    symbols = set(byte_level.byte_symbols())
    of_bytes = "ByteLevel" in str(description["decoder"])

    def length(token: str, token_id: int) -> int:
        """Bytes of one token."""
        if token_id not in special:
            if of_bytes and symbols.issuperset(token):
                return len(token)  # a character for each byte
            if _BYTE_TOKEN.fullmatch(token):
                return 1
        return _size(token.replace(_SPACE, " "))

    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=True)
    return {token_id: length(token, token_id) for token, token_id in vocabulary.items()}


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
