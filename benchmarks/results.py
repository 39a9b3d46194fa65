"""Medians of what the peers of a row have measured; None where a peer has failed."""

import statistics
from collections.abc import Mapping
from typing import Any

from peers import Result

Results = Mapping[str, list[Result]]
"""Of each round, by the jobs' labels."""


def each(results: Results, label: str, *path: Any) -> list[float | None]:
    """A number of every round, None where the peer failed."""
    numbers: list[float | None] = []
    for result in results.get(label, []):
        value: Any = result
        for key in path:
            value = value.get(str(key)) if isinstance(value, dict) else None
        numbers.append(value)
    return numbers


def middle(numbers: list[float | None]) -> float | None:
    """The median of the numbers that are there."""
    known = [number for number in numbers if number is not None]
    return statistics.median(known) if known else None


def ratio(numbers: list[float | None], others: list[float | None]) -> float | None:
    """The median of the rounds' ratios."""
    pairs = zip(numbers, others, strict=False)
    return middle([a / b for a, b in pairs if a is not None and b is not None])


def shown(number: float | None, width: int, digits: int = 2) -> str:
    """A number in a column; a dash where there is none."""
    return f"{'-' if number is None else format(number, f'.{digits}f'):>{width}}"


def same_tokens(results: Results, label: str, reference: str) -> int | None:
    """How many of the first tokens are the reference's."""
    ids, wanted = (next(iter(results.get(name, [])), {}).get("ids") for name in (label, reference))
    if ids is None or wanted is None:
        return None
    differ = (i for i, (a, b) in enumerate(zip(ids, wanted, strict=True)) if a != b)
    return next(differ, len(ids))


def same_bits(results: Results, label: str, reference: str) -> bool | None:
    """Whether two peers have the same logits in every round, and the same ids."""
    kept = [
        {(result["logits"], *result["ids"]) for result in results.get(name, []) if "ids" in result}
        for name in (label, reference)
    ]
    return kept[0] == kept[1] and len(kept[0]) == 1 if all(kept) else None
