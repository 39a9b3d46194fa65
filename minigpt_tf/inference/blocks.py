"""Matrices in blocks of small integers: rounding to them, and finding those that values came from.

A block is 32 inputs of one output, and a weight of it is d u + m with an integer u: the form of
GGUF's Q8_0 (m = -128 d), Q4_0 (m = -8 d) and Q4_1. A model that was imported from such a file has
float32 weights of this form, so that they can be stored in a quarter or a sixth of the memory
without changing one bit.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

BLOCK = 32
"""Inputs of a block; sums of products are made for each block, and then added."""

LARGEST_INT8 = 127 * float(np.finfo(np.float16).max)
"""The largest weight that can be rounded to 8 bits."""

_SMALLEST = np.float32(np.finfo(np.float16).smallest_subnormal)
_WEIGHTS_AT_ONCE = 2**16
_FIRST_SEARCHED = 8
"""Blocks that are searched for in every way before the others are: of a matrix without blocks, the
first ones show it."""
_NEARLY = 0.1
"""Weights of a block are integer multiples of d apart, and rounding adds less than this."""
_ROUNDING = 2.0**-22
"""Relative to the largest weight of a block: more than float32's rounding of d u + m."""


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
        The blocks; the largest weight of each is 127 d or -127 d. Above LARGEST_INT8 d is infinite.
    """
    blocks = _in_blocks(rows)
    largest = np.abs(blocks).max(axis=2)
    with np.errstate(over="ignore"):
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
    return _find(rows, _int8_blocks)


def find_int4_blocks(rows: np.ndarray) -> Blocks | None:
    """The 4-bit blocks that float32 values are equal to.

    Args:
        rows: (outputs, inputs) float32.

    Returns:
        The blocks; None if there are none.
    """
    return _find(rows, _int4_blocks)


def _find(rows: np.ndarray, find: Callable[[np.ndarray], Blocks | None]) -> Blocks | None:
    """The blocks of all rows, some rows at a time: in the processor's cache, and None early."""
    found = []
    step = max(1, _WEIGHTS_AT_ONCE // rows.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # weights beyond float16 are not in blocks
        for first in range(0, len(rows), step):
            blocks = find(rows[first : first + step])
            if blocks is None:
                return None
            found.append(blocks)
    u, d = (np.concatenate([getattr(each, name) for each in found]) for name in ("u", "d"))
    minimums = [each.m for each in found if each.m is not None]
    return Blocks(u, d, np.concatenate(minimums) if minimums else None)


def _int8_blocks(rows: np.ndarray) -> Blocks | None:
    found = round_to_int8(rows)
    return found if np.array_equal(found.values(), rows) else None


def _int4_blocks(rows: np.ndarray) -> Blocks | None:
    blocks = _in_blocks(rows)
    low, high = blocks.min(axis=2), blocks.max(axis=2)
    # Q4_1 as a rule: the smallest weight has u = 0, the largest u = 15
    d, m = ((high - low) / 15).astype(np.float16), low.astype(np.float16)
    u, same = _fit(blocks, d, m)
    if not same.all():
        others = blocks[~same]
        if _search(others[:_FIRST_SEARCHED]) is None:
            return None
        found = _search(others)
        if found is None:
            return None
        u[~same], d[~same], m[~same] = found
    return Blocks(_in_rows(u, rows.shape), d, m)


def _search(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """u (blocks, 32), d and m (blocks,) of blocks (blocks, 32); None if one has none."""
    u = np.zeros_like(blocks)
    d, m = np.zeros((2, len(blocks)), dtype=np.float16)
    missing = np.ones(len(blocks), dtype=bool)
    low, high = blocks.min(axis=1), blocks.max(axis=1)

    def attempt(some: np.ndarray, guessed_d: np.ndarray, guessed_m: np.ndarray) -> None:
        """Keeps the guesses that fit."""
        if not len(some):
            return
        fitted, same = _fit(blocks[some], guessed_d, guessed_m)
        found = some[same]
        u[found], d[found], m[found] = fitted[same], guessed_d[same], guessed_m[same]
        missing[found] = False

    # Q4_0: 0 has u = 8, and the weight that is farthest from 0 has u = 0 as a rule
    far = np.where(-low > high, low, high)
    for steps in (-8, -7, 7, -6, 6):
        some = np.flatnonzero(missing)
        guess = (far[some] / steps).astype(np.float16)
        attempt(some, guess, guess * np.float16(-8))
    # Q4_1 with an importance matrix: any u of the smallest weight, any larger one of the largest
    for steps in range(15, 0, -1):
        some = np.flatnonzero(missing)
        if not len(some):
            break
        guess = ((high[some] - low[some]) / steps).astype(np.float16)
        distances = (blocks[some] - low[some, None]) * _inverse(guess)[:, None]
        whole = (np.abs(distances - np.rint(distances)) < _NEARLY).all(axis=1)
        some, guess = some[whole], guess[whole]
        if not len(some):
            continue
        for smallest in range(16 - steps):
            exact = low[some] - guess.astype(np.float32) * smallest
            nearest = exact.astype(np.float16)
            near = np.abs(nearest - exact) <= _ROUNDING * np.abs(blocks[some]).max(axis=1)
            attempt(some[near], guess[near], nearest[near])
    return None if missing.any() else (u, d, m)


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
