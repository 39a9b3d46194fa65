"""How many bytes of text each token stands for: what makes tokenizers comparable."""

import numpy as np

from ..text.token_texts import token_bytes
from ..text.tokenizers import BaseTokenizer, BytePairTokenizer, WordTokenizer


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
    space = int(isinstance(tokenizer, WordTokenizer) and not tokenizer.char_level)
    for token_id, content in token_bytes(tokenizer).items():
        lengths[token_id] = len(content) + space
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
    size = len(tokenizer.decode([first]).encode("utf-8", "surrogatepass"))
    return int(size == lengths[first] - 1)
