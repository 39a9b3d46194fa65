"""Matrices in blocks of small integers: rounding to them, and finding those that values came from.

A block is 32 inputs of one output, and a weight of it is d u + m with an integer u: the form of
GGUF's Q8_0 (m = -128 d), Q4_0 (m = -8 d) and Q4_1. A model that was imported from such a file has
float32 weights of this form, so that they can be stored in a quarter or a sixth of the memory
without changing one bit.
"""

from typing import NamedTuple

import numpy as np

BLOCK = 32
"""Inputs of a block; sums of products are made for each block, and then added."""

_SMALLEST = np.float32(np.finfo(np.float16).smallest_subnormal)


class Blocks(NamedTuple):
    """A matrix in blocks; a weight is d u + m of its block."""

    u: np.ndarray
    """(outputs, inputs) uint8, for 4 bits 0 to 15."""
    d: np.ndarray
    """(outputs, ceil(inputs / 32)) float16."""
    m: np.ndarray | None
    """The same; None for 8 bits: -128 d."""

    def values(self) -> np.ndarray:
        """The weights (outputs, inputs) float32: exactly what the engine multiplies."""
        d = self.d.astype(np.float32)
        m = np.float32(-128) * d if self.m is None else self.m.astype(np.float32)
        inputs = self.u.shape[1]
        d, m = (np.repeat(scale, BLOCK, axis=1)[:, :inputs] for scale in (d, m))
        return d * self.u.astype(np.float32) + m


def round_to_int8(rows: np.ndarray) -> Blocks:
    """Rounds a matrix to 8 bits, as GGUF's Q8_0 does.

    Args:
        rows: (outputs, inputs) float32.

    Returns:
        The blocks; the largest weight of each is 127 d or -127 d.
    """
    blocks = _in_blocks(rows)
    largest = np.abs(blocks).max(axis=2)
    d = (largest / 127).astype(np.float16)
    d[(d == 0) & (largest > 0)] = _SMALLEST
    u = np.rint(blocks * _inverse(d)[:, :, None])
    np.clip(u, -127, 127, out=u)
    return Blocks(_in_rows(u + 128, rows.shape), d, None)


def find_int8_blocks(rows: np.ndarray) -> Blocks | None:
    """The 8-bit blocks that float32 values are equal to.

    Args:
        rows: (outputs, inputs) float32.

    Returns:
        The blocks; None if there are none.
    """
    found = round_to_int8(rows)
    return found if np.array_equal(found.values(), rows) else None


def find_int4_blocks(rows: np.ndarray) -> Blocks | None:
    """The 4-bit blocks that float32 values are equal to.

    Args:
        rows: (outputs, inputs) float32.

    Returns:
        The blocks; None if there are none.
    """
    blocks = _in_blocks(rows)
    low, high = blocks.min(axis=2), blocks.max(axis=2)
    # Q4_1: the smallest weight has u = 0, the largest u = 15
    d, m = ((high - low) / 15).astype(np.float16), low.astype(np.float16)
    u, same = _fit(blocks, d, m)
    if not same.all():  # Q4_0: the weight that is farthest from 0 has u = 0, and 0 has u = 8
        far = np.where(-low > high, low, high)[~same]
        d[~same], m[~same] = (far / -8).astype(np.float16), far.astype(np.float16)
        u[~same], again = _fit(blocks[~same], d[~same], m[~same])
        if not again.all():
            return None
    return Blocks(_in_rows(u, rows.shape), d, m)


def _fit(blocks: np.ndarray, d: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest integers of blocks (..., 32), and whether d u + m is equal to each block."""
    m32, d32 = m.astype(np.float32)[..., None], d.astype(np.float32)[..., None]
    u = np.rint((blocks - m32) * _inverse(d)[..., None])
    np.clip(u, 0, 15, out=u)
    return u, (d32 * u + m32 == blocks).all(axis=-1)


def _inverse(d: np.ndarray) -> np.ndarray:
    d = d.astype(np.float32)
    return np.divide(np.float32(1), d, out=np.zeros_like(d), where=d != 0)


def _in_blocks(rows: np.ndarray) -> np.ndarray:
    """(outputs, blocks, 32); the last block is filled up with the row's last weight."""
    outputs, inputs = rows.shape
    filling = -inputs % BLOCK
    if filling:
        rows = np.pad(rows, ((0, 0), (0, filling)), mode="edge")
    return np.ascontiguousarray(rows).reshape(outputs, -1, BLOCK)


def _in_rows(u: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return u.astype(np.uint8).reshape(shape[0], -1)[:, : shape[1]]
