"""What a fine-tuning run computes, counted from its batches."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..planning.workload import Schedule
from ..records.dataset import RecordSet
from .plan import FineTuningPlan

MOST_COUNTED = 1000
"""Batches that are counted, at most: those of the other steps are like them."""


class Counts(NamedTuple):
    """Of some batches: tokens with their padding, T * T of each row, targets that count."""

    tokens: float = 0.0
    attended: float = 0.0
    targets: float = 0.0

    def times(self, factor: float) -> "Counts":
        """The same of more or fewer batches.

        Args:
            factor: How many times as many.

        Returns:
            The counts.
        """
        return Counts(*(factor * value for value in self))

    def plus(self, other: "Counts") -> "Counts":
        """The counts of both.

        Args:
            other: Of other batches.

        Returns:
            The sums.
        """
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


def schedule_of(plan: FineTuningPlan) -> Schedule:
    """Counts what the run of a plan computes.

    Args:
        plan: The plan.

    Returns:
        The schedule.
    """
    batches, dataset = plan.batches(plan.dataset.train), plan.dataset
    counted = min(plan.total_steps, batches.steps_per_epoch, MOST_COUNTED)
    step = _counts(plan, dataset.train, map(batches.places, range(counted))).times(1 / counted)
    train, validation, test = (
        _scoring(plan, split) for split in (dataset.train, dataset.validation, dataset.test)
    )
    evaluations = -(-plan.total_steps // plan.eval_every)
    scored = validation.times(evaluations + 1).plus(test)  # the first comes before any training
    if not plan.method.writes_answers or plan.method.rows_per_record > 1:
        scored = scored.plus(train).plus(validation).plus(test)  # see ClassifierJob, PreferenceJob
    answers = plan.training.sample_tokens * len(plan.questions)
    return Schedule(
        steps=plan.total_steps,
        tokens=step.tokens,
        attended=step.attended,
        targets=step.targets,
        evaluations=evaluations,
        scored=scored.tokens,
        scored_attended=scored.attended,
        scored_targets=scored.targets,
        sampled=answers if plan.method.writes_answers else 0,
        reading=plan.reading,
    )


def _scoring(plan: FineTuningPlan, split: RecordSet) -> Counts:
    """Of a split that is scored once."""
    if not split.examples:
        return Counts()
    return _counts(plan, split, plan.batches(split).scoring_places())


def _counts(plan: FineTuningPlan, split: RecordSet, places: Iterable[np.ndarray]) -> Counts:
    """Of batches of a split's examples at some places."""
    batches, whole = plan.batches(split), not plan.method.writes_answers
    targets = np.array([sum(int(row.mask.sum()) for row in e) for e in split.examples])
    found = Counts()
    for chosen in places:
        width = batches.width(chosen, whole=whole)
        rows = plan.method.rows_per_record * len(chosen)
        counts = 0 if whole else float(targets[chosen].sum())
        found = found.plus(Counts(rows * width, rows * width * width, counts))
    return found
