"""The tables of tensor names: how GPT-2's and Llama's weights are called and laid out elsewhere.

Every importer and exporter reads the same tables, in one direction or the other. A tensor there
holds one of our weights, or several side by side (GPT-2's query, key and value).
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


def _gpt2_table(
    embeddings: tuple[str, str],
    block: str,
    modules: dict[str, str],
    after: tuple[str, str | None],
    suffixes: tuple[str, str, str] = (".weight", ".weight", ".bias"),
    transposed: bool = False,
) -> Table:
    """GPT-2's table. `modules`: our layer -> its name in a block; `suffixes`: of a norm's scale, of
    a kernel, of a bias; `after`: the last norm, and the output head where it may have one."""
    scale, kernel, bias = suffixes
    qkv = tuple(f"attention/{part}" for part in ("query", "key", "value"))
    entries = []
    for layer, name in modules.items():
        ours = [f"block_{{i}}/{part}" for part in (qkv if layer == "qkv" else (layer,))]
        first, second = (scale, "gamma"), "beta"
        if not layer.endswith("norm"):
            first, second = (kernel, "kernel"), "bias"
        weights = tuple(f"{path}/{first[1]}" for path in ours)
        flipped = transposed and not layer.endswith("norm")
        entries.append(Entry(f"{block}{name}{first[0]}", weights, transposed=flipped))
        entries.append(Entry(f"{block}{name}{bias}", tuple(f"{path}/{second}" for path in ours)))
    norm, head = after
    last = [Entry(norm + scale, ("final_norm/gamma",)), Entry(norm + bias, ("final_norm/beta",))]
    if head is not None:
        last.append(Entry(head, ("logits/kernel",), transposed=True))
    names = ("token_embedding/embeddings", "position_encoding/embeddings")
    before = tuple(Entry(name, (weight,)) for name, weight in zip(embeddings, names, strict=True))
    return Table(before, tuple(entries), tuple(last))


def _llama_table(
    embedding: str,
    block: str,
    modules: dict[str, str],
    after: tuple[str, str],
    interleaved: bool = False,
) -> Table:
    """Llama's table. `modules`: our layer -> its name in a block; `interleaved`: the rows of query
    and key."""
    entries = []
    for layer, name in modules.items():
        path, module = f"block_{{i}}/{layer}", f"{block}{name}"
        if layer.endswith("norm"):
            entries.append(Entry(f"{module}.weight", (f"{path}/scale",)))
            continue
        turned = interleaved and layer in ("attention/query", "attention/key")
        entries.append(Entry(f"{module}.weight", (f"{path}/kernel",), True, turned))
        entries.append(Entry(f"{module}.bias", (f"{path}/bias",), False, turned))
    norm, head = after
    last = Entry(norm, ("final_norm/scale",)), Entry(head, ("logits/kernel",), transposed=True)
    return Table((Entry(embedding, ("token_embedding/embeddings",)),), tuple(entries), last)


HUGGINGFACE_GPT2 = _gpt2_table(
    ("transformer.wte.weight", "transformer.wpe.weight"),
    "transformer.h.{i}.",
    {
        "attention_norm": "ln_1",
        "qkv": "attn.c_attn",
        "attention/attention_output": "attn.c_proj",
        "feed_forward_norm": "ln_2",
        "feed_forward_up": "mlp.c_fc",
        "feed_forward_down": "mlp.c_proj",
    },
    ("transformer.ln_f", "lm_head.weight"),
)
"""Its Conv1D has (inputs, outputs), as Keras does."""

OPENAI_GPT2 = _gpt2_table(
    ("model/wte", "model/wpe"),
    "model/h{i}/",
    {
        "attention_norm": "ln_1",
        "qkv": "attn/c_attn",
        "attention/attention_output": "attn/c_proj",
        "feed_forward_norm": "ln_2",
        "feed_forward_up": "mlp/c_fc",
        "feed_forward_down": "mlp/c_proj",
    },
    ("model/ln_f", None),
    suffixes=("/g", "/w", "/b"),
)
"""Kernels have a first axis of size 1 besides."""

GGUF_GPT2 = _gpt2_table(
    ("token_embd.weight", "position_embd.weight"),
    "blk.{i}.",
    {
        "attention_norm": "attn_norm",
        "qkv": "attn_qkv",
        "attention/attention_output": "attn_output",
        "feed_forward_norm": "ffn_norm",
        "feed_forward_up": "ffn_up",
        "feed_forward_down": "ffn_down",
    },
    ("output_norm", "output.weight"),
    transposed=True,
)

HUGGINGFACE_LLAMA = _llama_table(
    "model.embed_tokens.weight",
    "model.layers.{i}.",
    {
        "attention_norm": "input_layernorm",
        "attention/query": "self_attn.q_proj",
        "attention/key": "self_attn.k_proj",
        "attention/value": "self_attn.v_proj",
        "attention/attention_output": "self_attn.o_proj",
        "feed_forward_norm": "post_attention_layernorm",
        "feed_forward_gate": "mlp.gate_proj",
        "feed_forward_up": "mlp.up_proj",
        "feed_forward_down": "mlp.down_proj",
    },
    ("model.norm.weight", "lm_head.weight"),
)

GGUF_LLAMA = _llama_table(
    "token_embd.weight",
    "blk.{i}.",
    {
        "attention_norm": "attn_norm",
        "attention/query": "attn_q",
        "attention/key": "attn_k",
        "attention/value": "attn_v",
        "attention/attention_output": "attn_output",
        "feed_forward_norm": "ffn_norm",
        "feed_forward_gate": "ffn_gate",
        "feed_forward_up": "ffn_up",
        "feed_forward_down": "ffn_down",
    },
    ("output_norm.weight", "output.weight"),
    interleaved=True,
)


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


def tensor_shape(entry: Entry, config: ModelConfig) -> tuple[int, ...]:
    """Computes the shape of a tensor.

    Args:
        entry: The tensor.
        config: The model's configuration.

    Returns:
        Its shape in another tool's file.
    """
    return _tensor_shape(entry, weight_shapes(config))


def _tensor_shape(entry: Entry, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """As `tensor_shape`, from the shapes of the weights, which take long to list for each entry."""
    flat = [_matrix_shape(name, shapes[name]) for name in entry.weights]
    shape = (*flat[0][:-1], sum(sizes[-1] for sizes in flat))
    return shape[::-1] if entry.transposed else shape


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
    flat = [
        part.reshape(_matrix_shape(name, part.shape))
        for name, part in zip(entry.weights, parts, strict=True)
    ]
    matrix = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=-1)
    tensor = matrix.T if entry.transposed else matrix
    if entry.interleaved:
        tensor = _swap_pairs(tensor, (2, config.head_dim // 2), config.head_dim)
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
