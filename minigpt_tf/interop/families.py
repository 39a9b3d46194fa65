"""The two families of models that other tools know: which of our models they can express."""

from dataclasses import dataclass, replace
from typing import Any

from ..config import ModelConfig
from ..errors import ConfigError
from . import tensors


@dataclass(frozen=True)
class Family:
    """An architecture by its name in transformers and in llama.cpp, and its tables of tensors."""

    name: str
    huggingface: tensors.Table
    gguf: tensors.Table


GPT2 = Family("gpt2", tensors.HUGGINGFACE_GPT2, tensors.GGUF_GPT2)
LLAMA = Family("llama", tensors.HUGGINGFACE_LLAMA, tensors.GGUF_LLAMA)
FAMILIES = {family.name: family for family in (GPT2, LLAMA)}

_NEEDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {
        "positions": ("learned",),
        "norm": ("layer",),
        "norm_first": (True,),
        "activation": ("gelu_tanh", "gelu", "relu"),
    },
    "llama": {
        "positions": ("rotary",),
        "norm": ("rms",),
        "norm_first": (True,),
        "activation": ("swiglu",),
        "use_bias": (False,),
    },
}
"""What a family's models have in common, by the fields of ModelConfig."""


def family_of(config: ModelConfig) -> Family:
    """The family that can express a model. Raises ConfigError that says what stands against it."""
    family = LLAMA if config.positions == "rotary" else GPT2
    problems = [
        f"{name}={getattr(config, name)}"
        for name, allowed in _NEEDS[family.name].items()
        if getattr(config, name) not in allowed
    ]
    if config.logits_bias and not config.tie_embeddings:
        problems.append("a bias in the output head (logits_bias)")
    if family is GPT2:
        if config.num_kv_heads != config.num_heads:
            problems.append(f"grouped heads (num_kv_heads={config.num_kv_heads})")
        if config.num_heads * config.head_dim != config.embed_dim:
            problems.append(f"heads of {config.head_dim} (embed_dim / num_heads is needed)")
    if problems:
        raise ConfigError(
            f"this model fits neither GPT-2's format nor Llama's: {family.name} has no "
            f"{', no '.join(problems)}"
        )
    return family


def expressed(config: ModelConfig) -> ModelConfig:
    """The configuration of the same model with every bias that its family's format has; those that
    the model does not have are zeros there."""
    if family_of(config) is GPT2:
        return replace(config, use_bias=True, qkv_bias=True)
    return config
