"""Tensors of other tools, and our weights: every importer and exporter converts them here.

A tensor there holds one of our weights, or several side by side (GPT-2's query, key and value).
`tensor_tables` says which, for each family.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..config import ModelConfig
from ..errors import ModelFolderError
from ..inference.weights import weight_shapes


class Tensor(Protocol):
    """A tensor in a file: its shape is known, its values are read when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, the slowest axis first."""

    def read(self) -> np.ndarray:
        """The values as float32, of that shape. Raises ModelFolderError."""


@dataclass(frozen=True)
class FirstRows:
    """The beginning of a tensor."""

    whole: Tensor
    rows: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, ...)"""
        return (self.rows, *self.whole.shape[1:])

    def read(self) -> np.ndarray:
        """The first rows as float32."""
        return self.whole.read()[: self.rows]


@dataclass(frozen=True)
class Entry:
    """One tensor of another tool's model, and which of our weights it holds.

    In a table "{i}" stands for the number of a layer.
    """

    name: str
    weights: tuple[str, ...]
    """Names in `inference.weights.weight_shapes`; several lie side by side along the outputs."""
    transposed: bool = False
    """(outputs, inputs), as PyTorch's Linear has it; Keras has (inputs, outputs)."""
    interleaved: bool = False
    """Rows of a head go (H / 2, 2) for rotary positions as llama.cpp computes them; ours (2, H / 2)
    is that of `positions.rotary_tables`."""
    from_zero: bool = False
    """Scales are stored without the 1 that Gemma adds to them."""
    unused_rows: int = 0
    """Rows before ours that no token reaches: OPT counts positions from 2."""

    def of_layer(self, i: int) -> "Entry":
        """The entry with the layer's number in its names."""
        weights = tuple(weight.format(i=i) for weight in self.weights)
        return replace(self, name=self.name.format(i=i), weights=weights)


@dataclass(frozen=True)
class Table:
    """The tensors of a model: before its blocks, of each block, and after them."""

    before: tuple[Entry, ...]
    block: tuple[Entry, ...]
    after: tuple[Entry, ...]


def entries(table: Table, config: ModelConfig) -> list[Entry]:
    """Lists the tensors of a model.

    Args:
        table: The tensors of the model's family.
        config: The model's configuration.

    Returns:
        An entry for each tensor. Entries whose weights the model does not have (a bias, a separate
        output head) are left out.
    """
    shapes = weight_shapes(config)
    blocks = [entry.of_layer(i) for i in range(config.num_layers) for entry in table.block]
    every = (*table.before, *blocks, *table.after)
    return [entry for entry in every if entry.weights[0] in shapes]


def tensor_shape(
    entry: Entry, config: ModelConfig, shapes: dict[str, tuple[int, ...]] | None = None
) -> tuple[int, ...]:
    """Computes the shape of a tensor.

    Args:
        entry: The tensor.
        config: The model's configuration.
        shapes: `weight_shapes(config)`, from a caller with many tensors: they take long to list.

    Returns:
        Its shape in another tool's file.
    """
    return _tensor_shape(entry, weight_shapes(config) if shapes is None else shapes)


