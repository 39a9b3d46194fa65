"""Training runs whose makers said what they took, to hold the formulas of `hardware` against."""

from dataclasses import dataclass

from ..config import ModelConfig
from .bases import BASES, llama_sizes
from .hardware import UTILIZATION, training_flops
from .machines import SHEETS


@dataclass(frozen=True)
class PublishedRun:
    """What was stated of a run."""

    name: str
    model: ModelConfig
    tokens: float
    length: int
    """Tokens of a row."""
    gpu: str
    """A name of `machines.SHEETS`; empty if operations were stated, not hours."""
    stated: float
    """GPU hours, or operations."""
    source: str

    @property
    def flops(self) -> float:
        """Operations, by the formula."""
        return training_flops(self.model, "pretraining", self.tokens, self.length)

    @property
    def by_formula(self) -> float:
        """What the formula gives in the place of what was stated."""
        if not self.gpu:
            return self.flops
        return self.flops / (UTILIZATION * SHEETS[self.gpu].bfloat16) / 3600

    @property
    def utilization(self) -> float | None:
        """Of what the data sheet promises, by the formula; None without hours."""
        if not self.gpu:
            return None
        return self.flops / (self.stated * 3600 * SHEETS[self.gpu].bfloat16)


_GPT3 = ModelConfig(
    vocab_size=50257,
    context_length=2048,
    embed_dim=12288,
    num_layers=96,
    num_heads=96,
    positions="learned",
    norm_placement="before",
    activation="gelu",
    logits_bias=False,
    tie_embeddings=True,
)

_LLAMA2 = "Llama 2, table 2 (arXiv 2307.09288)"

RUNS = [
    PublishedRun("Llama 2 7B", BASES["Llama-2-7B"], 2e12, 4096, "a100", 184_320, _LLAMA2),
    PublishedRun("Llama 2 13B", BASES["Llama-2-13B"], 2e12, 4096, "a100", 368_640, _LLAMA2),
    PublishedRun(
        "Llama 2 34B",
        llama_sizes(32000, 4096, 8192, 48, 64, 8, 22016),
        *(2e12, 4096, "a100", 1_038_336, _LLAMA2),
    ),
    PublishedRun(
        "Llama 2 70B",
        llama_sizes(32000, 4096, 8192, 80, 64, 8, 28672),
        *(2e12, 4096, "a100", 1_720_320, _LLAMA2),
    ),
    PublishedRun(
        "LLaMA 65B",
        llama_sizes(32000, 2048, 8192, 80, 64, 64, 22016),
        *(1.4e12, 2048, "a100", 1_022_362, "LLaMA, table 15 (arXiv 2302.13971)"),
    ),
    PublishedRun(
        "TinyLlama 1.1B",
        BASES["TinyLlama-1.1B"],
        *(3e12, 2048, "a100", 16 * 90 * 24, "16 A100 for 90 days (github.com/jzhang38/TinyLlama)"),
    ),
    PublishedRun(
        "GPT-2 124M",
        BASES["GPT-2 124M"],
        *(10e9, 1024, "a100", 8 * 1.5, "8 A100 for 90 minutes (karpathy/llm.c, discussion 481)"),
    ),
    PublishedRun("GPT-3 175B", _GPT3, 300e9, 2048, "", 3.14e23, "GPT-3, table D.1"),
    PublishedRun(
        "Llama 3.1 405B",
        llama_sizes(128256, 8192, 16384, 126, 128, 8, 53248),
        *(15.6e12, 8192, "", 3.8e25, "The Llama 3 herd of models (arXiv 2407.21783)"),
    ),
]
