"""The method `lora`: low-rank updates of frozen weights are trained on the answers of records.

Hu et al., 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..method import ANSWER_OPTIONS, Method, Trained
from .qlora import QLora

if TYPE_CHECKING:
    from ..supervised import SupervisedJob


class Lora(Method):
    """Trains an adapter."""

    record_kinds = ("instruction", "conversation")
    options = ANSWER_OPTIONS | {"train_on"}
    trains: Trained = "adapter"

    def job(self) -> "type[SupervisedJob]":
        from ..supervised import SupervisedJob

        return SupervisedJob

    def lighter(self) -> Iterator[tuple[str, Method]]:
        qlora = QLora(replace(self.tuning, method="qlora", base_bits="8"))
        yield "--method qlora", qlora
        yield from qlora.lighter()


METHOD = Lora
