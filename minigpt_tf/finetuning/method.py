"""What a fine-tuning method is: all that sets it apart from the others. Without TensorFlow."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from ..config import FineTuningConfig, LoraConfig, ModelConfig, TrainingConfig
from ..errors import ConfigError
from ..inference.lora_targets import kernel_sides
from ..planning.workload import FLOAT32_BYTES, Trains, Workload

if TYPE_CHECKING:
    from .job import FineTuningJob

LORA_OPTIONS = frozenset(item.name for item in fields(LoraConfig))

Quantization = Literal["none", "int8", "int4"]


class Method(ABC):
    """One way to adapt a base to records.

    A new method is a file in `methods/` with a class and `METHOD = ItsClass`, and an entry in
    `config.finetuning.METHODS` with its name, its help text and its defaults. What has TensorFlow
    in it, the model with its loss and the job with its batches, is imported by `job` alone.

    Args:
        tuning: the settings; `tuning.method` is the method's name.
    """

    record_kinds: ClassVar[tuple[str, ...]]
    """The kinds of records that it trains on (`records.schema`)."""
    options: ClassVar[frozenset[str]]
    """Settings that it uses, of those that not all methods use."""
    refusals: ClassVar[dict[str, str]] = {}
    """Why it does not use a setting, where that needs more words than its name."""
    writes_answers: ClassVar[bool] = True
    """Whether the model is asked by a chat template, and answers in text."""
    rows_per_record: ClassVar[int] = 1
    logits_in_chunks: ClassVar[bool] = True
    """Whether the logits of a batch are made in turns, of which one at a time is in memory."""

    def __init__(self, tuning: FineTuningConfig) -> None:
        self.tuning = tuning

    @abstractmethod
    def job(self) -> "Callable[..., FineTuningJob]":
        """Imports TensorFlow. The class of the job; its arguments are a FineTuningPlan, the folder
        to write, and the dtype."""

    @property
    @abstractmethod
    def trains(self) -> Trains:
        """The weights with gradients: all, those of the last block, or a low-rank update's."""

    @property
    def command(self) -> str:
        """What follows --method to choose it."""
        return self.tuning.method

    @property
    def quantize(self) -> Quantization:
        """How Keras holds the kernels of the base."""
        return "none"

    def variants(self) -> "Iterator[Method]":
        """The method in each form that trains other weights or has other defaults."""
        yield self

    def lighter(self) -> "Iterator[tuple[str, Method]]":
        """(options, method) of methods for the same records that need less memory, the mildest
        first."""
        yield from ()

    def bytes_of_kernel_weight(self, dtype_bytes: int) -> float:
        """Bytes of a weight of the base's kernels in memory, if those of a number in products of
        matrices are `dtype_bytes`."""
        return dtype_bytes if self.trains == "adapter" else FLOAT32_BYTES

    def trained_parameters(self, model: ModelConfig, lora: LoraConfig) -> int:
        """Counts the parameters with gradients.

        Args:
            model: the base's configuration.
            lora: what is updated, if an adapter is trained.

        Returns:
            Parameters of the model, or of the factors of its adapter.
        """
        if self.trains == "all":
            return model.parameter_count
        sides = kernel_sides(model)
        if self.trains == "last_block":
            return sum(inputs * outputs for inputs, outputs in sides.values())
        updated = (sum(sides[name]) for name in sides if name in lora.targets)
        return model.num_layers * lora.rank * sum(updated)

    def workload(
        self,
        model: ModelConfig,
        lora: LoraConfig,
        training: TrainingConfig,
        *,
        length: int,
        targets: int,
    ) -> Workload:
        """What decides how much memory and time a run by this method takes.

        Args:
            model: the base's configuration.
            lora: what is updated, if an adapter is trained.
            training: how it is trained.
            length: tokens of the longest row, with its padding.
            targets: tokens of a row that count, at most.

        Returns:
            The workload.
        """
        loaded = Workload(
            self.tuning.method,
            model,
            training,
            length,
            targets if self.writes_answers else 0,
            self.trained_parameters(model, lora),
            self.trains,
            rows_per_record=self.rows_per_record,
            logits_in_chunks=self.logits_in_chunks,
        )
        return replace(loaded, kernel_bytes=self.bytes_of_kernel_weight(loaded.product_bytes))

    def check_options(self, given: Collection[str], others: "Collection[Method]") -> None:
        """Checks that the method uses what was asked for.

        Args:
            given: names of the settings that were given.
            others: all methods in all their variants.

        Raises:
            ConfigError: a setting is another method's.
        """
        for name in given:
            if name in self.refusals:
                raise ConfigError(f"--method {self.command} {self.refusals[name]}")
            users = [method for method in others if name in method.options_used]
            if users and name not in self.options_used:
                commands = dict.fromkeys(_shortest(method, users, others) for method in users)
                raise ConfigError(
                    f"--{name.replace('_', '-')} is for --method {' or '.join(commands)}, not "
                    f"{self.command}: drop it"
                )

    @property
    def options_used(self) -> frozenset[str]:
        """`options`, and LoRA's where it trains an adapter."""
        return self.options | LORA_OPTIONS if self.trains == "adapter" else self.options

    def check_training(self, training: TrainingConfig) -> None:
        """Raises ConfigError if the optimizer cannot train the weights."""
        if training.optimizer == "muon" and self.trains != "all":
            raise ConfigError("--optimizer muon is for whole matrices: choose adam or adamw")


def _shortest(method: Method, users: Collection[Method], others: Collection[Method]) -> str:
    """The name alone of a method that uses a setting in all its variants."""
    name = method.tuning.method
    every = [other for other in others if other.tuning.method == name]
    return name if all(other in users for other in every) else method.command
