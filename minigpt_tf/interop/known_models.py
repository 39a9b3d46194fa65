"""Small open bases worth taking, as of November 2026: where they are, and what they need."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..config import FineTuningConfig, LoraConfig
from ..config.presets import fine_tuning_preset
from ..finetuning.methods import method_of
from ..planning.bases import BASES
from ..planning.memory import memory_of

AS_OF = "2026-11"

ROW = 512
"""Tokens of the longest record, for the memory of a fine-tuning."""


@dataclass(frozen=True)
class KnownModel:
    """A base on Hugging Face that `minigpt import` reads."""

    base: str
    """Its name in `planning.bases.BASES`, which has its sizes."""
    id: str
    license: str
    parameters: int
    """As its makers, or its files, count them."""

    def lora_bytes(self) -> float:
        """The memory of its fine-tuning by LoRA with the default settings and rows of ROW tokens.

        Returns:
            Bytes at the peak, estimated.
        """
        method, training = method_of(FineTuningConfig(method="lora")), fine_tuning_preset("lora")
        model = BASES[self.base]
        workload = method.workload(model, LoraConfig(), training, length=ROW, targets=ROW)
        return memory_of(workload).total


APACHE = "apache-2.0"
KNOWN = (
    KnownModel("SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M-Instruct", APACHE, 134_515_008),
    KnownModel("Gemma-3-270M", "google/gemma-3-270m-it", "gemma", 268_098_176),
    KnownModel("SmolLM2-360M", "HuggingFaceTB/SmolLM2-360M-Instruct", APACHE, 361_821_120),
    KnownModel("Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct", APACHE, 494_032_768),
    KnownModel("Qwen3-0.6B", "Qwen/Qwen3-0.6B", APACHE, 596_049_920),
    KnownModel("Gemma-3-1B", "google/gemma-3-1b-it", "gemma", 999_885_952),
    KnownModel("TinyLlama-1.1B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", APACHE, 1_100_048_384),
    KnownModel("Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct", "llama3.2", 1_235_814_400),
    KnownModel("OLMo-2-1B", "allenai/OLMo-2-0425-1B-Instruct", APACHE, 1_484_916_736),
    KnownModel("SmolLM2-1.7B", "HuggingFaceTB/SmolLM2-1.7B-Instruct", APACHE, 1_711_376_384),
    KnownModel("Qwen3-1.7B", "Qwen/Qwen3-1.7B", APACHE, 1_720_574_976),
    KnownModel("Granite-3.3-2B", "ibm-granite/granite-3.3-2b-instruct", APACHE, 2_533_539_840),
    KnownModel("SmolLM3-3B", "HuggingFaceTB/SmolLM3-3B", APACHE, 3_075_098_624),
)


def as_rows(known: tuple[KnownModel, ...] = KNOWN) -> Iterator[dict[str, Any]]:
    """Bases as plain data, for a table or --json.

    Args:
        known: The bases.

    Yields:
        Of each its id, license and parameters, the memory of LoRA, and the line that imports it.
    """
    for model in known:
        name = model.id.rsplit("/", 1)[1].lower()
        yield {
            "id": model.id,
            "license": model.license,
            "parameters": model.parameters,
            "lora_bytes": round(model.lora_bytes()),
            "import": f"minigpt import {model.id} --out models/{name}",
        }
