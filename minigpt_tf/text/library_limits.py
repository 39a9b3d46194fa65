"""What a tokenizer.json may ask of the `tokenizers` library, judged before a text is encoded.

The library does as the file says: it searches with any regular expression, and makes of each
character as much text as the file has for it. What would take for ever, or all memory, is refused.
"""

import binascii
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from ..errors import DataError

MOST_GROWTH = 1000
"""How many times as long a text may become; Unicode's own normal forms make 18 of one character."""
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


def check_ids(largest: int, count: int) -> None:
    """Checks that a vocabulary's ids lie close together.

    Args:
        largest: The largest id.
        count: How many tokens there are.

    Raises:
        DataError: Whose message continues the name of the file.
    """
    if largest - count >= MOST_UNUSED_IDS:
        raise DataError(
            f"has an id of {largest:,}, but only {count:,} tokens: the ids of a vocabulary "
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
                from .pattern_limits import check_pattern  # few tokenizers have any

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
