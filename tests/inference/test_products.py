"""Products of matrices in panels, against float64 and the plain loops, for every storage."""

import functools

import numpy as np
import pytest

from minigpt_tf.compiled import entry
from minigpt_tf.inference.blocks import Blocks, find_int4_blocks, find_int8_blocks, round_to_int8
from minigpt_tf.inference.panels import Storage, empty_panels, panel_bytes, read_rows, write_panels
from minigpt_tf.inference.products import PLAIN, multiply
from tests.inference.exact_weights import bfloat16, q4_0, q4_1, q8_0

RANDOM = np.random.default_rng(0)


def random_matrix(storage, outputs, inputs):
    """A matrix as it is given to the panels, and its values."""
    values = RANDOM.standard_normal((outputs, inputs)).astype(np.float32)
    if storage == Storage.FLOAT32:
        return values, values
    if storage == Storage.BFLOAT16:
        return bfloat16(values), bfloat16(values)
    blocks = -(-inputs // 32)
    most = 256 if storage == Storage.BLOCKS8 else 16
    u = RANDOM.integers(0, most, (outputs, inputs)).astype(np.uint8)
    d, m = RANDOM.standard_normal((2, outputs, blocks)).astype(np.float16)
    matrix = Blocks(u, d, None if storage == Storage.BLOCKS8 else m)
    return matrix, matrix.values()


def stored(matrix, storage, outputs, inputs):
    panels = empty_panels(-(-outputs // 16) * panel_bytes(storage, inputs))
    write_panels(matrix, storage, panels)
    return panels


@pytest.mark.parametrize("storage", Storage)
@pytest.mark.parametrize(("outputs", "inputs"), [(16, 32), (5, 7), (50, 100), (33, 64)])
def test_what_is_stored_is_read_again(storage, outputs, inputs):
    matrix, values = random_matrix(storage, outputs, inputs)
    filled = -(-inputs // 32) * 32
    panels = stored(matrix, storage, outputs, filled)
    rows = RANDOM.permutation(outputs)
    assert np.array_equal(read_rows(panels, storage, filled, rows)[:, :inputs], values[rows])


@functools.cache
def compiled(storages):
    @entry
    def product(arguments):
        multiply(storages, arguments)

    return product


def rounded(x):
    """int8 values of x (B, inputs), and the scales and sums of its blocks."""
    blocks = x.reshape(len(x), -1, 32)
    scales = np.abs(blocks).max(axis=2) / 127
    values = np.rint(blocks / scales[:, :, None]).astype(np.int8)
    return values.reshape(x.shape), scales.astype(np.float32), values.sum(axis=2, dtype=np.int32)


def product(storage, integers, plain, panels, x, small, bias):
    values, scales, sums = small
    out = np.full((len(x), bias.size + 16), 7, dtype=np.float32)
    step = panel_bytes(storage, x.shape[1])
    addresses = [array.ctypes.data for array in (panels, x, values, scales, sums, bias, out)]
    arguments = (int(storage), addresses[0], step, bias.size // 16, x.shape[1] // 32)
    arguments += (addresses[1], x.shape[1], *addresses[2:5], x.shape[1], len(x))
    arguments += (addresses[5], 16, addresses[6], out.shape[1])
    compiled(1 << (8 * integers + storage) | PLAIN * plain)(arguments)
    assert (out[:, bias.size :] == 7).all()
    return out[:, : bias.size]


KINDS = [(storage, False) for storage in Storage]
KINDS += [(Storage.BLOCKS8, True), (Storage.BLOCKS4, True)]


@pytest.mark.parametrize(("storage", "integers"), KINDS)
def test_products_are_right_and_have_one_order_of_sums(storage, integers):
    outputs, inputs = 48, 96
    matrix, values = random_matrix(storage, outputs, inputs)
    panels = stored(matrix, storage, outputs, inputs)
    bias = RANDOM.standard_normal(outputs).astype(np.float32)
    x = RANDOM.standard_normal((30, inputs)).astype(np.float32)
    small = rounded(x)
    seen = small[0].reshape(30, -1, 32) * small[1][:, :, None] if integers else x
    expected = seen.reshape(x.shape).astype(float) @ values.T.astype(float) + bias
    sizes = np.abs(seen.reshape(x.shape)) @ np.abs(values.T) + np.abs(bias)
    alone = [
        product(storage, integers, False, panels, x[[t]], [part[[t]] for part in small], bias)[0]
        for t in range(len(x))
    ]
    assert (np.abs(alone - expected) < 1e-5 * sizes).all()
    for count in (1, 2, 3, 5, 9, 12, 13, 30):
        some = [part[:count] for part in small]
        for plain in (False, True):
            found = product(storage, integers, plain, panels, x[:count], some, bias)
            assert np.array_equal(found, alone[:count])


@pytest.mark.parametrize("storage", [Storage.BFLOAT16, Storage.BLOCKS8, Storage.BLOCKS4])
def test_a_smaller_storage_gives_the_bits_of_float32(storage):
    matrix, values = random_matrix(storage, 32, 64)
    x = RANDOM.standard_normal((5, 64)).astype(np.float32)
    bias, small = np.zeros(32, dtype=np.float32), rounded(x)
    found = [
        product(kind, False, False, stored(given, kind, 32, 64), x, small, bias)
        for kind, given in ((storage, matrix), (Storage.FLOAT32, values))
    ]
    assert np.array_equal(*found)


@pytest.mark.parametrize(
    ("find", "quantized"),
    [(find_int8_blocks, q8_0), (find_int4_blocks, q4_0), (find_int4_blocks, q4_1)],
)
def test_blocks_are_found_in_the_values_of_gguf_s_types(find, quantized):
    values = RANDOM.standard_normal((40, 96)).astype(np.float32) * np.float32(0.02)
    values[3, :32] = 0
    values = quantized(values)
    found = find(values)
    assert found is not None and np.array_equal(found.values(), values)
    values[7, 40] = np.nextafter(values[7, 40], np.float32(9))
    assert find(values) is None


def with_importance(random, blocks, signed):
    """Values as GGUF's Q4_0 (signed) and Q4_1 have them where d and m were chosen by an importance
    matrix: the smallest weight of a block need not have u = 0, nor the largest u = 15."""
    d = np.abs(random.standard_normal(blocks) / 50 + 0.02).astype(np.float16)
    smallest, largest = random.integers(0, 4, blocks), random.integers(11, 16, blocks)
    u = random.integers(0, 16, (blocks, 32))
    u = np.clip(u, smallest[:, None], largest[:, None]).astype(np.float32)
    if signed:
        d *= random.choice([-1, 1], blocks).astype(np.float16)
        u[:, 0] = 1 + 14 * random.integers(0, 2, blocks)  # the farthest is 7 steps from 0, or
        u[::2, 0] = 0  # 8
        m = -8 * d
    else:
        m = (random.standard_normal(blocks) / 5).astype(np.float16)
    d, m = (part.astype(np.float32)[:, None] for part in (d, m))
    return (d * u + m).reshape(-1, 96)


@pytest.mark.parametrize("signed", [False, True])
def test_blocks_are_found_of_files_made_with_an_importance_matrix(signed):
    values = with_importance(np.random.default_rng(2), 3000, signed)
    found = find_int4_blocks(values)
    assert found is not None and np.array_equal(found.values(), values)
    assert found.u.max() <= 15
    values[777, 40] = np.nextafter(values[777, 40], np.float32(9))
    assert find_int4_blocks(values) is None


@pytest.mark.parametrize("find", [find_int8_blocks, find_int4_blocks])
@pytest.mark.parametrize("size", [0.0, 1e-42, 1e-30, 1e-6, 1.0, 6e4, 1e7, 1e30, 3e38])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_what_is_found_is_equal_however_large_or_small(find, size):
    random = np.random.default_rng(1)
    values = (random.integers(-7, 8, (4, 64)) * np.float32(size / 8)).astype(np.float32)
    found = find(values)
    assert found is None or np.array_equal(found.values(), values)
    assert found is not None or size not in (0.0, 1.0) or find is find_int8_blocks
    values = random.uniform(-1, 1, (4, 64)).astype(np.float32) * np.float32(size)
    found = find(values)
    assert found is None or np.array_equal(found.values(), values)


def test_rounding_to_8_bits_keeps_the_largest_and_is_close():
    values = RANDOM.standard_normal((7, 70)).astype(np.float32)
    values[2] = 0
    values[3] *= np.float32(1e-6)
    blocks = round_to_int8(values)
    step = np.repeat(blocks.d.astype(np.float32), 32, axis=1)[:, :70]
    assert (np.abs(blocks.values() - values) <= 0.57 * step).all()
    assert not blocks.values()[2].any()
