"""Models for LoRA and QLoRA: a frozen base, perhaps quantized, with LoRA adapters."""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

import keras
import numpy as np

from ..config import LoraConfig, ModelConfig
from ..inference.weights import full_name, named_variables
from .gpt import FOR_TRAINING, build_from_kit
from .low_rank import FusedDense, assign_kernel
from .training_layers import (
    FusedAttention,
    FusedRotaryAttention,
    RecomputedModel,
    projections_of,
)

_LORA_A = re.compile("(.+)[_/]lora/a")

QUANTIZED_KERNELS = {"int8": "int8_from_{}", "int4": "int4/64_from_{}"}
"""Keras's dtype policies for quantized kernels; int4 has a scale for every 64 inputs."""


def build_adapted_model(
    config: ModelConfig,
    lora: LoraConfig,
    *,
    seed: int,
    dtype: str = "float32",
    quantize: str = "none",
    remat: bool = False,
) -> tuple[keras.Model, keras.Model]:
    """As `build_training_model`, with LoRA adapters: they alone are trainable.

    Args:
        config: Architecture of the base.
        lora: Which kernels get adapters, their rank and scale.
        seed: Fixes the adapters' initial weights and the dropout.
        dtype: A Keras dtype policy.
        quantize: "int8" or "int4": Keras stores the kernels of the blocks so; embeddings, norms
            and the output head stay float32. "none" stores them in the precision of the products.
        remat: Whether a block is computed again for its gradients.

    Returns:
        The model, and the body before its head. `assign_base` gives them the base's weights.
    """
    kit = replace(
        FOR_TRAINING,
        MultiHeadAttention=functools.partial(FusedAttention, lora=lora),
        RotaryAttention=functools.partial(FusedRotaryAttention, lora=lora),
        Dense=functools.partial(FusedDense, lora=lora),
        Block=RecomputedModel if remat else keras.Model,
        kernels=_kernel_policy(quantize, dtype),
    )
    model, body = build_from_kit(config, seed, dtype, kit)
    factors = {id(factor) for pair in low_rank_updates(model).values() for factor in pair}
    for variable in model.weights:
        variable.trainable = id(variable) in factors
    return model, body


def _kernel_policy(quantize: str, dtype: str) -> str:
    """The dtype policy of the layers with kernels."""
    if quantize == "none":
        return keras.dtype_policies.get(dtype).compute_dtype
    return QUANTIZED_KERNELS[quantize].format(dtype)


def low_rank_updates(model: keras.Model) -> dict[str, tuple[keras.Variable, keras.Variable]]:
    """The LoRA adapters of a model that `build_adapted_model` made.

    Args:
        model: The model.

    Returns:
        Name of a kernel -> its adapter's A (inputs, rank) and B (rank, outputs).
    """
    named = named_variables(model)
    return {
        f"{match[1]}/kernel": (variable, named[f"{name[:-1]}b"])
        for name, variable in named.items()
        if (match := _LORA_A.fullmatch(name))
    }


def assign_base(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Assigns the weights of a base to a model with LoRA adapters, which quantizes what it must.

    Args:
        model: Of `build_adapted_model`.
        weights: float32 arrays by name.
    """
    layers_of = dict(_layers_with_kernels(model))
    for name, variable in named_variables(model).items():
        if name in layers_of:
            assign_kernel(layers_of[name], weights[name])
        elif name in weights:
            variable.assign(weights[name])


def _layers_with_kernels(model: keras.Model) -> Iterator[tuple[str, keras.Layer]]:
    """(name of the kernel, layer) for every Dense and EinsumDense of the blocks."""
    for block in model.layers:
        for layer in getattr(block, "layers", ()):
            if isinstance(layer, FusedDense):
                yield full_name(block.name, f"{layer.name}/kernel"), layer
            elif isinstance(layer, (FusedAttention, FusedRotaryAttention)):
                for name, projection in projections_of(layer).items():
                    yield full_name(block.name, f"{layer.name}/{name}/kernel"), projection
