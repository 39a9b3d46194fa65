"""The method `dpo`: an adapter is trained on pairs of answers, of which people preferred one.

Rafailov et al., 2023, "Direct Preference Optimization".
"""

from typing import TYPE_CHECKING

from ..method import ANSWER_OPTIONS, Method, Trained

if TYPE_CHECKING:
    from ..preference import PreferenceJob


class Dpo(Method):
    """Trains an adapter on preferences."""

    record_kinds = ("preference",)
    options = ANSWER_OPTIONS | {"beta"}
    rows_per_record = 2
    logits_in_chunks = False  # the sum of a whole answer is needed for its gradients
    trains: Trained = "adapter"

    def job(self) -> "type[PreferenceJob]":
        from ..preference import PreferenceJob

        return PreferenceJob


METHOD = Dpo
