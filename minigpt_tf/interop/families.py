"""The families of models that other tools know: which of our models they can express."""

import difflib
import math
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

ANY: tuple[Any, ...] = ()
"""In the place of the values that a switch may have: all of them."""

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
    letters: str = "G"
    """Kinds of layers that its models may have: letters of a layer pattern."""
    mixed: bool = True
    """Whether layers of one model may be of several kinds."""
    gguf_patterns: tuple[str, ...] = ("G",)
    """Layer patterns that llama.cpp computes."""
    scales_embeddings: bool = False
    """Whether embeddings are multiplied by the square root of their width."""
    divides: bool = False
    """Whether transformers asks for a width that is a multiple of the heads."""
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
            if allowed is not ANY and getattr(config, name) not in allowed
        ]
        kinds = set(config.layer_kinds)
        if not kinds <= set(self.letters) or (len(kinds) > 1 and not self.mixed):
            found.append(f"layer_pattern={config.layer_pattern}")
        scale = config.embed_dim**0.5 if self.scales_embeddings else 1.0
        if not math.isclose(config.embedding_scale, scale, rel_tol=1e-6):
            found.append(f"embedding_scale={config.embedding_scale}")
        if config.rope_theta_local is not None and self.name != "gemma3_text":
            found.append(f"rope_theta_local={config.rope_theta_local}")
        if config.logits_bias and not config.tie_embeddings:
            found.append(HEAD_BIAS)
        if config.positions != "rotary":
            if config.num_kv_heads != config.num_heads:
                found.append(f"grouped heads (num_kv_heads={config.num_kv_heads})")
            if config.num_heads * config.head_dim != config.embed_dim:
                found.append(f"heads of {config.head_dim} (embed_dim / num_heads is needed)")
        return found


