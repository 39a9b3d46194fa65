"""From a file of records to rows of tokens in training, validation and test set, and a report."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import RecordsConfig
from ..errors import DataError
from ..events import SILENT, Listener
from .batches import Example, RecordBatches
from .contradictions import find_contradictions
from .duplicates import find_duplicates
from .prompts import Template
from .reading import Dropped, Records, read_records, reasons
from .rendering import render
from .report import RecordsReport, show_mask
from .schema import KINDS, LabeledRecord, Record
from .splitting import Split, balanced, split_records

MOST_FAILURES = 100
"""Where so many rows fail from the first on, all will: the first reason is an error at once."""


@dataclass(frozen=True)
class RecordSet:
    """Some of the records, and the rows of tokens that each has become."""

    records: list[Record]
    examples: list[Example]

    def batches(
        self,
        template: Template,
        context_length: int,
        config: RecordsConfig,
        batch_size: int,
        seed: int,
    ) -> RecordBatches:
        """The records in batches, to train on or to score.

        Args:
            template: Its `pad_id` fills rows up.
            context_length: The most tokens of a row.
            config: What widths are multiples of.
            batch_size: Records in a batch.
            seed: Decides the order.

        Returns:
            The batches.

        Raises:
            DataError: There are no records.
        """
        return RecordBatches(
            self.examples,
            batch_size,
            seed,
            multiple=config.length_multiple,
            pad_id=template.pad_id,
            context_length=context_length,
        )


@dataclass(frozen=True)
class Dataset:
    """Records that are ready to be trained on."""

    kind: str
    train: RecordSet
    validation: RecordSet
    test: RecordSet
    labels: list[str]
    """The labels in alphabetical order: class i is labels[i]; empty for other kinds."""
    report: RecordsReport


def prepare(
    source: str | Path,
    template: Template,
    context_length: int,
    config: RecordsConfig,
    *,
    seed: int,
    kinds: Collection[str] = KINDS,
    listener: Listener = SILENT,
) -> Dataset:
    """Reads, renders and splits records.

    Args:
        source: A file, or a database (sqlite:///FILE).
        template: Writes conversations for the model, and encodes them.
        context_length: The most tokens of a row.
        config: How records are read, truncated and split.
        seed: Decides the split.
        kinds: The kinds of records that the caller can use.
        listener: Gets how far it is.

    Returns:
        The records in three sets, as rows of tokens, and a report.

    Raises:
        DataError: Nothing can be used, or labeled records have fewer than two labels.
    """
    found = read_records(source, config, kinds)
    examples, dropped = _render_all(found, template, context_length, config, listener)
    usable = [record for record in found.records if record.row in examples]
    labeled = [record for record in usable if isinstance(record, LabeledRecord)]
    if config.balance and found.kind != "labeled":
        raise DataError(f"{found.where}: only labels can be balanced, not {found.kind} records")
    records: Sequence[Record] = balanced(labeled, seed) if config.balance else usable
    labels = _check_labels(found, labeled) if found.kind == "labeled" else []
    listener.preparation("looking for duplicates", 0, 0)
    split = split_records(records, config.val_split, config.test_split, seed)
    if labels:
        _check_seen(found, split)
    report = RecordsReport(
        where=found.where,
        unit=found.unit,
        notes=found.notes,
        read=len(found.records) + len(found.dropped),
        dropped=tuple(sorted([*found.dropped, *dropped], key=lambda item: item.row)),
        left_out=len(usable) - len(records),
        context_length=context_length,
        **_on_records(split, config),
        **_on_rows(found.kind, records, examples, template),
        example_row=split.train[0].row,
        example=show_mask(examples[split.train[0].row][0], template.tokenizer),
    )
    train, validation, test = (
        RecordSet(chosen, [examples[record.row] for record in chosen])
        for chosen in (split.train, split.validation, split.test)
    )
    return Dataset(found.kind, train, validation, test, labels, report)


def _render_all(
    found: Records,
    template: Template,
    context_length: int,
    config: RecordsConfig,
    listener: Listener,
) -> tuple[dict[int, Example], list[Dropped]]:
    """The rows of tokens by the records' row numbers, and the records that have none."""
    examples: dict[int, Example] = {}
    dropped: list[Dropped] = []
    for count, record in enumerate(found.records, start=1):
        try:
            examples[record.row] = render(record, template, context_length, config)
        except DataError as error:
            dropped.append(Dropped(record.row, str(error)))
            if not examples and (count >= MOST_FAILURES or count == len(found.records)):
                raise DataError(
                    f"{found.where}: no row can be used with {template.name}: "
                    f"{reasons(dropped, found.unit)}"
                ) from None
        if count % 100 == 0 or count == len(found.records):
            listener.preparation("encoding the records", count, len(found.records))
    return examples, dropped


def _check_labels(found: Records, records: Sequence[LabeledRecord]) -> list[str]:
    """The labels in alphabetical order. Raises DataError if there is only one."""
    labels = sorted({record.label for record in records})
    if len(labels) < 2:
        raise DataError(
            f"{found.where}: every record has the label {labels[0]!r:.40}: a classifier needs at "
            "least two"
        )
    return labels


def _check_seen(found: Records, split: Split) -> None:
    """Raises DataError where a label of a held-out record is not in the training set."""
    seen = {record.label for record in split.train if isinstance(record, LabeledRecord)}
    for record in (*split.validation, *split.test):
        if isinstance(record, LabeledRecord) and record.label not in seen:
            raise DataError(
                f"{found.where}: {found.unit} {record.row}: no record to train on has its label "
                f"{record.label!r:.40}: add more of them, or lower --val-split and --test-split"
            )


def _on_records(split: Split, config: RecordsConfig) -> dict[str, Any]:
    """What the report says of the sets, labels and duplicates."""
    sets = {"training": split.train, "validation": split.validation, "test": split.test}
    used = [record for chosen in sets.values() for record in chosen]
    labels = Counter(record.label for record in used if isinstance(record, LabeledRecord))
    held_out = [*split.validation, *split.test]
    return {
        "splits": {name: len(chosen) for name, chosen in sets.items()},
        "labels": dict(sorted(labels.items())),
        "duplicates": tuple(find_duplicates(held_out, split.train, config.near_duplicate)),
        "contradictions": tuple(find_contradictions(used)),
    }


def _on_rows(
    kind: str, records: Sequence[Record], examples: dict[int, Example], template: Template
) -> dict[str, Any]:
    """What the report says of the rows of tokens."""
    rows = [row for record in records for row in examples[record.row]]
    lengths = np.array([len(row.ids) for row in rows])
    dropped = {record.row: max(row.dropped for row in examples[record.row]) for record in records}
    counts = np.bincount(
        np.concatenate([row.ids for row in rows]), minlength=template.tokenizer.vocab_size
    )
    tokens = int(lengths.sum())
    last = [int(row.ids[-1]) for row in rows if row.mask[-1]]
    return {
        "kind": kind,
        "template": "none: texts as they stand" if kind == "labeled" else template.name,
        "rows": len(rows),
        "lengths": {
            "min": int(lengths.min()),
            "median": int(np.median(lengths)),
            "95 %": int(np.percentile(lengths, 95)),
            "max": int(lengths.max()),
        },
        "truncated": tuple((row, tokens) for row, tokens in dropped.items() if tokens),
        "target_fraction": sum(int(row.mask.sum()) for row in rows) / tokens,
        "end_tokens": tuple(map(template.token_text, sorted(template.stop_ids))),
        "end_trained": sum(token in template.stop_ids for token in last),
        "unknown_fraction": template.tokenizer.count_unknown(counts) / tokens,
        "spelled": tuple(r.row for r in records if template.spelled(r.texts)),
    }
