"""How much a text repeats itself."""

from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import ConfigError, DataError

TIMES = 3
"""So many times in a row a repetition is a loop: twice is still found in good texts."""


def distinct(texts: Iterable[Sequence[int]], n: int) -> float:
    """Distinct-n: the fraction of n-grams that differ from each other (Li et al., 2016, "A
    Diversity-Promoting Objective Function for Neural Conversation Models").

    Args:
        texts: Token ids of each text. Their n-grams are counted together; none spans two texts.
        n: Tokens in an n-gram.

    Returns:
        From just above 0 to 1, where no n-gram occurs twice.

    Raises:
        DataError: No text has n tokens.
        ConfigError: `n` is less than 1.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.distinct([[5, 6, 5, 6]], n=2)  # (5, 6) occurs twice, (6, 5) once
        0.6666666666666666
    """
    if n < 1:
        raise ConfigError(f"n={n}: must be at least 1")
    grams = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
    if not grams:
        raise DataError(f"no text has {n} tokens")
    return len(set(grams)) / len(grams)


def loop_rate(texts: Iterable[Sequence[int]]) -> float:
    """The fraction of tokens in loops: the same n-gram at least three times in a row, for any n.

    In "a b c c c c d e f e f e f e" the four c are one, n = 1, and so are the seven tokens of
    "e f e f e f e", n = 2: a last time that breaks off belongs to the loop. Each token counts once,
    whichever loops it lies in. Takes the square of a text's length in steps.

    Args:
        texts: Token ids of each text. A loop does not span two texts.

    Returns:
        From 0 to 1.

    Raises:
        DataError: The texts have no token.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.loop_rate([[1, 2, 7, 7, 7, 3]])
        0.5
    """
    looped = [in_loop(text) for text in texts]
    tokens = sum(map(len, looped))
    if not tokens:
        raise DataError("there is no token that could lie in a loop")
    return sum(int(flags.sum()) for flags in looped) / tokens


def in_loop(text: Sequence[int]) -> np.ndarray:
    """Which of a text's tokens lie in a loop, as `loop_rate` has it.

    Args:
        text: Token ids (T,).

    Returns:
        bool (T,).
    """
    ids = np.asarray(text)
    flags = np.zeros(len(ids), dtype=bool)
    for n in range(1, len(ids) // TIMES + 1):
        # Where ids[i] == ids[i + n] for (TIMES - 1) n places in a row, n tokens come TIMES times.
        same = np.concatenate([[False], ids[:-n] == ids[n:], [False]]).astype(np.int8)
        starts, ends = (np.flatnonzero(np.diff(same) == change) for change in (1, -1))
        for start, end in zip(starts, ends, strict=True):
            if end - start >= (TIMES - 1) * n:
                flags[start : end + n] = True
    return flags
