"""The method `dpo`: an adapter is trained on pairs of answers, of which people preferred one.

Rafailov et al., 2023, "Direct Preference Optimization".
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...planning.workload import Trains
from ..method import Method

if TYPE_CHECKING:
    from ..job import FineTuningJob


class Dpo(Method):
    """Trains an adapter on preferences."""

    record_kinds = ("preference",)
    options = frozenset({"sample_tokens", "records", "beta"})
    rows_per_record = 2
    logits_in_chunks = False  # the sum of a whole answer is needed for its gradients
    trains: Trains = "adapter"

    def job(self) -> "Callable[..., FineTuningJob]":
        from ..preference import PreferenceJob

        return PreferenceJob


METHOD = Dpo
