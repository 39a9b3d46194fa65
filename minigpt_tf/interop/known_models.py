"""Small open bases worth taking, as of November 2026: their published sizes, and what they need."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..config import FineTuningConfig, LoraConfig, ModelConfig
from ..config.presets import fine_tuning_preset
from ..finetuning.methods import method_of
from ..planning.memory import memory_of

AS_OF = "2026-11"

ROW = 512
"""Tokens of the longest record, for the memory of a fine-tuning."""

_LLAMA: dict[str, Any] = {
    "positions": "rotary",
    "norm": "rms",
    "norm_placement": "before",
    "activation": "swiglu",
    "use_bias": False,
    "qkv_bias": False,
    "logits_bias": False,
    "tie_embeddings": True,
    "dropout": 0.0,
}
_QWEN3 = {**_LLAMA, "qk_norm": "head"}
_GEMMA3 = {**_QWEN3, "norm_placement": "both", "activation": "geglu_tanh"}


@dataclass(frozen=True)
class KnownModel:
    """A base on Hugging Face that `minigpt import` reads."""

    id: str
    license: str
    parameters: int
    """As its makers, or the files, count them."""
    sizes: tuple[int, int, int, int, int, int, int]
    """Vocabulary, width, layers, heads, key/value heads, width of a head and of feed-forward."""
    context_length: int
    settings: dict[str, Any] = field(default_factory=lambda: _LLAMA)
    untied: bool = False
    """Whether its logits have a matrix of their own."""

    def config(self) -> ModelConfig:
        """Its architecture, as the importer would read it.

        Returns:
            The configuration; rotary constants and windows, which need no memory, are left out.
        """
        vocabulary, width, layers, heads, kv_heads, head, feed_forward = self.sizes
        return ModelConfig(
            vocab_size=vocabulary,
            context_length=self.context_length,
            embed_dim=width,
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head,
            ff_dim=feed_forward,
            **{**self.settings, "tie_embeddings": not self.untied},
        )

    def lora_bytes(self) -> float:
        """The memory of its fine-tuning by LoRA with the default settings and rows of ROW tokens.

        Returns:
            Bytes at the peak, estimated.
        """
        training = fine_tuning_preset("lora")
        method = method_of(FineTuningConfig(method="lora"))
        model = self.config()
        return memory_of(
            method.workload(model, LoraConfig(), training, length=ROW, targets=ROW)
        ).total


KNOWN = (
    KnownModel(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "apache-2.0",
        134_515_008,
        (49152, 576, 30, 9, 3, 64, 1536),
        8192,
    ),
    KnownModel(
        "google/gemma-3-270m-it",
        "gemma",
        268_098_176,
        (262144, 640, 18, 4, 1, 256, 2048),
        32768,
        _GEMMA3,
    ),
    KnownModel(
        "HuggingFaceTB/SmolLM2-360M-Instruct",
        "apache-2.0",
        361_821_120,
        (49152, 960, 32, 15, 5, 64, 2560),
        8192,
    ),
    KnownModel(
        "Qwen/Qwen2.5-0.5B-Instruct",
        "apache-2.0",
        494_032_768,
        (151936, 896, 24, 14, 2, 64, 4864),
        32768,
        {**_LLAMA, "qkv_bias": True},
    ),
    KnownModel(
        "Qwen/Qwen3-0.6B",
        "apache-2.0",
        596_049_920,
        (151936, 1024, 28, 16, 8, 128, 3072),
        40960,
        _QWEN3,
    ),
    KnownModel(
        "google/gemma-3-1b-it",
        "gemma",
        999_885_952,
        (262144, 1152, 26, 4, 1, 256, 6912),
        32768,
        _GEMMA3,
    ),
    KnownModel(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "apache-2.0",
        1_100_048_384,
        (32000, 2048, 22, 32, 4, 64, 5632),
        2048,
        untied=True,
    ),
    KnownModel(
        "meta-llama/Llama-3.2-1B-Instruct",
        "llama3.2",
        1_235_814_400,
        (128256, 2048, 16, 32, 8, 64, 8192),
        131072,
    ),
    KnownModel(
        "allenai/OLMo-2-0425-1B-Instruct",
        "apache-2.0",
        1_484_916_736,
        (100352, 2048, 16, 16, 16, 128, 8192),
        4096,
        {**_LLAMA, "qk_norm": "all", "norm_placement": "output"},
        untied=True,
    ),
    KnownModel(
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        "apache-2.0",
        1_711_376_384,
        (49152, 2048, 24, 32, 32, 64, 8192),
        8192,
    ),
    KnownModel(
        "Qwen/Qwen3-1.7B",
        "apache-2.0",
        1_720_574_976,
        (151936, 2048, 28, 16, 8, 128, 6144),
        40960,
        _QWEN3,
    ),
    KnownModel(
        "ibm-granite/granite-3.3-2b-instruct",
        "apache-2.0",
        2_533_539_840,
        (49159, 2048, 40, 32, 8, 64, 8192),
        131072,
    ),
    KnownModel(
        "HuggingFaceTB/SmolLM3-3B",
        "apache-2.0",
        3_075_098_624,
        (128256, 2048, 36, 16, 4, 128, 11008),
        65536,
    ),
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
