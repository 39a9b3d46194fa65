"""How a pretrained model is adapted: the method, and changes of low rank."""

from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError
from .constants import ATTENTION_PROJECTIONS, LORA_TARGETS
from .settings import check_types, require_at_least, setting


@dataclass(frozen=True)
class FineTuningConfig:
    """How a base model is adapted to records."""

    method: Literal["full", "lora", "qlora", "dpo", "classify"] = setting(
        "lora",
        "full: all weights; lora: changes of low rank; qlora: the same on a quantised base; dpo: "
        "preferences (with changes of low rank); classify: labels of texts, by a head on the last "
        "token",
    )
    base_bits: Literal["8", "4"] = setting(
        "8",
        "bits of a weight of qlora's base: whole numbers with a scale, as Keras quantises (int4: a "
        "scale for every 64), and not the NF4 of the QLoRA paper",
    )
    beta: float = setting(0.1, "dpo: how strongly the model is held to its base")
    classify_layers: Literal["last", "lora", "all"] = setting(
        "last",
        "classify: what is trained beside the head: the last block and the norm behind it, changes "
        "of low rank, or all",
    )
    max_length: int | None = setting(
        None, "longest row in tokens; prompts are cut to fit (unset: the base's context)"
    )
    sample_queries: tuple[str, ...] = setting(
        (), "question answered at every evaluation; may be repeated (unset: three of the records)"
    )

    def __post_init__(self) -> None:
        check_types(self)
        if not self.beta > 0:
            raise ConfigError(f"beta={self.beta}: must be a positive number")
        if self.max_length is not None:
            require_at_least(self, "max_length", 8)

    @property
    def low_rank(self) -> bool:
        """Whether the base stays as it is, and has changes of low rank."""
        return self.way in ("lora", "qlora", "dpo", "classify lora")

    @property
    def way(self) -> str:
        """The method and, where it has several kinds that train differently, which."""
        if self.method == "classify" and self.classify_layers != "last":
            return f"classify {self.classify_layers}"
        return self.method


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adaptation: which kernels get a change of low rank, and how large."""

    rank: int = setting(8, "rank of the change of each kernel")
    alpha: float = setting(16.0, "the change is multiplied by alpha / rank")
    lora_dropout: float = setting(0.0, "share of a kernel's inputs dropped for the change")
    targets: tuple[str, ...] = setting(
        ATTENTION_PROJECTIONS,
        "layers to change, of " + ", ".join(LORA_TARGETS) + "; may be repeated (unset: all of "
        "attention)",
    )

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(self, "rank", 1)
        if not self.alpha > 0:
            raise ConfigError(f"alpha={self.alpha}: must be a positive number")
        if not 0 <= self.lora_dropout < 1:
            raise ConfigError(f"lora_dropout={self.lora_dropout}: must be at least 0 and below 1")
        for name in self.targets:
            if name not in LORA_TARGETS:
                raise ConfigError(f"targets={name}: choose of {', '.join(LORA_TARGETS)}")
        if not self.targets:
            raise ConfigError("targets: name at least one layer")
