"""The method `lora`: low-rank updates of frozen weights are trained on the answers of records.

Hu et al., 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
"""

from collections.abc import Iterator
from dataclasses import replace

from ...planning.workload import Trains
from ..answers_method import AnswersMethod
from ..method import Method
from .qlora import QLora


class Lora(AnswersMethod):
    """Trains an adapter."""

    trains: Trains = "adapter"

    def lighter(self) -> Iterator[tuple[str, Method]]:
        qlora = QLora(replace(self.tuning, method="qlora", base_bits="8"))
        yield "--method qlora", qlora
        yield from qlora.lighter()


METHOD = Lora
