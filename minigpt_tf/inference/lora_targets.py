"""The kernels of a block that LoRA can update: their sizes, and whether a base has them."""

from dataclasses import replace

from ..config import LORA_TARGETS, LoraConfig, ModelConfig
from ..errors import ConfigError
from .weights import weight_shapes


def kernel_sides(model: ModelConfig) -> dict[str, tuple[int, int]]:
    """The sizes of a block's kernels as matrices.

    Args:
        model: the base's configuration.

    Returns:
        Name of a target that the base has -> (inputs, outputs).
    """
    D, F, H = model.embed_dim, model.ff_dim, model.head_dim
    keys = model.num_kv_heads * H
    sides = {"query": (D, model.num_heads * H), "key": (D, keys), "value": (D, keys)}
    sides |= {"attention_output": (model.num_heads * H, D), "feed_forward_gate": (D, F)}
    sides |= {"feed_forward_up": (D, F), "feed_forward_down": (F, D)}
    present = {name.split("/")[-2] for name in weight_shapes(replace(model, num_layers=1))}
    return {name: sides[name] for name in LORA_TARGETS if name in present}


def check_targets(model: ModelConfig, lora: LoraConfig) -> None:
    """Checks LoRA's settings against a base.

    Args:
        model: the base's configuration.
        lora: what is to be updated, and by which rank.

    Raises:
        ConfigError: the base has no layer of a target's name, or its kernel is smaller than the
            rank.
    """
    sides = kernel_sides(model)
    for name in lora.targets:
        if name not in sides:
            raise ConfigError(f"targets={name}: the base has no such layer, but {', '.join(sides)}")
        if lora.rank > min(sides[name]):
            raise ConfigError(
                f"rank={lora.rank}: {name} has {sides[name][0]} inputs and {sides[name][1]} "
                f"outputs: choose at most {min(sides[name])}"
            )
