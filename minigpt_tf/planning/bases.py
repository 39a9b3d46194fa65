"""Sizes of known models, to plan with before one is downloaded."""

from ..config import ModelConfig
from ..config.presets import model_preset
from ..errors import ConfigError

_LLAMA = {"norm_placement": "before", "activation": "swiglu", "qkv_bias": False}
"""What its relatives have otherwise."""


def llama_sizes(
    vocab_size: int,
    context_length: int,
    embed_dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    ff_dim: int,
    *,
    tied: bool = False,
    **others: object,
) -> ModelConfig:
    """A model with rotary positions, RMS norms and SwiGLU.

    Args:
        vocab_size, context_length, embed_dim, num_layers, num_heads, num_kv_heads, ff_dim, others:
            As in ModelConfig.
        tied: Whether the output head is the embedding.

    Returns:
        The architecture.
    """
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        embed_dim=embed_dim,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        ff_dim=ff_dim,
        dropout=0.0,
        positions="rotary",
        norm="rms",
        use_bias=False,
        logits_bias=False,
        tie_embeddings=tied,
        **{**_LLAMA, **others},  # type: ignore[arg-type]
    )


def _qwen3(embed_dim: int, num_layers: int, ff_dim: int) -> ModelConfig:
    """Qwen3's smaller models have heads that are wider than embed_dim / num_heads."""
    return llama_sizes(
        *(151936, 40960, embed_dim, num_layers, 16, 8, ff_dim),
        tied=True,
        head_dim=128,
        qk_norm="head",
    )


def _gemma3(embed_dim: int, num_layers: int, num_heads: int, ff_dim: int) -> ModelConfig:
    """Gemma 3, without its windows, which take no memory while training."""
    return llama_sizes(
        *(262144, 32768, embed_dim, num_layers, num_heads, 1, ff_dim),
        tied=True,
        head_dim=256,
        qk_norm="head",
        norm_placement="both",
        activation="geglu_tanh",
    )


BASES: dict[str, ModelConfig] = {
    "GPT-2 124M": model_preset("gpt2"),
    "SmolLM2-135M": llama_sizes(49152, 8192, 576, 30, 9, 3, 1536, tied=True),
    "Gemma-3-270M": _gemma3(640, 18, 4, 2048),
    "GPT-2 medium": model_preset("gpt2", embed_dim=1024, num_layers=24, num_heads=16),
    "SmolLM2-360M": llama_sizes(49152, 8192, 960, 32, 15, 5, 2560, tied=True),
    "Qwen2.5-0.5B": llama_sizes(151936, 32768, 896, 24, 14, 2, 4864, tied=True, qkv_bias=True),
    "Qwen3-0.6B": _qwen3(1024, 28, 3072),
    "Gemma-3-1B": _gemma3(1152, 26, 4, 6912),
    "TinyLlama-1.1B": llama_sizes(32000, 2048, 2048, 22, 32, 4, 5632),
    "Llama-3.2-1B": llama_sizes(128256, 131072, 2048, 16, 32, 8, 8192, tied=True),
    "OLMo-2-1B": llama_sizes(
        100352, 4096, 2048, 16, 16, 16, 8192, qk_norm="all", norm_placement="output"
    ),
    "Qwen2.5-1.5B": llama_sizes(151936, 32768, 1536, 28, 12, 2, 8960, tied=True, qkv_bias=True),
    "SmolLM2-1.7B": llama_sizes(49152, 8192, 2048, 24, 32, 32, 8192, tied=True),
    "Qwen3-1.7B": _qwen3(2048, 28, 6144),
    "Granite-3.3-2B": llama_sizes(49159, 131072, 2048, 40, 32, 8, 8192, tied=True),
    "SmolLM3-3B": llama_sizes(128256, 65536, 2048, 36, 16, 4, 11008, tied=True),
    "Llama-3.2-3B": llama_sizes(128256, 131072, 3072, 28, 24, 8, 8192, tied=True),
    "Llama-2-7B": llama_sizes(32000, 4096, 4096, 32, 32, 32, 11008),
    "Llama-3.1-8B": llama_sizes(128256, 131072, 4096, 32, 32, 8, 14336),
    "Llama-2-13B": llama_sizes(32000, 4096, 5120, 40, 40, 40, 13824),
    "Qwen2.5-32B": llama_sizes(152064, 32768, 5120, 64, 40, 8, 27648, qkv_bias=True),
    "Llama-3.1-70B": llama_sizes(128256, 131072, 8192, 80, 64, 8, 28672),
}
"""By ascending size. The numbers of parameters are those that their makers state."""


def base_of(name: str) -> ModelConfig:
    """The sizes of a known model.

    Args:
        name: One of BASES, in any case.

    Returns:
        The architecture.

    Raises:
        ConfigError: There is no such model.
    """
    known = {key.lower(): config for key, config in BASES.items()}
    if name.lower() not in known:
        raise ConfigError(
            f"base={name!r:.60}: no such folder or file, and none of {', '.join(BASES)}"
        )
    return known[name.lower()]
