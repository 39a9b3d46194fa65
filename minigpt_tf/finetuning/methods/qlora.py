"""The method `qlora`: LoRA on a base whose kernels are quantized.

Dettmers et al., 2023, "QLoRA: Efficient Finetuning of Quantized LLMs"; with Keras's integers
instead of the paper's NF4.
"""

from collections.abc import Iterator
from dataclasses import replace

from ...planning.workload import Trains
from ..answers_method import AnswersMethod
from ..method import Method, Quantization

BYTES_OF_A_WEIGHT = {"8": 1.0, "4": 0.5 + 5 / 64}
"""Of a quantized kernel, with int4's scales and zeros."""


class QLora(AnswersMethod):
    """Trains an adapter of a quantized base."""

    options = AnswersMethod.options | {"base_bits"}
    trains: Trains = "adapter"

    @property
    def quantize(self) -> Quantization:
        return "int8" if self.tuning.base_bits == "8" else "int4"

    def bytes_of_kernel_weight(self, dtype_bytes: int) -> float:
        return BYTES_OF_A_WEIGHT[self.tuning.base_bits]

    def lighter(self) -> Iterator[tuple[str, Method]]:
        if self.tuning.base_bits == "8":
            yield "--method qlora --base-bits 4", QLora(replace(self.tuning, base_bits="4"))


METHOD = QLora
