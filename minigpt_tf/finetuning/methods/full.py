"""The method `full`: all weights are trained on the answers of records."""

from collections.abc import Iterator
from dataclasses import replace

from ...planning.workload import Trains
from ..answers_method import AnswersMethod
from ..method import Method
from .lora import Lora


class Full(AnswersMethod):
    """Trains all weights."""

    refusals = {
        "base_bits": "trains all weights, and those of a quantized base are integers, which cannot "
        "be trained: drop --base-bits, or choose --method qlora"
    }
    trains: Trains = "all"

    def lighter(self) -> Iterator[tuple[str, Method]]:
        lora = Lora(replace(self.tuning, method="lora", base_bits="8"))
        yield "--method lora", lora
        yield from lora.lighter()


METHOD = Full
