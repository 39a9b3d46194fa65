"""The families of models that other tools know: which of our models they can express."""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..config import ModelConfig
from ..errors import ConfigError
from . import tensor_tables
from .tensors import Table

_ANGLES = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
_CAUSAL_MASK = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")

HEAD_BIAS = "a bias in the output head (logits_bias)"


@dataclass(frozen=True)
class Family:
    """An architecture by its name in transformers, and its tables of tensors."""

    name: str
    huggingface: Table
    needs: Mapping[str, tuple[Any, ...]]
    """What its models have in common: fields of ModelConfig -> the values that they may have. The
    first is the one of files that do not say it."""
    gguf_name: str | None = None
    """Its name in llama.cpp; None if its models have another family's there."""
    gguf: Table | None = None
    written: bool = True
    """Whether models are exported so: else another family expresses them with the same weights."""
    prefix: str = "model."
    """Files of a model without its head leave this away from the names of tensors."""
    buffers: re.Pattern = _ANGLES
    """Tensors in older files that follow from the configuration: the causal mask, rotary angles."""

    @property
    def gguf_table(self) -> Table:
        """The tensors of a family that llama.cpp has."""
        assert self.gguf is not None
        return self.gguf

    def problems(self, config: ModelConfig) -> list[str]:
        """What stands against a model in this family.

        Args:
            config: The model's configuration.

        Returns:
            Descriptions of switches; none if the family can express the model.
        """
        found = [
            f"{name}={getattr(config, name)}"
            for name, allowed in self.needs.items()
            if getattr(config, name) not in allowed
        ]
        if config.logits_bias and not config.tie_embeddings:
            found.append(HEAD_BIAS)
        if config.positions != "rotary":
            if config.num_kv_heads != config.num_heads:
                found.append(f"grouped heads (num_kv_heads={config.num_kv_heads})")
            if config.num_heads * config.head_dim != config.embed_dim:
                found.append(f"heads of {config.head_dim} (embed_dim / num_heads is needed)")
        return found


_ROTARY: dict[str, tuple[Any, ...]] = {
    "positions": ("rotary",),
    "norm": ("rms",),
    "norm_first": (True,),
    "activation": ("swiglu",),
    "use_bias": (False,),
    "qkv_bias": (False,),
}
_LEARNED: dict[str, tuple[Any, ...]] = {
    "positions": ("learned",),
    "norm": ("layer",),
    "norm_first": (True,),
}

GPT2 = Family(
    "gpt2",
    tensor_tables.HUGGINGFACE_GPT2,
    {**_LEARNED, "activation": ("gelu_tanh", "gelu", "relu")},
    "gpt2",
    tensor_tables.GGUF_GPT2,
    prefix="transformer.",
    buffers=_CAUSAL_MASK,
)
LLAMA = Family(
    "llama",
    tensor_tables.HUGGINGFACE_LLAMA,
    {**_ROTARY, "qkv_bias": (False, True)},
    "llama",
    tensor_tables.GGUF_LLAMA,
)
QWEN2 = Family(
    "qwen2",
    tensor_tables.HUGGINGFACE_LLAMA,
    {**_ROTARY, "qkv_bias": (True,)},
    "qwen2",
    tensor_tables.GGUF_QWEN2,
    written=False,  # transformers reads such a folder with Qwen's own tokenizer alone
)
MISTRAL = Family("mistral", tensor_tables.HUGGINGFACE_LLAMA, _ROTARY, written=False)
PHI3 = Family(
    "phi3",
    tensor_tables.HUGGINGFACE_PHI3,
    _ROTARY,
    "phi3",
    tensor_tables.GGUF_PHI3,
    written=False,
)
GRANITE = Family(
    "granite",
    tensor_tables.HUGGINGFACE_LLAMA,
    LLAMA.needs,
    "granite",
    tensor_tables.GGUF_LLAMA,
    written=False,
)
GRANITE_HYBRID = Family(
    "granitemoehybrid", tensor_tables.HUGGINGFACE_GRANITE_HYBRID, LLAMA.needs, written=False
)
OPT = Family(
    "opt",
    tensor_tables.HUGGINGFACE_OPT,
    {
        **_LEARNED,
        "norm_epsilon": (1e-5,),
        "activation": ("relu", "gelu"),
        "use_bias": (True,),
        "qkv_bias": (True,),
    },
    written=False,
)

FAMILIES = {
    family.name: family
    for family in (GPT2, LLAMA, QWEN2, MISTRAL, GRANITE, GRANITE_HYBRID, PHI3, OPT)
}
"""In the order in which they are tried for a model that is exported."""

GGUF_FAMILIES = {family.gguf_name: family for family in FAMILIES.values() if family.gguf_name}
"""By their names in llama.cpp."""

_EXPERTS, _STATES = "a mixture of experts", "layers with a state of their own (Mamba, delta-net)"
_VISION = "a vision or audio tower"
UNSUPPORTED = {
    "mixtral": (_EXPERTS, "mistral"),
    "qwen2_moe": (_EXPERTS, "qwen2"),
    "granitemoe": (_EXPERTS, "granite"),
    "phimoe": (_EXPERTS, "phi3"),
    "llama4": (_EXPERTS, "llama"),
    "deepseek_v2": (_EXPERTS, "llama"),
    "deepseek_v3": (_EXPERTS, "llama"),
    "gpt_oss": (_EXPERTS, "llama"),
    "mamba": (_STATES, "llama"),
    "mamba2": (_STATES, "llama"),
    "falcon_mamba": (_STATES, "llama"),
    "falcon_h1": (_STATES, "llama"),
    "jamba": (_STATES, "llama"),
    "bamba": (_STATES, "llama"),
    "mistral3": (_VISION, "mistral"),
    "mllama": (_VISION, "llama"),
    "qwen2_vl": (_VISION, "qwen2"),
    "qwen2_5_vl": (_VISION, "qwen2"),
}
"""Architectures that people may try -> what they have that no model here has, and the family that
comes nearest."""


def unsupported(name: str, known: Collection[str]) -> str:
    """Explains that an architecture is unsupported.

    Args:
        name: In another tool.
        known: Those of that tool that are supported.

    Returns:
        A sentence with what it has, if that is known, and what works.
    """
    shown = f"the architecture {name!r:.40} is unsupported"
    works = ", ".join(known)
    if name in UNSUPPORTED:
        why, nearest = UNSUPPORTED[name]
        return f"{shown}: it has {why}; the nearest that works: {nearest}; known: {works}"
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"; the nearest that works: {near[0]}" if near else ""
    return f"{shown}{hint}; known: {works}"


def family_of(config: ModelConfig) -> Family:
    """Finds the family that a model is exported as.

    Args:
        config: The model's configuration.

    Returns:
        The first one that can express it.

    Raises:
        ConfigError: None can; the message says what stands against the nearest.
    """
    problems = {
        name: family.problems(config) for name, family in FAMILIES.items() if family.written
    }
    name = min(problems, key=lambda name: len(problems[name]))
    if problems[name]:
        raise ConfigError(
            f"this model fits no format of transformers or llama.cpp; the nearest, {name}, has no "
            f"{', no '.join(problems[name])}"
        )
    return FAMILIES[name]


def expressed(config: ModelConfig, family: Family | None = None) -> ModelConfig:
    """The configuration of the same model with every bias that its family's format has.

    Args:
        config: The model's configuration.
        family: The family (unset: the one that it is exported as).

    Returns:
        The configuration of the tensors: biases that the model does not have are zeros there.
    """
    if (family or family_of(config)) is GPT2:
        return replace(config, use_bias=True, qkv_bias=True)
    return config
