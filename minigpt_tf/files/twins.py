"""Letters that stand in a text in two ways: é as one character, and as e with an accent."""

import re
import unicodedata
from collections import Counter

MOST_SHOWN = 5

_MARKS = "\u0300-\u036f\u0653-\u0655\u093c\u09be\u09d7\u0b3e\u0b56\u0b57\u3099\u309a"
_DECOMPOSED = re.compile(f"[^\\W\\d_][{_MARKS}]+|[\u1100-\u1112][\u1161-\u1175][\u11a8-\u11c2]?")


class Twins:
    """Collects the letters of texts. Two spellings look the same and have different tokens.

    Example:
        >>> twins = Twins()
        >>> twins.add("caf\u00e9, cafe\u0301")
        >>> twins.said()
        "'é' (1) is written as one character and as several: to a model these are different letters"
    """

    def __init__(self) -> None:
        self.composed: set[str] = set()
        self.decomposed: Counter[str] = Counter()

    def add(self, text: str) -> None:
        """Adds a text.

        Args:
            text: A text, or a part of one.
        """
        if text.isascii():
            return
        self.composed.update(text)
        if not unicodedata.is_normalized("NFC", text):
            for found in _DECOMPOSED.findall(text):
                one = unicodedata.normalize("NFC", found)
                if len(one) < len(found):
                    self.decomposed[one[0]] += 1

    @property
    def found(self) -> dict[str, int]:
        """The letters that are written in both ways, and how often with several characters."""
        return {one: n for one, n in self.decomposed.most_common() if one in self.composed}

    def said(self) -> str:
        """A sentence on what was found; "" for nothing."""
        found = self.found
        if not found:
            return ""
        shown = ", ".join(f"{one!r} ({n:,})" for one, n in list(found.items())[:MOST_SHOWN])
        more = f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
        verb = "is" if len(found) == 1 else "are"
        return (
            f"{shown}{more} {verb} written as one character and as several: to a model these are "
            "different letters"
        )
