"""The weights as a file for LiteRT holds them: float32, or int8 with a scale for each row."""

import math
from collections.abc import Callable

import numpy as np

from ...config import ModelConfig
from ...inference.stages import rows_of
from ...inference.weights import weight_shapes
from .flatbuffer import Buffer, Graph, Tensor

EMBEDDING = "token_embedding/embeddings"


class StoredWeights:
    """Weights by the names of `inference.weights`, each in the file once.

    Args:
        config: The architecture.
        read: Weight name -> float32 array.
        dtype: "f32" or "int8", of the matrices.
    """

    def __init__(self, config: ModelConfig, read: Callable[[str], np.ndarray], dtype: str) -> None:
        self.shapes, self.read, self.dtype = weight_shapes(config), read, dtype

    def tensor(self, graph: Graph, name: str) -> Tensor:
        """A weight in a graph.

        Args:
            graph: The graph.
            name: The weight.

        Returns:
            A matrix with a row for each output, or a vector.
        """
        model = graph.model
        if name not in model.numbers:
            model.buffer(name, self._buffer(name))
        return graph.stored(model.numbers[name])

    def _buffer(self, name: str) -> Buffer:
        if name != EMBEDDING and not name.endswith("/kernel"):
            shape = self.shapes[name]
            size = shape if name.endswith("/embeddings") else (math.prod(shape),)
            return Buffer(size, "float32", lambda: self.read(name))

        def rows() -> np.ndarray:
            """(outputs, inputs)"""
            return rows_of(self.read(name), name)

        values = rows()
        if self.dtype == "f32":
            return Buffer(values.shape, "float32", rows)
        scales = row_scales(values)
        return Buffer(values.shape, "int8", lambda: rounded_rows(rows(), scales), scales)


def row_scales(rows: np.ndarray) -> np.ndarray:
    """What the int8 numbers of each row are multiplied by: its largest number is 127.

    Args:
        rows: (outputs, inputs).

    Returns:
        (outputs,) float32.
    """
    largest = np.abs(rows).max(axis=1)
    return np.where(largest > 0, largest / 127, 1).astype(np.float32)


def rounded_rows(rows: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Rows as int8.

    Args:
        rows: (outputs, inputs).
        scales: From `row_scales`.

    Returns:
        The same shape.
    """
    return np.rint(rows / scales[:, None]).astype(np.int8)
