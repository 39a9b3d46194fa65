"""Which of the 15 bases of distil labs' comparison import, by their published configurations.

    python -m benchmarks.distil

Their comparison of fine-tunings (distillabs.ai, 2026-03) took 15 small bases. The fields of each
one's config.json, as its makers publish them, are read as an import reads them; the parameters that
the model then has are compared with those of the published weights. No weights are needed.
"""

from pathlib import Path
from typing import Any

from minigpt_tf.errors import MiniGPTError
from minigpt_tf.interop.huggingface.read_config import read_config


def llama(width: int, layers: int, heads: int, groups: int, feed: int, **others: Any) -> dict:
    """config.json of Llama's family and those that have its fields."""
    fields = {"model_type": "llama", "hidden_size": width, "num_hidden_layers": layers}
    fields |= {"num_attention_heads": heads, "num_key_value_heads": groups}
    fields |= {"intermediate_size": feed, "hidden_act": "silu", "rms_norm_eps": 1e-5}
    return {**fields, **others}


def llama3(factor: float, *sizes: int, tied: bool = True) -> dict:
    """Llama 3.1 and 3.2."""
    scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0}
    scaling |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    others = {"vocab_size": 128256, "max_position_embeddings": 131072, "rope_theta": 500000.0}
    return llama(*sizes, **others, rope_scaling=scaling, tie_word_embeddings=tied)


def qwen3(*sizes: int, tied: bool = True) -> dict:
    """Qwen3, whose heads are 128 wide."""
    others = {"model_type": "qwen3", "vocab_size": 151936, "max_position_embeddings": 40960}
    others |= {"head_dim": 128, "rope_theta": 1000000, "rms_norm_eps": 1e-6}
    others |= {"sliding_window": None, "use_sliding_window": False, "max_window_layers": sizes[1]}
    return llama(*sizes, **others, tie_word_embeddings=tied, attention_bias=False)


def smollm2(context: int, *sizes: int, theta: float) -> dict:
    """SmolLM2."""
    others = {"vocab_size": 49152, "max_position_embeddings": context, "rope_theta": theta}
    return llama(*sizes, **others, tie_word_embeddings=True)


def gemma3(window: int, *sizes: int) -> dict:
    """Gemma 3 (text)."""
    others = {"model_type": "gemma3_text", "vocab_size": 262144, "max_position_embeddings": 32768}
    others |= {"head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": window}
    others |= {"sliding_window_pattern": 6, "rope_theta": 1e6, "rope_local_base_freq": 10000.0}
    others |= {"hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6}
    return {k: v for k, v in llama(*sizes, **others).items() if k != "hidden_act"}


LFM2 = {"model_type": "lfm2", "vocab_size": 65536, "conv_L_cache": 3}

BASES: dict[str, tuple[dict, int | None]] = {
    "Qwen/Qwen3-8B": (qwen3(4096, 36, 32, 8, 12288, tied=False), 8_190_735_360),
    "Qwen/Qwen3-4B": (qwen3(2560, 36, 32, 8, 9728), 4_022_468_096),
    "Qwen/Qwen3-1.7B": (qwen3(2048, 28, 16, 8, 6144), 1_720_574_976),
    "Qwen/Qwen3-0.6B": (qwen3(1024, 28, 16, 8, 3072), 596_049_920),
    "meta-llama/Llama-3.1-8B": (llama3(8.0, 4096, 32, 32, 8, 14336, tied=False), 8_030_261_248),
    "meta-llama/Llama-3.2-3B": (llama3(32.0, 3072, 28, 24, 8, 8192), 3_212_749_824),
    "meta-llama/Llama-3.2-1B": (llama3(32.0, 2048, 16, 32, 8, 8192), 1_235_814_400),
    "LiquidAI/LFM2-350M": (LFM2, None),
    "LiquidAI/LFM2-1.2B": (LFM2, None),
    "LiquidAI/LFM2-2.6B": (LFM2, None),
    "LiquidAI/LFM2.5-1.2B": (LFM2, None),
    "HuggingFaceTB/SmolLM2-1.7B": (
        smollm2(8192, 2048, 24, 32, 32, 8192, theta=130000),
        1_711_376_384,
    ),
    "HuggingFaceTB/SmolLM2-135M": (smollm2(8192, 576, 30, 9, 3, 1536, theta=1e5), 134_515_008),
    "google/gemma-3-1b": (gemma3(512, 1152, 26, 4, 1, 6912), 999_885_952),
    "google/gemma-3-270m": (gemma3(512, 640, 18, 4, 1, 2048), 268_098_176),
}
"""The id on Hugging Face -> its configuration, and the parameters of its published weights (None:
its family is unsupported)."""


def main() -> None:
    """Prints a line for each base, and how many import."""
    count = 0
    for name, (values, published) in BASES.items():
        try:
            config = read_config(values, Path(name, "config.json")).config
        except MiniGPTError as error:
            print(f"{name:<28} refused: {str(error).split(': ', 1)[-1]:.110}")
            continue
        same = config.parameter_count == published
        count += same
        seen = "as published" if same else f"NOT the published {published}"
        print(f"{name:<28} {config.parameter_count:>13,} parameters, {seen}")
    print(f"{count} of {len(BASES)} import")


if __name__ == "__main__":
    main()
