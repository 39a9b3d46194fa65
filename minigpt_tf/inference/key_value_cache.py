"""The key/value cache: keys and values as panels, so that attention is a product of matrices."""

import math
from collections.abc import Iterator

import numpy as np

from ..config import ModelConfig
from ..errors import ConfigError
from ..machine import check_fits_memory
from .panels import LANES, empty_panels, padded

PAGE, TOUCHED_TOGETHER = 1024, 2**20
"""Numbers in a page of memory, and in what `touch` does at a time."""


class Cache:
    """Keys and values of some sequences, allocated once for the whole context."""

    def __init__(self, config: ModelConfig, sequences: int) -> None:
        """
        Args:
            config: Architecture of the model.
            sequences: How many there is room for.

        Raises:
            ConfigError: There is not enough memory.
        """
        c, H = config, padded(config.head_dim)
        context = padded(c.context_length)
        heads = (sequences, c.num_layers, c.num_kv_heads)
        shapes = (*heads, context // LANES, H, LANES), (*heads, H // LANES, context, LANES)
        what = f"the keys and values of {sequences} sequences of {config.context_length} tokens"
        check_fits_memory(sequences * self.nbytes(config), what)
        try:
            self.keys, self.values = (
                empty_panels(4 * math.prod(shape)).view(np.float32).reshape(shape)
                for shape in shapes
            )
        except MemoryError:
            raise ConfigError(f"not enough memory for {what}") from None
        self.shape = (c.num_layers, c.num_kv_heads, c.context_length, c.head_dim)
        """(L, K, C, H) of the model."""
        self.positions = np.zeros(sequences, dtype=np.int64)
        """Number of tokens of each sequence so far."""
        self.ids = np.zeros((sequences, config.context_length), dtype=np.int64)
        """Those tokens."""

    @staticmethod
    def nbytes(config: ModelConfig) -> int:
        """Bytes of the keys and values of one sequence."""
        width = config.num_kv_heads * padded(config.head_dim)
        return 8 * config.num_layers * width * padded(config.context_length)

    def touch(self) -> Iterator[None]:
        """Has the system give all of the memory now. It gives a page when it is first used, which
        may take longer than what is written there: a first answer would wait, and all beside it.

        Yields:
            After each few megabytes.
        """
        for array in (self.keys, self.values):
            flat = array.reshape(-1)
            for start in range(0, flat.size, TOUCHED_TOGETHER):
                flat[start : start + TOUCHED_TOGETHER : PAGE] += 0  # whatever is there already
                yield

    def copy(self, source: int, target: int, end: int | None = None) -> None:
        """Makes one sequence equal to another, or to its beginning.

        Args:
            source: The sequence that is copied.
            target: The sequence that is replaced.
            end: Tokens that are copied, at most those of the source (unset: all).
        """
        end = int(self.positions[source]) if end is None else end
        panels = -(-int(end) // LANES)
        self.keys[target, :, :, :panels] = self.keys[source, :, :, :panels]
        self.values[target, :, :, :, :end] = self.values[source, :, :, :, :end]
        self.ids[target, :end] = self.ids[source, :end]
        self.positions[target] = end
