"""Weights as the engine reads them: the panels of all matrices one after the other, in one array.

Decoding a token reads every weight once, so they are stored in the order of their use. The sizes D,
H and F of the model are filled up to whole blocks of 32 with zeros, which change no sum; so is V.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..config import ModelConfig
from ..errors import ModelFolderError
from ..machine import shown_size
from .blocks import LARGEST_INT8, Blocks, find_int4_blocks, find_int8_blocks, round_to_int8
from .panels import LANES, Storage, empty_panels, padded, panel_bytes, read_rows, write_panels
from .positions import sinusoidal_table
from .quantization import Int4Matrix
from .step_arrays import BlockMatrix, Place
from .weights import check_finite, check_shapes, norms_in_order

ROWS_AT_ONCE = 4096
"""Rows of the token embedding that are read together."""

SPARE_BYTES = 2**28
"""Address space that must be left beside the weights: without it LLVM ends the process."""


COMPACT_FROM = 2**20
"""Weights of a model from which on matrices are looked at for a smaller storage: below, there is
little to read, and each mixture of storages is compiled anew."""


@dataclass(frozen=True)
class EngineWeights:
    """The weights of a model. R is the number of rows of all matrices together, L of layers."""

    panels: np.ndarray
    """One dimension, uint8: the token embedding (V, D); for each block query, key and value
    ((N + 2 K) H, D), attention output (D, N H), feed-forward gate (F or 0, D), up (F, D) and down
    (D, F); the output head (V, D), if it is not the token embedding."""
    biases: np.ndarray
    """(R,) float32, 0 for a layer without."""
    norms: np.ndarray
    """(norms, 2, D) float32: scale and shift of the norms in the order of their use. The first is
    the one before the first block, which is not used without pre-norm."""
    positions: np.ndarray
    """(C, D) float32, added to the token embedding; (0, D) with rotary positions."""
    layout: np.ndarray
    """(matrices, len(Place)) int64; the head comes last."""
    head_norms: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))
    """(L, N + K, H) float32: scales of the norms of queries and keys; (0, 0, 0) without."""
    integers: bool = False
    """Whether products take their inputs as int8."""

    @property
    def nbytes(self) -> int:
        """Bytes that decoding a token reads, nearly: all but the embeddings of other tokens."""
        return self.panels.nbytes + self.biases.nbytes

    @property
    def storages(self) -> int:
        """The storages of its matrices, as `products.multiply` takes them."""
        kept = {int(storage) for storage in self.layout[:, Place.STORAGE]}
        return sum(1 << (8 * self.integers + storage) for storage in kept)

    def storage(self, index: int) -> Storage:
        """How matrix `index` is stored."""
        return Storage(int(self.layout[index, Place.STORAGE]))

    def panels_of(self, index: int) -> np.ndarray:
        """Matrix `index` as it is stored."""
        start = self.layout[index, Place.START]
        return self.panels[start : start + self.matrix_bytes(index)]

    def rows(self, index: int, rows: np.ndarray | list[int]) -> np.ndarray:
        """Some rows of a matrix.

        Args:
            index: The matrix.
            rows: Which, (R,).

        Returns:
            (R, inputs) float32, filled up.
        """
        inputs = int(self.layout[index, Place.INPUTS])
        return read_rows(self.panels_of(index), self.storage(index), inputs, rows)

    def matrix(self, index: int) -> np.ndarray:
        """Matrix `index`, (outputs, inputs) float32, filled up."""
        return self.rows(index, np.arange(self.layout[index, Place.OUTPUTS]))

    def matrix_bytes(self, index: int) -> int:
        """Bytes of matrix `index`."""
        return int(self.layout[index, Place.OUTPUTS] // LANES * self.layout[index, Place.STEP])


def lay_out_weights(
    weights: Mapping[str, Any],
    config: ModelConfig,
    where: str,
    quantize: str = "none",
    int4: Mapping[str, Int4Matrix] | None = None,
) -> EngineWeights:
    """Lays out named weights, arrays or datasets of an .h5 file, one matrix after the other.

    A matrix whose values all fit into bfloat16 or into blocks of small integers is stored so: its
    products are the same to the bit, and there is less to read.

    Args:
        weights: By the names of `inference.weights`.
        config: The architecture.
        where: Names the weights in errors.
        quantize: "none", or "int8" to round matrices to 8 bits, and the inputs of their products.
        int4: Kernels that were quantized to 4 bits, for "int4"; the others are rounded to 8.

    Returns:
        The weights in the engine's layout.

    Raises:
        ModelFolderError: A weight is missing, extra, of another shape, not finite, or too large to
            be rounded; or there is not enough memory.
    """
    check_shapes({name: weight.shape for name, weight in weights.items()}, config, where)
    source = _Source(weights, where, config)
    kernels = _kernels(config)
    found: list[tuple[Storage, list[Blocks]]]
    if quantize == "none" and config.parameter_count < COMPACT_FROM:
        found = [(Storage.FLOAT32, [])] * len(kernels)
    elif quantize == "none":
        found = [_exact_storage(source, names) for names in kernels]
    else:
        found = [_int4_blocks(source, names, int4 or {}) for names in kernels]
    integers = quantize != "none"
    laid_out = _empty(config, [storage for storage, _ in found], integers, source)
    for index, names in enumerate(kernels):
        panels, (storage, blocks) = laid_out.panels_of(index), found[index]
        step = int(laid_out.layout[index, Place.STEP])
        row = 0
        for rows in blocks or source.rows(names):
            if storage == Storage.BLOCKS8 and not isinstance(rows, Blocks):
                rows = round_to_int8(rows)
                if not np.isfinite(rows.d).all():
                    raise ModelFolderError(
                        f"{where}: {' or '.join(names)} has weights beyond {LARGEST_INT8:,.0f}, "
                        "which cannot be rounded to 8 bits: use it without --quantize"
                    )
            write_panels(rows, storage, panels[row // LANES * step :])
            row += len(rows.u if isinstance(rows, Blocks) else rows)
        biases = laid_out.biases[laid_out.layout[index, Place.ROW] :]
        row = 0
        for name in names:
            bias = source.bias(name)
            if bias is not None:
                biases[row : row + len(bias)] = bias
            row += source.outputs(name)
    _fill_norms(laid_out.norms, config, source)
    _fill_head_norms(laid_out.head_norms, config, source)
    return laid_out


class _Source:
    """Reads weights, checks that they are finite, and fills heads up."""

    def __init__(self, weights: Mapping[str, Any], where: str, config: ModelConfig) -> None:
        self.weights, self.where, self.config = weights, where, config

    def values(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """The weight, or some of its rows, as float32."""
        values = np.asarray(self.weights[name][rows], dtype=np.float32)
        check_finite(values, name, self.where)
        return values

    def rows(self, names: list[str]) -> Iterator[np.ndarray]:
        """The rows (outputs, inputs) of a matrix, in chunks of whole panels but for the last.
        Keras stores (inputs, outputs), except for an embedding."""
        for name in names:
            if name.endswith("/embeddings"):
                for first in range(0, self.weights[name].shape[0], ROWS_AT_ONCE):
                    yield self.values(name, slice(first, first + ROWS_AT_ONCE))
            else:
                yield self._filled(name)

    def _filled(self, name: str) -> np.ndarray:
        """A kernel as (outputs, inputs), of which each head is filled up."""
        kernel, layer = self.values(name), name.split("/")[-2]
        filling = padded(self.config.head_dim) - self.config.head_dim
        if layer == "attention_output":  # (N, H, D)
            kernel = np.pad(kernel, ((0, 0), (0, filling), (0, 0))) if filling else kernel
            return kernel.reshape(-1, kernel.shape[2]).T
        if layer in ("query", "key", "value"):  # (D, heads, H)
            kernel = np.pad(kernel, ((0, 0), (0, 0), (0, filling))) if filling else kernel
        return kernel.reshape(len(kernel), -1).T

    def filled_blocks(self, name: str, blocks: Blocks) -> Blocks:
        """The rows of a kernel in blocks, of which each head is filled up.

        Args:
            name: The kernel.
            blocks: Its rows.

        Returns:
            Perhaps more rows.
        """
        H = self.config.head_dim
        if name.split("/")[-2] not in ("query", "key", "value") or padded(H) == H:
            return blocks

        def fill(rows: np.ndarray) -> np.ndarray:
            heads = rows.reshape(-1, H, rows.shape[1])
            filled = np.pad(heads, ((0, 0), (0, padded(H) - H), (0, 0)))
            return filled.reshape(-1, rows.shape[1])

        assert blocks.m is not None  # of 4 bits
        return Blocks(fill(blocks.u), fill(blocks.d), fill(blocks.m))

    def outputs(self, name: str) -> int:
        """Rows of a kernel, heads filled up."""
        shape, layer = self.weights[name].shape, name.split("/")[-2]
        if name.endswith("/embeddings"):
            return shape[0]
        return shape[1] * padded(shape[2]) if layer in ("query", "key", "value") else shape[-1]

    def bias(self, kernel: str) -> np.ndarray | None:
        """The bias of a kernel, each head filled up; None without."""
        name = kernel.removesuffix("/kernel") + "/bias"
        if name == kernel or name not in self.weights:
            return None
        bias = self.values(name)
        if bias.ndim == 2:
            bias = np.pad(bias, ((0, 0), (0, padded(bias.shape[1]) - bias.shape[1])))
        return bias.ravel()


def _exact_storage(source: _Source, names: list[str]) -> tuple[Storage, list[Blocks]]:
    """The smallest storage that holds a matrix to the bit, and its blocks."""
    if not names:
        return Storage.FLOAT32, []
    sample = next(source.rows(names))[:LANES]
    for storage, find in ((Storage.BLOCKS4, find_int4_blocks), (Storage.BLOCKS8, find_int8_blocks)):
        if find(sample) is None:
            continue
        blocks = [find(rows) for rows in source.rows(names)]
        known = [each for each in blocks if each is not None]
        if len(known) == len(blocks):
            return storage, known
    if _is_bfloat16(sample) and all(map(_is_bfloat16, source.rows(names))):
        return Storage.BFLOAT16, []
    return Storage.FLOAT32, []


def _int4_blocks(
    source: _Source, names: list[str], int4: Mapping[str, Int4Matrix]
) -> tuple[Storage, list[Blocks]]:
    """A matrix in 4 bits where its kernels are, and where its inputs are not filled up inside."""
    inside = names and names[0].endswith("/attention_output/kernel")
    if not names or not all(name in int4 for name in names):
        return Storage.BLOCKS8, []
    if inside and source.config.head_dim != padded(source.config.head_dim):
        return Storage.BLOCKS8, []
    return Storage.BLOCKS4, [source.filled_blocks(name, int4[name].blocks()) for name in names]


def _is_bfloat16(values: np.ndarray) -> bool:
    """Whether the lower halves of all values are zero."""
    return not (np.ascontiguousarray(values).view(np.uint32) & 0xFFFF).any()


def _empty(
    config: ModelConfig, storages: list[Storage], integers: bool, source: _Source
) -> EngineWeights:
    """Weights with room for the matrices, without their values."""
    layout = make_layout(config, storages)
    size, rows = layout_size(layout)
    try:
        laid_out = EngineWeights(
            panels=empty_panels(size),
            biases=np.zeros(rows, dtype=np.float32),
            norms=np.zeros(norms_shape(config), np.float32),
            head_norms=np.zeros(head_norms_shape(config), np.float32),
            positions=_positions(config, source),
            layout=layout,
            integers=integers,
        )
        np.empty(SPARE_BYTES, dtype=np.int8)
    except MemoryError:
        raise ModelFolderError(
            f"{source.where}: there is not enough memory left for its weights, {shown_size(size)}"
        ) from None
    return laid_out


def norms_shape(config: ModelConfig) -> tuple[int, int, int]:
    """The shape of EngineWeights.norms."""
    return len(norms_in_order(config)) + _first_norm(config), 2, padded(config.embed_dim)


def head_norms_shape(config: ModelConfig) -> tuple[int, int, int]:
    """The shape of EngineWeights.head_norms."""
    if config.qk_norm == "none":
        return 0, 0, 0
    heads = config.num_heads + config.num_kv_heads
    return config.num_layers, heads, padded(config.head_dim)


def _first_norm(config: ModelConfig) -> int:
    """Where the first norm is among those of EngineWeights: place 0 is before the first block."""
    return int(config.norm_placement in ("after", "output"))


def make_layout(config: ModelConfig, storages: list[Storage] | None = None) -> np.ndarray:
    """EngineWeights.layout.

    Args:
        config: The architecture.
        storages: Of the matrices (unset: float32); a tied head is the token embedding once more,
            without its own.

    Returns:
        (matrices, len(Place)) int64.
    """
    D, F, V = (padded(size) for size in (config.embed_dim, config.ff_dim, config.vocab_size))
    H = padded(config.head_dim)
    heads = config.num_heads + 2 * config.num_kv_heads
    gate = F if config.gated else 0
    block = {
        BlockMatrix.QKV: (heads * H, D),
        BlockMatrix.OUT: (D, config.num_heads * H),
        BlockMatrix.GATE: (gate, D),
        BlockMatrix.UP: (F, D),
        BlockMatrix.DOWN: (D, F),
    }
    shapes = [(V, D)]
    for _ in range(config.num_layers):
        shapes += [block[matrix] for matrix in BlockMatrix]
    if not config.tie_embeddings:
        shapes.append((V, D))
    layout = np.zeros((len(shapes), len(Place)), dtype=np.int64)
    start = row = 0
    storages = storages or [Storage.FLOAT32] * len(shapes)
    for place, (outputs, inputs), storage in zip(layout, shapes, storages, strict=True):
        step = panel_bytes(storage, inputs)
        place[...] = (start, row, outputs, inputs, storage, step)
        start += outputs // LANES * step
        row += outputs
    return np.concatenate([layout, layout[:1]]) if config.tie_embeddings else layout


def layout_size(layout: np.ndarray) -> tuple[int, int]:
    """Bytes of all panels, and rows of all matrices."""
    ends = layout[:, Place.START] + layout[:, Place.OUTPUTS] // LANES * layout[:, Place.STEP]
    return int(ends.max()), int((layout[:, Place.ROW] + layout[:, Place.OUTPUTS]).max())


def _kernels(config: ModelConfig) -> list[list[str]]:
    """The weights that make up each matrix of the layout, in its order."""
    layers = {
        BlockMatrix.QKV: ["attention/query", "attention/key", "attention/value"],
        BlockMatrix.OUT: ["attention/attention_output"],
        BlockMatrix.GATE: ["feed_forward_gate"] if config.gated else [],
        BlockMatrix.UP: ["feed_forward_up"],
        BlockMatrix.DOWN: ["feed_forward_down"],
    }
    kernels = [["token_embedding/embeddings"]]
    for layer in range(config.num_layers):
        for matrix in BlockMatrix:
            kernels.append([f"block_{layer}/{path}/kernel" for path in layers[matrix]])
    return kernels if config.tie_embeddings else [*kernels, ["logits/kernel"]]


def _fill_norms(norms: np.ndarray, config: ModelConfig, source: _Source) -> None:
    """Writes scale and shift of the norms, in the order of their use."""
    D, paths = config.embed_dim, norms_in_order(config)
    for norm, path in zip(norms[_first_norm(config) :], paths, strict=True):
        norm[0, :D] = source.values(f"{path}/scale" if config.norm == "rms" else f"{path}/gamma")
        if f"{path}/beta" in source.weights:
            norm[1, :D] = source.values(f"{path}/beta")


def _fill_head_norms(norms: np.ndarray, config: ModelConfig, source: _Source) -> None:
    """Writes the scales of queries and keys, of each head: one for all of them is repeated."""
    N, K, H = config.num_heads, config.num_kv_heads, config.head_dim
    for layer, scales in enumerate(norms):
        for name, rows in (("query", scales[:N]), ("key", scales[N : N + K])):
            values = source.values(f"block_{layer}/attention/{name}_norm/scale")
            rows[:, :H] = values.reshape(-1, H)


def _positions(config: ModelConfig, source: _Source) -> np.ndarray:
    D = padded(config.embed_dim)
    if config.positions == "rotary":
        return np.zeros((0, D), dtype=np.float32)
    positions = np.zeros((config.context_length, D), dtype=np.float32)
    if config.positions == "sinusoidal":
        table = sinusoidal_table(config.context_length, config.embed_dim)
    else:
        table = source.values("position_encoding/embeddings")
    positions[:, : config.embed_dim] = table
    return positions
