"""The products of `product_code` in plain loops: for processors without vectors, and for tests."""

import numpy as np

from ..compiled import inner
from .addresses import (
    as_float,
    load_byte,
    load_float,
    load_half,
    load_int32,
    load_signed,
    load_upper_half,
    multiply_add,
    store_float,
)
from .blocks import BLOCK
from .panels import LANES, Storage

FLOAT32, BFLOAT16, BLOCKS8 = map(int, (Storage.FLOAT32, Storage.BFLOAT16, Storage.BLOCKS8))
_BLOCK_BYTES = tuple(LANES * BLOCK * bits // 8 for bits in (32, 16, 8, 4))
f32 = np.float32


def plain_product(arguments, integers):
    """A product, as `products.multiply` makes it.

    Args:
        arguments: As there.
        integers: Whether the inputs are int8.
    """
    storage, panels, panel_step, count, blocks = arguments[:5]
    x, x_step, int8, scales, sums, int8_step, tokens = arguments[5:12]
    bias, bias_step, out, out_step = arguments[12:]
    for panel in range(count):
        for token in range(tokens):
            for lane in range(LANES):
                total = load_float(bias + 4 * (panel * bias_step + lane))
                for block in range(blocks):
                    first = panels + panel * panel_step
                    d, m = block_scales(first, storage, block, lane)
                    base = block_address(first, storage, blocks, block)
                    if integers:
                        place = 4 * (token * (int8_step // BLOCK) + block)
                        row = int8 + token * int8_step + block * BLOCK
                        s, q_sum = load_float(scales + place), load_int32(sums + place)
                        total = add_integers(base, storage, lane, row, s, q_sum, d, m, total)
                    else:
                        row = x + 4 * (token * x_step + block * BLOCK)
                        of_block = f32(0)
                        for i in range(BLOCK):
                            w = weight(base, storage, i, lane, d, m)
                            of_block = multiply_add(w, load_float(row + 4 * i), of_block)
                        total = multiply_add(of_block, f32(1), total)
                store_float(out + 4 * (token * out_step + panel * LANES + lane), total)


@inner
def block_scales(panel, storage, block, lane):
    """d and m of one output's block.

    Args:
        panel: Its address.
        storage: A Storage.
        block: The block.
        lane: The output's lane.

    Returns:
        Both as float32, 0 for a storage without.
    """
    if storage < BLOCKS8:
        return f32(0), f32(0)
    if storage == BLOCKS8:
        d = load_half(panel + 2 * (LANES * block + lane))
        return d, f32(-128) * d
    place = panel + 2 * (2 * LANES * block + lane)
    return load_half(place), load_half(place + 2 * LANES)


@inner
def block_address(panel, storage, blocks, block):
    """Where the weights of a block stand.

    Args:
        panel: Its address.
        storage: A Storage.
        blocks: Of a row.
        block: The block.

    Returns:
        Their address.
    """
    scales = 0
    if storage >= BLOCKS8:
        scales = (blocks * (32 if storage == BLOCKS8 else 64) + 63) // 64 * 64
    return panel + scales + block * _BLOCK_BYTES[storage]


@inner
def integer(base, storage, i, lane):
    """The integer u of a weight.

    Args:
        base: The address of its block.
        storage: A Storage.
        i: Its input in the block.
        lane: Its output's lane.

    Returns:
        An int32.
    """
    if storage == BLOCKS8:
        return load_byte(base + 4 * (LANES * (i // 4) + lane) + i % 4)
    pair = load_byte(base + 4 * (LANES * (i // 8) + lane) + i % 4)
    return pair >> 4 if i % 8 >= 4 else pair & 15


@inner
def weight(base, storage, i, lane, d, m):
    """A weight.

    Args:
        base: The address of its block.
        storage: A Storage.
        i: Its input in the block.
        lane: Its output's lane.
        d: Scale of its block.
        m: Minimum of its block.

    Returns:
        The weight, a float32.
    """
    if storage == FLOAT32:
        return load_float(base + 4 * (LANES * i + lane))
    if storage == BFLOAT16:
        upper = load_upper_half(base + 2 * (2 * (LANES * (i // 2) + lane) + i % 2))
        return as_float(np.int32(upper << 16))
    return multiply_add(d, f32(integer(base, storage, i, lane)), m)


@inner
def add_integers(base, storage, lane, row, s, q_sum, d, m, total):
    """Adds a block's products with int8 inputs to a total.

    Args:
        base: The address of the block.
        storage: A Storage.
        lane: The output's lane.
        row: The address of the block's inputs.
        s: Their scale.
        q_sum: Their sum.
        d: Scale of the weights.
        m: Minimum of the weights.
        total: The sum of the blocks before.

    Returns:
        The new total.
    """
    products = 0
    for i in range(BLOCK):
        products += integer(base, storage, i, lane) * load_signed(row + i)
    if storage == BLOCKS8:
        return multiply_add(d * s, f32(products - 128 * q_sum), total)
    total = multiply_add(d * s, f32(products), total)
    return multiply_add(m, s * f32(q_sum), total)
