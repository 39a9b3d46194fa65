"""Records -> training, validation and test set; and as many records of every label.

Which set a record goes to depends on its texts, the seed and the other records, and not on the
order of the rows: a file that was sorted, or shuffled, is split as before.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from .schema import LabeledRecord, Record


@dataclass(frozen=True)
class Split:
    """The sets of some records, each in the order of the rows."""

    train: list[Record]
    validation: list[Record] = field(default_factory=list)
    test: list[Record] = field(default_factory=list)


def split_records(
    records: Sequence[Record], val_split: float, test_split: float, seed: int
) -> Split:
    """Splits records into training, validation and test set.

    Fractions are rounded to whole records; one above 0 gets at least one record if there are
    enough. Every label has the same fraction in each set, as far as whole records allow, and is in
    the training set first.

    Args:
        records: The records.
        val_split: The fraction for validation.
        test_split: The fraction for the test.
        seed: Decides the split, with the texts.

    Returns:
        The sets.
    """
    count = len(records)
    spare = count - 1  # training keeps one
    test = min(max(round(count * test_split), int(test_split > 0)), spare)
    validation = min(max(round(count * val_split), int(val_split > 0)), spare - test)
    train = count - validation - test
    order = _spread(records, seed)
    places = (order[:train], order[train : train + validation], order[train + validation :])
    return Split(*([records[i] for i in sorted(chosen)] for chosen in places))


def balanced(records: Sequence[LabeledRecord], seed: int) -> list[LabeledRecord]:
    """As many records of every label as there are of the rarest.

    Args:
        records: The records.
        seed: Decides which are kept, with the texts.

    Returns:
        Those kept, in the order of the rows.
    """
    by_label: dict[str, list[int]] = defaultdict(list)
    for i in _ranked(records, seed):
        by_label[records[i].label].append(i)
    fewest = min(map(len, by_label.values()))
    return [records[i] for i in sorted(i for places in by_label.values() for i in places[:fewest])]


def _ranked(records: Sequence[Record], seed: int) -> list[int]:
    """The places of the records in an order that only their texts and the seed decide."""

    def key(i: int) -> tuple[bytes, int]:
        """A hash of the texts; equal records follow each other."""
        content = json.dumps([seed, *records[i].texts])
        return hashlib.blake2b(content.encode(), digest_size=16).digest(), i

    return sorted(range(len(records)), key=key)


def _spread(records: Sequence[Record], seed: int) -> list[int]:
    """As `_ranked`, but with every label spread evenly from the first place to the last."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i in _ranked(records, seed):
        groups[getattr(records[i], "label", "")].append(i)
    places = [
        ((rank + 0.5) / len(group), label, i)
        for label, group in groups.items()
        for rank, i in enumerate(group)
    ]
    return [i for _, _, i in sorted(places)]
