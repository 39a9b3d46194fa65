"""How many tokens and logits are computed at once, so that memory stays bounded."""

MOST_LOGITS = 2**24
"""Logits of a chunk, at most: 64 MiB in float32."""

LOGITS_AT_ONCE = 4 * MOST_LOGITS
"""Logits of a batch of records that are computed together, at most: most of its targets do not
count, and those are left out before."""

MOST_TOKENS = 2**14
"""Tokens that are scored at once, at most."""


def windows_at_once(context_length: int, vocab_size: int) -> int:
    """Windows that are scored together.

    Args:
        context_length: Tokens of a window.
        vocab_size: Logits of a token.

    Returns:
        At least 1, and few enough for their logits.
    """
    return max(1, min(MOST_TOKENS, MOST_LOGITS // vocab_size) // context_length)
