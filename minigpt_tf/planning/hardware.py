"""The course's hardware questions: GPU hours and memory from 1 to 70 billion parameters.

The formulas are the field's, for a GPU with tensor cores and a usual program for it, not for this
package: N parameters, D tokens, L layers, T tokens of a row, B rows, E the width.

    training     (6 N + 12 L T E) D operations; LoRA and QLoRA (4 N + 12 L T E) D, since frozen
                 weights have no gradients; DPO adds a forward pass of the reference, 2 N D
    memory       16 N bytes in full (bfloat16 weights and gradients, float32 weights and Adam's two
                 averages); LoRA 2 N and 16 of each trained weight; QLoRA N / 2 and scales; and
                 2 L E T B bytes of what the layers keep, each computed again for its gradients
"""

import math
from dataclasses import dataclass
from typing import Literal

from ..config import ModelConfig
from ..inference.lora_targets import kernel_sides
from .decoding import read_parameters
from .machines import Sheet
from .timing import attention_flops

GpuMethod = Literal["pretraining", "full", "lora", "qlora", "dpo"]
METHODS: tuple[GpuMethod, ...] = ("pretraining", "full", "lora", "qlora", "dpo")

UTILIZATION = 0.45
"""Operations of training, of those that the data sheet promises in bfloat16: published runs lie
between 0.37 and 0.60 (`published`)."""

USABLE_MEMORY = 0.9
"""Of a GPU's memory; the rest is the driver's, and lies between what is allocated."""

BFLOAT16_BYTES, ADAM_BYTES, NF4_BYTES = 2, 16, 0.5 + 4 / 64 / 2
"""Of a weight: in bfloat16; in training with Adam; in 4 bits with a scale of 2 bytes for 64."""

RANK = 16
"""Of LoRA in the table, on all kernels."""

ROWS = 8
"""Rows that a GPU computes at once in the table, with blocks computed again for their gradients."""


@dataclass(frozen=True)
class GpuRun:
    """A training run on GPUs."""

    flops: float
    gpu_hours: float
    memory: float
    """Bytes, all GPUs together."""
    gpus: int
    """How many its memory needs."""


def training_flops(model: ModelConfig, method: GpuMethod, tokens: float, length: int) -> float:
    """Operations of a training run.

    Args:
        model: The architecture.
        method: How it is trained.
        tokens: Of the whole run. For DPO: of both answers and their prompts.
        length: Tokens of a row.

    Returns:
        Operations of products of matrices.
    """
    matrices = read_parameters(model)
    attention = 3 * attention_flops(model, length * tokens)
    passes = {"pretraining": 6, "full": 6, "lora": 4, "qlora": 4, "dpo": 6}[method]
    return passes * matrices * tokens + attention


def training_memory(model: ModelConfig, method: GpuMethod, length: int) -> float:
    """Memory of a training run.

    Args:
        model: The architecture.
        method: How it is trained; DPO with LoRA, whose base is the reference.
        length: Tokens of a row.

    Returns:
        Bytes, of weights, gradients, averages and what the layers keep.
    """
    rows = 2 * ROWS if method == "dpo" else ROWS
    tokens = rows * length
    kept = 2 * model.num_layers * model.embed_dim * tokens
    block = 34 * model.embed_dim * tokens  # Korthikanti et al., 2022, without attention's scores
    logits = 6 * model.vocab_size * min(tokens, 8192)
    if method in ("pretraining", "full"):
        return ADAM_BYTES * model.parameter_count + kept + block + logits
    sides = kernel_sides(model)
    adapter = model.num_layers * RANK * sum(a + b for a, b in sides.values())
    kernels = model.num_layers * sum(a * b for a, b in sides.values())
    size = NF4_BYTES if method == "qlora" else BFLOAT16_BYTES
    others = BFLOAT16_BYTES * (model.parameter_count - kernels)
    return size * kernels + others + ADAM_BYTES * adapter + kept + block + logits


def gpu_run(
    model: ModelConfig, method: GpuMethod, sheet: Sheet, tokens: float, length: int
) -> GpuRun:
    """A training run on GPUs of one kind.

    Args:
        model: The architecture.
        method: How it is trained.
        sheet: The GPU.
        tokens: Of the whole run.
        length: Tokens of a row.

    Returns:
        GPU hours and memory.
    """
    flops = training_flops(model, method, tokens, length)
    memory = training_memory(model, method, length)
    return GpuRun(
        flops,
        flops / (UTILIZATION * sheet.bfloat16) / 3600,
        memory,
        math.ceil(memory / (USABLE_MEMORY * sheet.memory)),
    )
