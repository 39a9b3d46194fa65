"""The text of single tokens, for log probabilities."""

import functools
from collections.abc import Sequence

from ...text.base_tokenizer import BaseTokenizer
from ...text.compiled.byte_level import byte_symbols


class TokenBytes:
    """The bytes that each token of a sequence adds to its text.

    A byte-level token may be half a character; its bytes are known. Of other tokenizers, such as
    one of words, the bytes are what the text is longer by; of a character in several tokens, the
    last one has it all.

    Args:
        tokenizer: Of the model.

    Example:
        >>> from minigpt_tf.text.tokenizers import CharTokenizer
        >>> TokenBytes(CharTokenizer("abc")).of([0, 1], 2)
        b'c'
    """

    def __init__(self, tokenizer: BaseTokenizer) -> None:
        self._tokenizer = tokenizer
        self._backend = getattr(tokenizer, "backend", None)
        decoder = getattr(self._backend, "decoder", None)
        self._byte_level = type(decoder).__name__ == "ByteLevel"
        self._known: dict[int, bytes] = {}

    def of(self, before: Sequence[int], token_id: int) -> bytes:
        """The bytes of a token.

        Args:
            before: Tokens before it, at least the last few.
            token_id: The token.

        Returns:
            What it adds to the text, in UTF-8.
        """
        if self._byte_level:
            if token_id not in self._known:
                self._known[token_id] = self._of_byte_level(token_id)
            return self._known[token_id]
        context = list(before[-8:])
        first = self._tokenizer.decode(context)
        text = self._tokenizer.decode([*context, token_id])
        if text.endswith("\ufffd"):
            return b""
        return text[len(first.rstrip("\ufffd")) :].encode("utf-8", "replace")

    def _of_byte_level(self, token_id: int) -> bytes:
        assert self._backend is not None
        token = self._backend.id_to_token(token_id) or ""
        codes = _code_of_symbol()
        if all(symbol in codes for symbol in token):
            return bytes(codes[symbol] for symbol in token)
        return token.encode()  # a special token is its own text


@functools.cache
def _code_of_symbol() -> dict[str, int]:
    return {symbol: code for code, symbol in enumerate(byte_symbols())}
