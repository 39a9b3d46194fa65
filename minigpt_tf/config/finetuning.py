"""How a pretrained model is adapted: the methods with their defaults, and LoRA."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import ConfigError
from .constants import ATTENTION_PROJECTIONS, LORA_TARGETS
from .settings import check_types, documented, require_at_least, setting


@dataclass(frozen=True)
class MethodDefaults:
    """What the list of methods says of each; the rest is in its class in `finetuning.methods`."""

    help: str
    training: Mapping[str, Any]
    """Fields of TrainingConfig that it sets otherwise than FINE_TUNING."""
    by_layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The same for a value of `classify_layers`."""


MethodName = Literal["full", "lora", "qlora", "dpo", "classify"]

METHODS: dict[MethodName, MethodDefaults] = {
    "full": MethodDefaults("all weights", {"learning_rate": 1e-4}),
    "lora": MethodDefaults("low-rank updates of frozen weights", {"learning_rate": 2e-3}),
    "qlora": MethodDefaults("LoRA on a quantized base", {"learning_rate": 2e-3}),
    "dpo": MethodDefaults("preferences, with LoRA", {"learning_rate": 1e-4, "epochs": 3}),
    "classify": MethodDefaults(
        "labels of texts, by a head on the last token",
        {"learning_rate": 5e-4, "epochs": 3},
        {"lora": {"learning_rate": 1e-3}, "all": {"learning_rate": 5e-5, "epochs": 5}},
    ),
}
"""The list of methods. MethodName has the same names; each is a file in `finetuning/methods/`."""

FINE_TUNING: Mapping[str, Any] = {
    "optimizer": "adamw",
    "schedule": "cosine",
    "weight_decay": 0.01,
    "beta_2": 0.999,
    "epsilon": 1e-8,
    "batch_size": 8,
    "epochs": 8,
    "sample_tokens": 60,
}
"""Fields of TrainingConfig that all methods set otherwise than training on a text does."""

FINE_TUNING_HELP: Mapping[str, str] = {
    "epochs": "passes over the records",
    "batch_size": "records in a batch",
    "eval_every": "steps between evaluations (unset: an epoch)",
    "sample_tokens": "length of each answer shown at an evaluation, at most, in tokens",
}
"""Help texts of TrainingConfig's fields where records are not windows of a text."""

FOR_TEXTS_ONLY = frozenset({"eval_fraction", "eval_share", "sample_prompt"})
"""Fields of TrainingConfig that fine-tuning does not have, by old names too."""


@documented
@dataclass(frozen=True)
class FineTuningConfig:
    """How a base model is adapted to records.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.FineTuningConfig(method="qlora", base_bits="4").max_length is None
        True
    """

    method: MethodName = setting(
        "lora", "; ".join(f"{name}: {method.help}" for name, method in METHODS.items())
    )
    base_bits: Literal["8", "4"] = setting(
        "8",
        "qlora: bits of a weight of the base: integers with a scale, as Keras quantizes (4 bits: a "
        "scale for every 64), and not the NF4 of the QLoRA paper",
    )
    beta: float = setting(0.1, "dpo: how strongly the model is held to its base")
    classify_layers: Literal["last", "lora", "all"] = setting(
        "last",
        "classify: what is trained beside the head: the last block and the norm after it, LoRA, or "
        "all weights",
    )
    max_length: int | None = setting(
        None, "longest row in tokens; longer prompts are truncated (unset: the base's context)"
    )
    sample_queries: tuple[str, ...] = setting(
        (), "question answered at every evaluation; may be repeated (unset: three of the records)"
    )
    records: tuple[str, ...] = setting(
        (),
        "file or folder whose entries stand before each question, as `ask`, `chat` and `serve` put "
        "them there with --records: the model learns to answer from them; may be repeated",
    )

    def __post_init__(self) -> None:
        check_types(self)
        if not self.beta > 0:
            raise ConfigError(f"beta={self.beta}: must be a positive number")
        if self.max_length is not None:
            require_at_least(self, "max_length", 8)


@documented
@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adaptation: which kernels get a low-rank update, and how large (Hu et al., 2021).

    Example:
        >>> import minigpt_tf as mg
        >>> mg.LoraConfig(rank=16, targets=("query", "value")).alpha
        16.0
    """

    rank: int = setting(8, "rank of each kernel's update")
    alpha: float = setting(16.0, "the update is multiplied by alpha / rank")
    lora_dropout: float = setting(0.0, "fraction of a kernel's inputs dropped for its update")
    targets: tuple[str, ...] = setting(
        ATTENTION_PROJECTIONS,
        "layer to update, one of " + ", ".join(LORA_TARGETS) + "; may be repeated",
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