def _tensor_shape(entry: Entry, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """As `tensor_shape`, from the shapes of the weights, which take long to list for each entry."""
    flat = [_matrix_shape(name, shapes[name]) for name in entry.weights]
    shape = (*flat[0][:-1], sum(sizes[-1] for sizes in flat))
    shape = shape[::-1] if entry.transposed else shape
    return (entry.unused_rows + shape[0], *shape[1:])


def to_weights(
    entry: Entry,
    tensor: np.ndarray,
    config: ModelConfig,
    shapes: dict[str, tuple[int, ...]] | None = None,
) -> dict[str, np.ndarray]:
    """Splits a tensor into our weights.

    Args:
        entry: The tensor's entry.
        tensor: Its values, of shape `tensor_shape(entry, config)`.
        config: The model's configuration.
        shapes: `weight_shapes(config)`, from a caller that converts many tensors.

    Returns:
        The weights by name; views of the tensor where possible.
    """
    shapes = weight_shapes(config) if shapes is None else shapes
    tensor = tensor[entry.unused_rows :]
    if entry.from_zero:
        tensor = tensor + np.float32(1)
    if entry.interleaved:
        tensor = _swap_pairs(tensor, (config.head_dim // 2, 2), config.head_dim)
    matrix = tensor.T if entry.transposed else tensor
    weights, first = {}, 0
    for name in entry.weights:
        width = _matrix_shape(name, shapes[name])[-1]
        weights[name] = matrix[..., first : first + width].reshape(shapes[name])
        first += width
    return weights


def to_tensor(entry: Entry, read: Callable[[str], np.ndarray], config: ModelConfig) -> np.ndarray:
    """Builds a tensor from our weights; the inverse of `to_weights`.

    Args:
        entry: The tensor's entry.
        read: Gives the values of a weight by name.
        config: The model's configuration.

    Returns:
        A contiguous array of shape `tensor_shape(entry, config)`.
    """
    parts = [read(name) for name in entry.weights]
    if entry.from_zero:
        parts = [scale - np.float32(1) for scale in parts]
    flat = [
        part.reshape(_matrix_shape(name, part.shape))
        for name, part in zip(entry.weights, parts, strict=True)
    ]
    matrix = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=-1)
    tensor = matrix.T if entry.transposed else matrix
    if entry.interleaved:
        tensor = _swap_pairs(tensor, (2, config.head_dim // 2), config.head_dim)
    if entry.unused_rows:
        tensor = np.pad(tensor, ((entry.unused_rows, 0), (0, 0)))
    return np.ascontiguousarray(tensor)


def _matrix_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """(inputs, outputs) of a kernel that Keras gives three axes; (outputs,) of a bias."""
    if name.endswith("attention_output/kernel"):  # (N, H, D)
        return (math.prod(shape[:-1]), shape[-1])
    if name.endswith("/bias"):  # (N, H) or (outputs,)
        return (math.prod(shape),)
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else shape


def _swap_pairs(rows: np.ndarray, pairs: tuple[int, int], head_dim: int) -> np.ndarray:
    """Rows (N H, ...), within each head from the order (a, b) of its pairs to (b, a)."""
    heads = rows.reshape(len(rows) // head_dim, *pairs, *rows.shape[1:])
    return heads.swapaxes(1, 2).reshape(rows.shape)


def check_tensors(
    tensors: Mapping[str, Tensor], wanted: list[Entry], config: ModelConfig, where: str
) -> None:
    """Checks the names and shapes of all tensors.

    Args:
        tensors: The tensors in a file, by name.
        wanted: The entries of the model.
        config: The model's configuration.
        where: Names the file in errors.

    Raises:
        ModelFolderError: A tensor is missing, extra or of another shape; the message names it.
    """
    names = {entry.name for entry in wanted}
    missing = [entry.name for entry in wanted if entry.name not in tensors]
    extra = [name for name in tensors if name not in names]
    for problem, found in (("lacks", missing), ("has, beyond its architecture,", extra)):
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise ModelFolderError(f"{where}: {problem} the tensor {found[0]:.80}{more}")
    shapes = weight_shapes(config)
    for entry in wanted:
        needed, shape = _tensor_shape(entry, shapes), tensors[entry.name].shape
        if shape != needed:
            raise ModelFolderError(
                f"{where}: the tensor {entry.name} has shape {shape}, the configuration needs "
                f"{needed}"
            )


def tensor_shapes(wanted: list[Entry], config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Computes the shapes of several tensors.

    Args:
        wanted: The tensors.
        config: The model's configuration.

    Returns:
        The `tensor_shape` of each, by name.
    """
    shapes = weight_shapes(config)
    return {entry.name: _tensor_shape(entry, shapes) for entry in wanted}
