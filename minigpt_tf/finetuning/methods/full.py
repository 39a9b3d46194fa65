"""The method `full`: all weights are trained on the answers of records."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..method import ANSWER_OPTIONS, Method, Trained
from .lora import Lora

if TYPE_CHECKING:
    from ..supervised import SupervisedJob


class Full(Method):
    """Trains all weights."""

    record_kinds = ("instruction", "conversation")
    options = ANSWER_OPTIONS | {"train_on"}
    refusals = {
        "base_bits": "trains all weights, and those of a quantized base are integers, which cannot "
        "be trained: drop --base-bits, or choose --method qlora"
    }
    trains: Trained = "all"

    def job(self) -> "type[SupervisedJob]":
        from ..supervised import SupervisedJob

        return SupervisedJob

    def lighter(self) -> Iterator[tuple[str, Method]]:
        lora = Lora(replace(self.tuning, method="lora", base_bits="8"))
        yield "--method lora", lora
        yield from lora.lighter()


METHOD = Full