_PLAIN: dict[str, tuple[Any, ...]] = {
    "qk_norm": ("none",),
    "attention_softcap": (None,),
    "logits_softcap": (None,),
}
_ROTARY: dict[str, tuple[Any, ...]] = {
    "positions": ("rotary",),
    "norm": ("rms",),
    "norm_placement": ("before",),
    "activation": ("swiglu",),
    "use_bias": (False,),
    "qkv_bias": (False,),
    **_PLAIN,
}
_LEARNED: dict[str, tuple[Any, ...]] = {
    **_PLAIN,
    "positions": ("learned",),
    "norm": ("layer",),
    "norm_placement": ("before",),
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
    divides=True,
)
QWEN2 = Family(
    "qwen2",
    tensor_tables.HUGGINGFACE_LLAMA,
    {**_ROTARY, "qkv_bias": (True,)},
    "qwen2",
    tensor_tables.GGUF_QWEN2,
    letters="GL",
    written=False,  # transformers reads such a folder with Qwen's own tokenizer alone
)
MISTRAL = Family("mistral", tensor_tables.HUGGINGFACE_LLAMA, _ROTARY, letters="GL", mixed=False)
PHI3 = Family(
    "phi3",
    tensor_tables.HUGGINGFACE_PHI3,
    _ROTARY,
    "phi3",
    tensor_tables.GGUF_PHI3,
    letters="GL",
    mixed=False,
    gguf_patterns=("L", "G"),
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
QWEN3 = Family(
    "qwen3",
    tensor_tables.HUGGINGFACE_QWEN3,
    {**_ROTARY, "qk_norm": ("head",)},
    "qwen3",
    tensor_tables.GGUF_QWEN3,
    letters="GL",
)
SMOLLM3 = Family(
    "smollm3",
    tensor_tables.HUGGINGFACE_LLAMA,
    _ROTARY,
    "smollm3",
    tensor_tables.GGUF_LLAMA,
    letters="GLN",
    gguf_patterns=("GGGN",),
)
OLMO2 = Family(
    "olmo2",
    tensor_tables.HUGGINGFACE_OLMO2,
    {**_ROTARY, "norm_placement": ("output",), "qk_norm": ("all",)},
    "olmo2",
    tensor_tables.GGUF_OLMO2,
)
_GEMMA = {**_ROTARY, "activation": ("geglu_tanh", "geglu")}
GEMMA = Family(
    "gemma",
    tensor_tables.HUGGINGFACE_GEMMA,
    _GEMMA,
    "gemma",
    tensor_tables.GGUF_GEMMA,
    scales_embeddings=True,
)
_any: dict[str, tuple[Any, ...]] = {name: ANY for name in ("attention_softcap", "logits_softcap")}
GEMMA2 = Family(
    "gemma2",
    tensor_tables.HUGGINGFACE_GEMMA2,
    {**_GEMMA, **_any, "norm_placement": ("both",)},
    "gemma2",
    tensor_tables.GGUF_GEMMA,
    letters="GL",
    gguf_patterns=("LG",),
    scales_embeddings=True,
    divides=True,
)
GEMMA3 = Family(
    "gemma3_text",
    tensor_tables.HUGGINGFACE_GEMMA2,
    {**_GEMMA, **_any, "norm_placement": ("both",), "qk_norm": ("head",)},
    "gemma3",
    tensor_tables.GGUF_GEMMA,
    letters="GL",
    gguf_patterns=("LLLLLG",),
    scales_embeddings=True,
    divides=True,
)

FAMILIES = {
    family.name: family
    for family in (
        *(GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, SMOLLM3, OLMO2, GEMMA, GEMMA2, GEMMA3),
        *(GRANITE, GRANITE_HYBRID, PHI3, OPT),
    )
}
"""In the order in which they are tried for a model that is exported."""

GGUF_FAMILIES = {family.gguf_name: family for family in FAMILIES.values() if family.gguf_name}
"""By their names in llama.cpp."""

_EXPERTS, _STATES = "a mixture of experts", "layers with a state of their own (Mamba, delta-net)"
_PER_LAYER = "embeddings for each layer"
_VISION = "a vision or audio tower"
_PARALLEL = "rotation of a part of each head (or parallel blocks)"
UNSUPPORTED = {
    "lfm2": ("gated short convolutions", "qwen3"),
    "gpt_neox": (_PARALLEL, "llama"),
    "stablelm": (_PARALLEL, "llama"),
    "mixtral": (_EXPERTS, "mistral"),
    "qwen2_moe": (_EXPERTS, "qwen2"),
    "granitemoe": (_EXPERTS, "granite"),
    "phimoe": (_EXPERTS, "phi3"),
    "llama4": (_EXPERTS, "llama"),
    "deepseek_v2": (_EXPERTS, "llama"),
    "deepseek_v3": (_EXPERTS, "llama"),
    "gpt_oss": (_EXPERTS, "llama"),
    "qwen3_moe": (_EXPERTS, "qwen3"),
    "olmoe": (_EXPERTS, "olmo2"),
    "ernie4_5_moe": (_EXPERTS, "llama"),
    "qwen3_next": (_STATES, "qwen3"),
    "qwen3_5": (_STATES, "qwen3"),
    "qwen3_5_text": (_STATES, "qwen3"),
    "gemma3n": (_PER_LAYER, "gemma3_text"),
    "gemma3n_text": (_PER_LAYER, "gemma3_text"),
    "gemma4": (_PER_LAYER, "gemma3_text"),
    "gemma4_text": (_PER_LAYER, "gemma3_text"),
    "gemma3": (_VISION, "gemma3_text"),
    "paligemma": (_VISION, "gemma"),
    "qwen3_vl": (_VISION, "qwen3"),
    "smolvlm": (_VISION, "llama"),
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


def shortest_pattern(kinds: str) -> str:
    """The shortest layer pattern of some layers.

    Args:
        kinds: A letter for each layer.

    Returns:
        The letters that are repeated over the layers.

    Example:
        >>> shortest_pattern("LLGLL")
        'LLG'
    """
    for length in range(1, len(kinds)):
        if kinds.startswith(kinds[length:]):
            return kinds[:length]
    return kinds
