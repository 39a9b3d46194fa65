"""The method `classify`: a head on the last token is trained on labeled texts, with some weights
of the base."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ...planning.workload import Trains
from ..method import Method

if TYPE_CHECKING:
    from ..job import FineTuningJob


class Classify(Method):
    """Trains a head, and the last block, an adapter or all weights beside it."""

    record_kinds = ("labeled",)
    options = frozenset({"classify_layers"})
    writes_answers = False

    def job(self) -> "Callable[..., FineTuningJob]":
        from ..classifier import ClassifierJob

        return ClassifierJob

    @property
    def trains(self) -> Trains:
        layers = self.tuning.classify_layers
        return "last_block" if layers == "last" else "adapter" if layers == "lora" else "all"

    @property
    def command(self) -> str:
        layers = self.tuning.classify_layers
        return "classify" if layers == "last" else f"classify --classify-layers {layers}"

    def variants(self) -> Iterator[Method]:
        yield Classify(replace(self.tuning, classify_layers="last"))
        yield Classify(replace(self.tuning, classify_layers="lora"))
        yield Classify(replace(self.tuning, classify_layers="all"))

    def lighter(self) -> Iterator[tuple[str, Method]]:
        if self.trains == "all":
            last = replace(self.tuning, classify_layers="last")
            yield "--classify-layers last", Classify(last)


METHOD = Classify
