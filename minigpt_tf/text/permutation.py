"""A random permutation of any number of items, computed one item at a time.

The method is that of Black and Rogaway (2002), "Ciphers with arbitrary finite domains".
"""

import math

import numpy as np


def shuffled(places: np.ndarray, count: int, *, seed: int, epoch: int) -> np.ndarray:
    """Where items go in a random permutation that is never stored.

    A four-round Feistel network on the next even number of bits is a permutation, and walking its
    cycles until the result is below `count` keeps it one.

    Args:
        places: Some of the places 0 to count - 1.
        count: Number of items.
        seed: With `epoch`, decides the permutation.
        epoch: As `seed`.

    Returns:
        The new place of each, int64 of the shape of `places`.

    Example:
        >>> from minigpt_tf.text.permutation import shuffled
        >>> sorted(shuffled(np.arange(5), 5, seed=1, epoch=0).tolist())
        [0, 1, 2, 3, 4]
    """
    half_bits = max(1, math.ceil((count - 1).bit_length() / 2))
    mask = np.uint64((1 << half_bits) - 1)
    keys = np.random.SeedSequence([seed, epoch]).generate_state(4, np.uint64)
    shift = np.uint64(half_bits)
    values = places.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        left, right = values[outside] >> shift, values[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        values[outside] = (left << shift) | right
        outside = values >= count
    return values.astype(np.int64)


def _mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer: spreads each input bit over all output bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
