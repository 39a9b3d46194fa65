"""The models that the benchmarks measure: two shapes, random weights, and GGUF files of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from minigpt_tf.config import ModelConfig
from minigpt_tf.config.presets import model_preset
from minigpt_tf.inference.weights import Weights, weight_shapes
from minigpt_tf.interop.families import family_of
from minigpt_tf.interop.gguf.header import read_header
from minigpt_tf.interop.gguf.write_gguf import write_architecture
from minigpt_tf.interop.tensors import Table, entries, to_tensor, to_weights

SMOLLM2, GPT2 = "SmolLM2-135M", "GPT-2 124M"
SHAPES = {
    GPT2: model_preset("gpt2"),
    SMOLLM2: ModelConfig(
        vocab_size=49152,
        context_length=2048,
        embed_dim=576,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        ff_dim=1536,
        positions="rotary",
        rope_theta=100000.0,
        norm="rms",
        norm_placement="before",
        norm_epsilon=1e-5,
        activation="swiglu",
        use_bias=False,
        qkv_bias=False,
        logits_bias=False,
        tie_embeddings=True,
    ),
}

SPREAD = 6
"""Scale of the last norm. With 1, logits of random weights are nearly equal, so that a sampler has
half of the vocabulary to choose from; with this, about as many as of a trained model."""

EMBEDDINGS = ("token_embd.weight", "position_embd.weight")


def random_weights(config: ModelConfig) -> Weights:
    """Normal numbers of GPT-2's spread; scales of norms are 1, but of the last one."""
    random = np.random.default_rng(0)
    weights = {}
    for name, shape in weight_shapes(config).items():
        if name.endswith(("/gamma", "/scale")):
            scale = SPREAD if name.startswith("final_norm") else 1
            weights[name] = np.full(shape, scale, dtype=np.float32)
        elif name.endswith(("/beta", "/bias")):
            weights[name] = np.zeros(shape, dtype=np.float32)
        else:
            weights[name] = random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
    return weights


def born_in_bfloat16(weights: Weights) -> Weights:
    """The same without the lower half of each number."""
    halves = np.uint32(0xFFFF0000)
    return {name: (w.view(np.uint32) & halves).view(np.float32) for name, w in weights.items()}


def tensors_of(weights: Mapping[str, Any], table: Table, config: ModelConfig) -> Weights:
    """Weights by the names and in the layout of another tool."""
    wanted = entries(table, config)
    return {entry.name: to_tensor(entry, weights.__getitem__, config) for entry in wanted}


def write_gguf(weights: Mapping[str, Any], config: ModelConfig, file: Path, kind: str) -> None:
    """A GGUF file without a vocabulary.

    Args:
        weights: By our names.
        config: The architecture.
        file: The file to write.
        kind: F32, BF16, Q8_0, Q4_0 or Q4_1 for the matrices. As llama.cpp does with this shape, the
            token embedding of a file with 4 bits has 8.
    """
    family = family_of(config)
    writer = gguf.GGUFWriter(file, family.name)
    write_architecture(writer, config, config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    for name, values in tensors_of(weights, family.gguf, config).items():
        chosen = "Q8_0" if kind.startswith("Q4") and name == EMBEDDINGS[0] else kind
        if values.ndim == 1 or name == EMBEDDINGS[1]:
            chosen = "F32"
        of_tensor = gguf.GGMLQuantizationType[chosen]
        writer.add_tensor(name, gguf.quantize(values, of_tensor), raw_dtype=of_tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(file: Path, config: ModelConfig) -> Weights:
    """The float32 values of a GGUF file, by our names."""
    tensors, shapes = read_header(file).tensors, weight_shapes(config)
    weights: Weights = {}
    for entry in entries(family_of(config).gguf, config):
        weights |= to_weights(entry, tensors[entry.name].read(), config, shapes)
    return weights
