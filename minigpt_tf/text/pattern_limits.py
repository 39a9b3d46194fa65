"""Regular expressions of a tokenizer.json whose search may take for ever are refused."""

import re

from ..errors import DataError

LONGEST_PATTERN = 10_000
"""Characters."""

_QUANTIFIER = re.compile(r"[*+?][?+]?|\{(\d*)(,?)(\d*)\}[?+]?")
_OPENING = re.compile(r"\((\?(?:[:=!>|]|<[=!]|<\w+>|[imsx-]+:|[imsx-]+\))?)?")


def check_pattern(pattern: str) -> None:
    """Refuses a regular expression whose search may take for ever.

    That is where a part that is repeated without bound has several ways to match the same text:
    a repeat within the repeat, or alternatives that begin alike. The patterns of models have none.

    Args:
        pattern: In the syntax of Oniguruma.

    Raises:
        DataError: It has such a repeat, or refers back to what it found.

    Example:
        >>> check_pattern(r" ?\\p{L}+|\\s+(?!\\S)|\\s+")
        >>> check_pattern("(a+)+$")
        Traceback (most recent call last):
        minigpt_tf.errors.DataError: its pattern '(a+)+$' may take for ever: it repeats a repeat
    """
    if len(pattern) > LONGEST_PATTERN:
        raise DataError(f"it has a pattern of more than {LONGEST_PATTERN:,} characters")
    ambiguous = [False]
    """Of the whole and of each open group."""
    firsts: list[list[str]] = [[]]
    """How the alternatives of each begin."""
    place, begins, group = 0, True, False
    while place < len(pattern):
        character = pattern[place]
        if character == "(":
            found = _OPENING.match(pattern, place)
            assert found is not None
            place = found.end()
            if not found[0].endswith(")"):
                if begins:
                    firsts[-1].append("")
                ambiguous.append(False)
                firsts.append([])
                begins = True
            continue
        if character == ")" and len(ambiguous) > 1:
            inner, starts = ambiguous.pop(), firsts.pop()
            place, group = place + 1, True
            alike = len(starts) > 1 and len(set(starts)) < len(starts)
            unclear = inner or alike or (len(starts) > 1 and any(len(s) != 1 for s in starts))
        elif character == "|":
            place, begins = place + 1, True
            continue
        else:
            end = _atom_end(pattern, place)
            atom = pattern[place:end]
            if re.match(r"\\[1-9gk]", atom):
                raise DataError(f"its pattern {pattern!r:.60} refers back to what it found")
            place, group, unclear = end, False, False
        if begins and not group:
            firsts[-1].append(atom)
        begins = False
        quantifier = _QUANTIFIER.match(pattern, place)
        if quantifier is None:
            ambiguous[-1] |= group and inner
            continue
        place = quantifier.end()
        low, comma, high = quantifier[1], quantifier[2], quantifier[3]
        unbounded = quantifier[0][0] in "*+" or bool(comma and not high)
        varies = unbounded or (bool(comma) and low != high)
        if group and unclear and (unbounded or int(high or low or 0) > 2):
            what = "a repeat" if inner else "alternatives that begin alike"
            raise DataError(f"its pattern {pattern!r:.60} may take for ever: it repeats {what}")
        ambiguous[-1] |= varies or (group and inner)


def _atom_end(pattern: str, place: int) -> int:
    """Behind a character, an escape or a class."""
    if pattern[place] == "\\":
        brace = re.compile(r"\\[pPxo]\{[^}]*\}").match(pattern, place)
        return brace.end() if brace else place + 2
    if pattern[place] != "[":
        return place + 1
    depth, end = 1, place + 1
    end += pattern[end : end + 1] == "^"
    end += pattern[end : end + 1] == "]"  # first in a class, it is a character
    while end < len(pattern) and depth:
        character = pattern[end]
        end += 2 if character == "\\" else 1
        depth += (character == "[") - (character == "]")
    return end
