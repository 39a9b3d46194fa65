"""The position formulas, as NumPy tables. The Keras layers and the engine both take them here."""

import numpy as np


def sinusoidal_table(context_length: int, embed_dim: int) -> np.ndarray:
    """Positional encodings of shape (context_length, embed_dim), float32.

    PE(pos, 2i) = sin(pos / 10000^(2i / D)), PE(pos, 2i + 1) = cos of the same
    (Vaswani et al., 2017, "Attention Is All You Need", section 3.5).
    """
    angles = _angles(context_length, embed_dim, 10000.0)  # (T, D / 2)
    table = np.empty((context_length, embed_dim), dtype=np.float32)
    table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles)
    return table


def rotary_tables(
    context_length: int, head_dim: int, rope_theta: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of the rotary angles, each of shape (context_length, head_dim), float32.

    Half-split layout: dimension i turns together with i + head_dim / 2, so both halves hold the
    same angles (Su et al., 2021, "RoFormer", in the layout of GPT-NeoX and Llama checkpoints).
    """
    angles = _angles(context_length, head_dim, rope_theta)  # (T, H / 2)
    both = np.concatenate([angles, angles], axis=-1)
    return np.cos(both).astype(np.float32), np.sin(both).astype(np.float32)


def _angles(length: int, width: int, base: float) -> np.ndarray:
    """pos / base^(2i / width) for every position and every pair i: (length, width / 2), float64."""
    frequencies = base ** (-np.arange(0, width, 2) / width)
    return np.arange(length)[:, None] * frequencies
