"""What a tokenizer.json may ask of the `tokenizers` library, judged before a text is encoded.

The library does as the file says: it searches with any regular expression, and makes of each
character as much text as the file has for it. What would take for ever, or all memory, is refused.
"""

import binascii
import json
import math
import re
from collections.abc import Collection, Iterator
from typing import Any

from ..errors import DataError

MOST_GROWTH = 1000
"""How many times as long a text may become; Unicode's own normal forms make 18 of one character."""
LONGEST_PATTERN = 10_000
LONGEST_WORD = 10_000
"""Characters of a word that WordPiece looks through in all ways."""
MOST_COPIES = 8
"""Of a text in what a post-processor makes of it."""
MOST_UNUSED_IDS = 1_000_000
"""Below the largest: to write a tokenizer, the library takes memory for each."""

_CHARSMAP = re.compile(rb'"precompiled_charsmap"\s*:\s*"([^"]*)"')
_ESCAPED_ASCII = (b"\\u004", b"\\u005", b"\\u006", b"\\u007")


def check_content(content: bytes) -> None:
    """Checks what the library would take memory for while it loads a file.

    Args:
        content: The file.

    Raises:
        DataError: Whose message continues the name of the file.
    """
    if any(escape in content for escape in _ESCAPED_ASCII):  # names may hide behind them
        try:
            content = json.dumps(json.loads(content)).encode()
        except (ValueError, RecursionError):
            raise DataError("is damaged, or not a file of the tokenizers library") from None
    place = content.find(b'"precompiled_charsmap"')
    while place >= 0:
        if found := _CHARSMAP.match(content, place):
            try:
                check_charsmap(binascii.a2b_base64(found[1], strict_mode=True))
            except binascii.Error:
                raise DataError("is damaged: its precompiled_charsmap is not base64") from None
        place = content.find(b'"precompiled_charsmap"', place + 1)


def check_ids(ids: Collection[int]) -> None:
    """Checks that a vocabulary's ids lie close together.

    Args:
        ids: Those of its tokens.

    Raises:
        DataError: Whose message continues the name of the file.
    """
    largest = max(ids, default=0)
    if largest - len(ids) >= MOST_UNUSED_IDS:
        raise DataError(
            f"has an id of {largest:,}, but only {len(ids):,} tokens: the ids of a vocabulary "
            "follow each other"
        )


def check_charsmap(charsmap: bytes) -> int:
    """Checks SentencePiece's compiled normalization rules.

    Args:
        charsmap: The length of a trie in four bytes, the trie, and texts that end with a zero.

    Returns:
        How many characters it makes of one at most.

    Raises:
        DataError: It is damaged, or its texts are too long.
    """
    size = int.from_bytes(charsmap[:4], "little")
    if len(charsmap) < 4 or size % 4 or not 0 < size <= len(charsmap) - 4:
        raise DataError("is damaged: its precompiled_charsmap is truncated")
    longest = max(map(len, charsmap[4 + size :].split(b"\0")))
    if longest > MOST_GROWTH:
        raise DataError(f"its precompiled_charsmap makes {longest:,} bytes of a character")
    return max(1, longest)


def check_backend(backend: Any) -> None:
    """Checks a loaded tokenizer.

    Args:
        backend: A `tokenizers.Tokenizer`.

    Raises:
        DataError: Whose message continues the name of the file.
    """
    for name in ("normalizer", "pre_tokenizer", "decoder"):
        component = getattr(backend, name)
        if component is None:
            continue
        steps = list(_steps(json.loads(component.__getstate__())))
        growth = math.prod(map(_growth, steps))
        if growth > MOST_GROWTH:
            raise DataError(
                f"its {name} makes a text more than {MOST_GROWTH:,} times as long: such a file "
                "would take all memory"
            )
        for step in steps:
            pattern = step.get("pattern")
            if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
                check_pattern(pattern["Regex"])
    if backend.post_processor is not None:
        _check_post_processor(json.loads(backend.post_processor.__getstate__()))
    longest = getattr(backend.model, "max_input_chars_per_word", 0)
    if longest > LONGEST_WORD:
        raise DataError(f"max_input_chars_per_word={longest}: must be at most {LONGEST_WORD:,}")


def _steps(component: Any) -> Iterator[dict[str, Any]]:
    """A normalizer and so on, and all that it consists of."""
    if isinstance(component, dict):
        yield component
        for value in component.values():
            yield from _steps(value)
    elif isinstance(component, list):
        for value in component:
            yield from _steps(value)


def _growth(step: dict[str, Any]) -> float:
    """How many times as long a step makes a text at most."""
    kind, content = step.get("type"), step.get("content")
    if kind == "Replace" and isinstance(content, str):
        pattern = step.get("pattern")
        text = pattern.get("String") if isinstance(pattern, dict) else None
        return max(1.0, len(content) / len(text)) if text else len(content) + 1.0
    if kind == "Precompiled":
        return check_charsmap(binascii.a2b_base64(step.get("precompiled_charsmap") or ""))
    if kind in ("NFKC", "NFKD"):
        return 18
    if kind == "Prepend":
        return max(1.0, len(step.get("prepend") or "") / 100)
    return 1


def _check_post_processor(component: Any) -> None:
    """Raises DataError where it would write a text many times."""
    copies = 1.0
    for step in _steps(component):
        if step.get("type") == "TemplateProcessing":
            single = step.get("single") or []
            copies *= max(1, sum("Sequence" in item for item in single))
            special = step.get("special_tokens") or {}
            added = sum(len(token.get("ids") or []) for token in special.values())
            if added * len(single) > MOST_GROWTH:
                raise DataError("its post_processor adds more than a thousand tokens to a text")
    if copies > MOST_COPIES:
        raise DataError(f"its post_processor writes a text {copies:,.0f} times")


# ---------------------------------------------------------------- regular expressions

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
