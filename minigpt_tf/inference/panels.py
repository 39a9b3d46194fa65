"""How the engine stores a matrix: panels of 16 outputs, for every way to store a weight.

A matrix (outputs, inputs) is cut into panels of 16 rows, and each row into blocks of 32 inputs;
both sizes are filled up with zeros. Inside a panel the weights of one input for all 16 outputs lie
side by side: a vector register takes them at once, and each of its lanes sums one output. A panel
is read once from its start to its end, and memory is fastest that way.

| Storage | bytes for a panel and a block of 32 inputs, in this order |
|---|---|
| FLOAT32 | (32, 16) float32 |
| BFLOAT16 | (16, 16, 2) upper halves of float32: pairs of inputs |
| BLOCKS8 | (8, 16, 4) uint8 u: fours of inputs; a weight is d (u - 128) |
| BLOCKS4 | (4, 16, 4) uint8: eights of inputs, byte b has u of b and b + 4; a weight is d u + m |

Before the blocks of a panel stand their scales: (16,) float16 d, for BLOCKS4 also (16,) float16 m,
filled up to 64 bytes.
"""

from enum import IntEnum

import numpy as np

from .blocks import BLOCK, Blocks

LANES = 16
"""Outputs of a panel."""
ALIGNMENT = 64
"""Panels start at multiples of so many bytes."""


class Storage(IntEnum):
    """How the weights of a matrix are stored."""

    FLOAT32 = 0
    BFLOAT16 = 1
    BLOCKS8 = 2
    BLOCKS4 = 3


BYTES_OF_A_BLOCK = (2048, 1024, 512, 256)
"""By Storage: the weights of a block in all rows of a panel."""
SCALES_OF_A_BLOCK = (0, 0, 32, 64)
"""By Storage: bytes of its scales."""


def padded(size: int) -> int:
    """A size filled up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def panel_bytes(storage: int, inputs: int) -> int:
    """The size of a panel.

    Args:
        storage: A Storage.
        inputs: Of the matrix, whole blocks.

    Returns:
        Bytes.
    """
    blocks = inputs // BLOCK
    scales = -(-blocks * SCALES_OF_A_BLOCK[storage] // ALIGNMENT) * ALIGNMENT
    return scales + blocks * BYTES_OF_A_BLOCK[storage]


def empty_panels(size: int) -> np.ndarray:
    """Memory for panels.

    Args:
        size: Bytes.

    Returns:
        (size,) uint8, zeros, at a multiple of ALIGNMENT.
    """
    memory = np.zeros(size + ALIGNMENT, dtype=np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    return memory[first : first + size]


def write_panels(matrix: np.ndarray | Blocks, storage: Storage, panels: np.ndarray) -> None:
    """Stores rows of a matrix.

    Args:
        matrix: (outputs, inputs) float32, whose values the storage must be able to hold; or blocks.
        storage: How.
        panels: (bytes,) uint8, zeros: room for these rows, from the start of a panel on, or more.
    """
    if isinstance(matrix, Blocks):
        _write_blocks(matrix, storage, panels)
        return
    outputs, inputs = matrix.shape
    n, count = padded(inputs), -(-outputs // LANES)
    if (outputs, inputs) != (count * LANES, n):
        filled = np.zeros((count * LANES, n), dtype=np.float32)
        filled[:outputs, :inputs] = matrix
        matrix = filled
    if storage == Storage.FLOAT32:
        by_panel = panels[: 4 * count * n * LANES].view(np.float32).reshape(count, n, LANES)
        by_panel[...] = matrix.reshape(count, LANES, n).swapaxes(1, 2)
    else:
        halves = (np.ascontiguousarray(matrix).view(np.uint32) >> 16).astype(np.uint16)
        pairs = halves.reshape(count, LANES, n // 2, 2).swapaxes(1, 2)
        by_panel = panels[: 2 * count * n * LANES].view(np.uint16)
        by_panel.reshape(count, n // 2, LANES, 2)[...] = pairs


def _write_blocks(blocks: Blocks, storage: Storage, panels: np.ndarray) -> None:
    outputs, inputs = blocks.u.shape
    n, count = padded(inputs), -(-outputs // LANES)
    u = np.full((count * LANES, n), 128 if storage == Storage.BLOCKS8 else 0, dtype=np.uint8)
    u[:outputs, :inputs] = blocks.u
    given = [blocks.d] if blocks.m is None else [blocks.d, blocks.m]
    scales = np.zeros((count * LANES, n // BLOCK, len(given)), dtype=np.float16)
    scales[:outputs] = np.stack(given, axis=-1)
    if storage == Storage.BLOCKS4:
        if inputs % BLOCK:  # the filling is 0 d + m: its input is 0, whatever m
            u[:, inputs:] = 0
        eights = u.reshape(count * LANES, n // 8, 2, 4)
        u = (eights[:, :, 0] | (eights[:, :, 1] << 4)).reshape(count * LANES, n // 2)
    size = panel_bytes(storage, n)
    of_panels = panels[: count * size].reshape(count, size)
    scale_bytes = n // BLOCK * SCALES_OF_A_BLOCK[storage]
    header = scales.reshape(count, LANES, n // BLOCK, len(given)).transpose(0, 2, 3, 1)
    of_panels[:, :scale_bytes] = np.ascontiguousarray(header).reshape(count, -1).view(np.uint8)
    fours = u.reshape(count, LANES, -1, 4).swapaxes(1, 2)
    of_panels[:, of_panels.shape[1] - u.shape[1] * LANES :] = fours.reshape(count, -1)


def read_rows(
    panels: np.ndarray, storage: Storage, inputs: int, rows: np.ndarray | list[int]
) -> np.ndarray:
    """Some rows of a stored matrix.

    Args:
        panels: (bytes,) uint8: the whole matrix.
        storage: How it is stored.
        inputs: Whole blocks.
        rows: Which, (R,).

    Returns:
        (R, inputs) float32.
    """
    rows = np.asarray(rows, dtype=np.int64)
    panel, lane = rows // LANES, rows % LANES
    of_panels = panels.reshape(-1, panel_bytes(storage, inputs))
    if storage == Storage.FLOAT32:
        return of_panels.view(np.float32).reshape(-1, inputs, LANES)[panel, :, lane]
    if storage == Storage.BFLOAT16:
        pairs = of_panels.view(np.uint16).reshape(-1, inputs // 2, LANES, 2)[panel, :, lane]
        return (pairs.reshape(-1, inputs).astype(np.uint32) << 16).view(np.float32)
    blocks = inputs // BLOCK
    header = of_panels[:, : blocks * SCALES_OF_A_BLOCK[storage]].view(np.float16)
    scales = header.reshape(-1, blocks, SCALES_OF_A_BLOCK[storage] // (2 * LANES), LANES)[
        panel, :, :, lane
    ]
    bytes_of_a_row = blocks * BYTES_OF_A_BLOCK[storage] // LANES
    fours = of_panels[:, of_panels.shape[1] - bytes_of_a_row * LANES :]
    u = fours.reshape(-1, bytes_of_a_row // 4, LANES, 4)[panel, :, lane]
    u = u.reshape(len(rows), bytes_of_a_row)
    if storage == Storage.BLOCKS8:
        return Blocks(u, scales[:, :, 0], None).values()
    eights = u.reshape(len(rows), inputs // 8, 1, 4)
    u = np.concatenate([eights & 15, eights >> 4], axis=2).reshape(len(rows), inputs)
    return Blocks(u, scales[:, :, 0], scales[:, :, 1]).values()
