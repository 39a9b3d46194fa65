"""The key/value cache."""

import numpy as np

from ..config import ModelConfig
from ..errors import ConfigError
from ..machine import check_fits_memory


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
        c = config
        shape = (sequences, c.num_layers, c.num_kv_heads, c.context_length, c.head_dim)
        what = f"the keys and values of {sequences} sequences of {config.context_length} tokens"
        check_fits_memory(sequences * self.nbytes(config), what)
        try:
            self.keys, self.values = (np.zeros(shape, dtype=np.float32) for _ in range(2))
        except MemoryError:
            raise ConfigError(f"not enough memory for {what}") from None
        self.positions = np.zeros(sequences, dtype=np.int64)
        """Number of tokens of each sequence so far."""
        self.ids = np.zeros((sequences, config.context_length), dtype=np.int64)
        """Those tokens."""

    @staticmethod
    def nbytes(config: ModelConfig) -> int:
        """Bytes of the keys and values of one sequence."""
        width = config.num_kv_heads * config.head_dim
        return 8 * config.num_layers * width * config.context_length

    def copy(self, source: int, target: int, end: int | None = None) -> None:
        """Makes one sequence equal to another, or to its beginning.

        Args:
            source: The sequence that is copied.
            target: The sequence that is replaced.
            end: Tokens that are copied, at most those of the source (unset: all).
        """
        end = int(self.positions[source]) if end is None else end
        for values in (self.keys, self.values):
            values[target, :, :, :end] = values[source, :, :, :end]
        self.ids[target, :end] = self.ids[source, :end]
        self.positions[target] = end
