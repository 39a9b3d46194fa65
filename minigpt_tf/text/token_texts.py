"""The text that each token stands for, taken alone: its bytes, and how they are shown."""

import re

from .compiled import byte_level
from .tokenizers import BaseTokenizer, BytePairTokenizer, CharTokenizer, WordTokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"
"""What stands for a space in SentencePiece's vocabularies, which name single bytes <0x0A>."""


def token_bytes(tokenizer: BaseTokenizer) -> dict[int, bytes]:
    """The UTF-8 bytes that each token stands for; a token may hold a part of a character.

    Args:
        tokenizer: Of any kind.

    Returns:
        Id -> bytes, of all ids that stand for text. A word is without the space before it.

    Example:
        >>> import minigpt_tf as mg
        >>> token_bytes(mg.train_tokenizer("char", ["é!"], 10))
        {0: b'!', 1: b'\\xc3\\xa9'}
    """
    if isinstance(tokenizer, WordTokenizer):
        words = tokenizer.words[: tokenizer.vocab_size - 1]
        return {i: _encoded(word) for i, word in enumerate(words, start=1)}
    if isinstance(tokenizer, CharTokenizer):
        return {i: _encoded(character) for i, character in enumerate(tokenizer.characters)}
    return _bytes_of_pairs(tokenizer) if isinstance(tokenizer, BytePairTokenizer) else {}


def _bytes_of_pairs(tokenizer: BytePairTokenizer) -> dict[int, bytes]:
    """For a tokenizer of the `tokenizers` library."""
    description = byte_level.describe(tokenizer.backend)
    special = {token["id"] for token in description["added_tokens"]}
    byte_of = {symbol: byte for byte, symbol in enumerate(byte_level.byte_symbols())}
    of_bytes = "ByteLevel" in str(description["decoder"])

    def content(token: str, token_id: int) -> bytes:
        """The bytes of one token."""
        if token_id not in special:
            if of_bytes and byte_of.keys() >= set(token):
                return bytes(byte_of[symbol] for symbol in token)
            if match := _BYTE_TOKEN.fullmatch(token):
                return bytes([int(match[1], 16)])
        return _encoded(token.replace(_SPACE, " "))

    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=True)
    return {token_id: content(token, token_id) for token, token_id in vocabulary.items()}


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class TokenTexts:
    """How the tokens of a tokenizer are shown to a person, one by one.

    Args:
        tokenizer: Of any kind.

    Example:
        >>> import minigpt_tf as mg
        >>> texts = TokenTexts(mg.train_tokenizer("char", ["ab"], 10))
        >>> texts[1], texts[7]
        ('b', '[7]')
    """

    def __init__(self, tokenizer: BaseTokenizer) -> None:
        self._bytes = token_bytes(tokenizer)

    def __getitem__(self, token_id: int) -> str:
        """Its text; the bytes of a part of a character as `[E6 97]`, a token without text as its
        number."""
        content = self._bytes.get(int(token_id))
        if content is None:
            return f"[{int(token_id)}]"
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            return f"[{content.hex(' ').upper()}]"

    def __contains__(self, token_id: int) -> bool:
        """Whether the token stands for text."""
        return int(token_id) in self._bytes
