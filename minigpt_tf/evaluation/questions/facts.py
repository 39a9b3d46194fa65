"""Whether an answer contains the fact that makes it right."""

import functools
import re

from ...errors import DataError

_BEFORE = r"(?<![\w.,])(?<!\d[:/-])"
"""Not inside of a word or a longer number: 12 is not in 112, 3.12 or 8:12."""

_BEHIND = r"(?!\w|[.,:/-]\d)"
"""The same: 12 is not in 120, 12.5, 12,000 or 12-14, but in "12." and "12%"."""


def contains_fact(answer: str, fact: str) -> bool:
    """Whether a fact occurs in an answer word by word, and not inside something longer.

    Case does not count. Neither does how much white space there is, nor whether there is any before
    a percent sign: 7.5 % is found in 7.5%. Nothing else is made equal: "nine" is not 9.

    Args:
        answer: A model's answer.
        fact: What a right answer contains.

    Returns:
        Whether it does.

    Raises:
        DataError: The fact is blank.

    Example:
        >>> contains_fact("You have 12 days.", "12 days"), contains_fact("112 days", "12 days")
        (True, False)
    """
    return _pattern(fact).search(answer) is not None


@functools.lru_cache(maxsize=4096)
def _pattern(fact: str) -> re.Pattern[str]:
    """What finds a fact."""
    words = fact.split()
    if not words:
        raise DataError("the fact is blank: name what a right answer contains")
    text = r"\s+".join(map(re.escape, words)).replace(r"\s+%", "%").replace("%", r"\s*%")
    return re.compile(_BEFORE + text + _BEHIND, re.IGNORECASE)
