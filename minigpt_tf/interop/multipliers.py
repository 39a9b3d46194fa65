"""Granite's multipliers, which become part of the weights: the model then is a Llama."""

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig


def folded_multipliers(values: Mapping[str, Any], config: ModelConfig) -> dict[str, float]:
    """Granite's multipliers as factors of our weights: the model then computes the same without.

    Args:
        values: The content of config.json; a multiplier that is absent is 1.
        config: The model's configuration.

    Returns:
        The end of a weight's name -> what all such weights are multiplied by.
    """
    names = ("attention", "residual", "embedding")
    attention, residual, embedding = (_number(values, f"{name}_multiplier") for name in names)
    logits = 1 / _number(values, "logits_scaling")
    attention *= config.head_dim**0.5  # in the place of 1 / sqrt(head_dim)
    factors = {
        "attention/query/kernel": attention,
        "attention/query/bias": attention,
        "attention/attention_output/kernel": residual,
        "feed_forward_down/kernel": residual,
        "token_embedding/embeddings": embedding,
    }
    if config.tie_embeddings:  # the head is the embedding, which was multiplied already
        factors["final_norm/scale"] = logits / embedding
    else:
        factors["logits/kernel"] = logits
    return {name: factor for name, factor in factors.items() if factor != 1}


def _number(values: Mapping[str, Any], name: str) -> float:
    value = values.get(name)
    return 1.0 if value is None else float(value)
