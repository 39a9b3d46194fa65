"""Text -> the terms by which it is found: words without case, accents and common endings."""

import re
import unicodedata

_WORD = re.compile(
    r"(?:[^\W_]|[\u0300-\u036f\u0591-\u05c7\u0610-\u065f\u0900-\u0dff\u0e00-\u0eff\u1000-\u109f"
    r"\u1780-\u17ff])+"
)
"""Letters and digits, and the marks of scripts whose vowels are marks."""

_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Scripts that put no space between words."""

_ENDINGS = ("ations", "ation", "ings", "ing", "ies", "ed", "es", "ly", "s")

_COMMON_WORDS = """
a about after again all also am an and any anything are as ask at be because been before being but
by can could did do does doing done else find for from get gets give given gives go goes got had
has have he her here him his how i if in into is it its just know let like long many may me might
mine more most much must my need needs no not now of on once one only or other our out over own
please put say says shall she should show so some somebody someone something such take takes tell
than that the their them then there these they this those through to too up us use used very want
wants was we were what when where which while who whom whose why will with would you your
"""
_COMMON = frozenset(_COMMON_WORDS.split())
"""English words that say nothing of what a text is about."""


def terms(text: str) -> list[str]:
    """The terms of a text, in order, each as often as it occurs.

    Args:
        text: The text.

    Returns:
        The terms. Scripts without spaces give pairs of characters.

    Example:
        >>> terms("When are the Clinic's rooms booked?")
        ['clinic', 'room', 'book']
    """
    found: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        if word.isascii():
            if word not in _COMMON and len(word) + word.isdigit() > 1:
                found.append(_stem(word))
        elif _UNSPACED.search(word):
            found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        else:
            found.append(_without_accents(word))
    return found


def _stem(word: str) -> str:
    """An English word without its ending, if enough of it is left."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


def _without_accents(word: str) -> str:
    """A word of Latin letters without accents; any other as it is."""
    plain = "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))
    return _stem(plain) if plain.isascii() else word
