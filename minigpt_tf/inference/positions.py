"""The position formulas, as NumPy tables. The Keras layers and the engine both take them here."""

import functools
import math

import numpy as np


def sinusoidal_table(context_length: int, embed_dim: int) -> np.ndarray:
    """Positional encodings of shape (context_length, embed_dim), float32.

    PE(pos, 2i) = sin(pos / 10000^(2i / D)), PE(pos, 2i + 1) = cos of the same
    (Vaswani et al., 2017, "Attention Is All You Need", section 3.5).
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
    """Cosines and sines of the rotary angles, each of shape (context_length, head_dim), float32.

    Half-split layout: dimension i turns together with i + head_dim / 2, so both halves hold the
    same angles (Su et al., 2021, "RoFormer", in the layout of GPT-NeoX and Llama checkpoints).
    """
    frequencies = frequencies_of_pairs(head_dim, rope_theta)
    divisors = rotary_divisors(frequencies, rope_scaling)
    return _rotary_tables(context_length, tuple(frequencies / divisors))


@functools.lru_cache(maxsize=2)
def _rotary_tables(length: int, frequencies: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """One pair of tables for all layers of a model."""
    angles = _angles(length, np.array(frequencies))  # (T, H / 2)
    both = np.concatenate([angles, angles], axis=-1)
    tables = np.cos(both).astype(np.float32), np.sin(both).astype(np.float32)
    for table in tables:
        table.flags.writeable = False
    return tables


def rotary_divisors(frequencies: np.ndarray, scaling: dict[str, float] | None) -> np.ndarray:
    """What `ModelConfig.rope_scaling` divides each of the frequencies (H / 2,) by: (H / 2,).

    Linear: all by the factor (Chen et al., 2023, "Extending context window of large language
    models via positional interpolation"). Llama 3: turns that are shorter than the original
    context / high_freq_factor stay, those longer than it / low_freq_factor are divided by the
    factor, and between them it goes over smoothly ("The Llama 3 herd of models", 2024).
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
    """1 / base^(2i / width), by which pair i of dimensions turns from one position to the next, in
    radians: (width / 2,), float64."""
    return base ** (-np.arange(0, width, 2) / width)


def _angles(length: int, frequencies: np.ndarray) -> np.ndarray:
    """Every position times every frequency: (length, frequencies), float64."""
    return np.arange(length)[:, None] * frequencies
