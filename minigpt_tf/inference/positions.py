"""The position formulas, as NumPy tables. The Keras layers and the engine share them."""

import functools
import math

import numpy as np

from ..config import ModelConfig


def sinusoidal_table(context_length: int, embed_dim: int) -> np.ndarray:
    """Sinusoidal positional encodings.

    PE(pos, 2i) = sin(pos / 10000^(2i / D)), PE(pos, 2i + 1) = cos of the same
    (Vaswani et al., 2017, "Attention Is All You Need", section 3.5).

    Args:
        context_length: Number of positions C.
        embed_dim: Width D, even.

    Returns:
        (C, D) float32.
    """
    angles = _angles(context_length, frequencies_of_pairs(embed_dim, 10000.0))  # (T, D / 2)
    table = np.empty((context_length, embed_dim), dtype=np.float32)
    table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles)
    return table


def rotary_tables(
    context_length: int,
    head_dim: int,
    rope_theta: float,
    rope_scaling: dict[str, float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of the rotary angles.

    Half-split layout: dimension i is rotated together with i + H / 2, so both halves of a row are
    equal (Su et al., 2021, "RoFormer", in the layout of GPT-NeoX and Llama checkpoints).

    Args:
        context_length: Number of positions C.
        head_dim: Width H of a head, even.
        rope_theta: Base of the angles.
        rope_scaling: As in ModelConfig (unset: none).

    Returns:
        Two read-only arrays (C, H), float32.
    """
    frequencies = frequencies_of_pairs(head_dim, rope_theta)
    divisors = rotary_divisors(frequencies, rope_scaling)
    return _rotary_tables(context_length, tuple(frequencies / divisors))


@functools.lru_cache(maxsize=4)
def _rotary_tables(length: int, frequencies: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """One pair of tables for all layers of a model."""
    angles = _angles(length, np.array(frequencies))  # (T, H / 2)
    both = np.concatenate([angles, angles], axis=-1)
    tables = np.cos(both).astype(np.float32), np.sin(both).astype(np.float32)
    for table in tables:
        table.flags.writeable = False
    return tables


def rotary_divisors(frequencies: np.ndarray, scaling: dict[str, float] | None) -> np.ndarray:
    """What `ModelConfig.rope_scaling` divides the frequencies by.

    Linear: all by the factor (Chen et al., 2023, "Extending context window of large language
    models via positional interpolation"). Llama 3: turns that are shorter than the original
    context / high_freq_factor stay, those longer than it / low_freq_factor are divided by the
    factor, with a smooth transition between them ("The Llama 3 herd of models", 2024).

    Args:
        frequencies: (H / 2,), from `frequencies_of_pairs`.
        scaling: As in ModelConfig; None divides by 1.

    Returns:
        (H / 2,) float64.
    """
    if scaling is None:
        return np.ones_like(frequencies)
    factor = scaling["factor"]
    if len(scaling) == 1:
        return np.full_like(frequencies, factor)
    turns = scaling["original_context_length"] * frequencies / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)


def frequencies_of_pairs(width: int, base: float) -> np.ndarray:
    """1 / base^(2i / width): the angle of pair i of dimensions from one position to the next.

    Args:
        width: Number of dimensions, even.
        base: 10000 in both papers.

    Returns:
        (width / 2,) float64, in radians.
    """
    return base ** (-np.arange(0, width, 2) / width)


def _angles(length: int, frequencies: np.ndarray) -> np.ndarray:
    """Every position times every frequency: (length, frequencies), float64."""
    return np.arange(length)[:, None] * frequencies


def rotation_of(config: ModelConfig, kind: str) -> tuple[float | None, dict[str, float] | None]:
    """How a layer rotates queries and keys.

    Args:
        config: Architecture of the model.
        kind: The layer's letter in the pattern.

    Returns:
        Base of the angles and their scaling; None and None for a layer that does not.
    """
    if config.positions != "rotary" or kind == "N":
        return None, None
    if kind == "L" and config.rope_theta_local is not None:
        return config.rope_theta_local, None
    return config.rope_theta, config.rope_scaling


def half_rotary_tables(config: ModelConfig, kind: str = "G") -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of a model's rotary angles, one for each pair.

    Args:
        config: Architecture of the model.
        kind: The layer's letter in the pattern.

    Returns:
        Both (C, H / 2), contiguous; (0, 0) for a layer without.
    """
    theta, scaling = rotation_of(config, kind)
    if theta is None:
        return np.zeros((0, 0), dtype=np.float32), np.zeros((0, 0), dtype=np.float32)
    tables = rotary_tables(config.context_length, config.head_dim, theta, scaling)
    cosines, sines = (np.ascontiguousarray(t[:, : config.head_dim // 2]) for t in tables)
    return cosines, sines
