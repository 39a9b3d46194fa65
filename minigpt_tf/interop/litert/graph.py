"""A GPT as LiteRT's operators: a graph for T tokens, with keys and values in and out.

Names and shapes are what LiteRT-LM looks for: tokens (1, T), input_pos (T,), and for each layer
kv_cache_k_0, kv_cache_v_0 (1, K, S, H), which come out with the tokens' own written to their
places; `decode` (T = 1) has logits (1, 1, V) too.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...config import ModelConfig
from ...config.architecture import GATES
from ...inference.positions import half_rotary_tables, sinusoidal_table
from ...inference.weights import block_norms
from .flatbuffer import Graph, LiteRTModel, Tensor
from .matrices import StoredWeights

MASKED = -1e9
"""Added to the scores of what a token does not see."""

PREFILL_LENGTHS = (16, 128)
"""Tokens of a prompt that are computed at once."""


def build_model(
    config: ModelConfig, read: Callable[[str], np.ndarray], context: int, dtype: str
) -> LiteRTModel:
    """All signatures of a model.

    Args:
        config: The architecture.
        read: Weight name -> float32 array.
        context: Tokens that keys and values are kept of.
        dtype: "f32", or "int8" for matrices whose rows have a scale each.

    Returns:
        The model, ready to be written.
    """
    model = LiteRTModel()
    weights = StoredWeights(config, read, dtype)
    lengths = prefill_lengths(context)
    slots = context + max(lengths)  # what is filled up in a prompt's last chunk has slots too
    for name, tokens in [*((f"prefill_{n}", n) for n in lengths), ("decode", 1)]:
        _Forward(model.graph(name), config, weights, tokens, slots).run(name == "decode")
    return model


def prefill_lengths(context: int) -> list[int]:
    """The lengths of a file's prefill signatures.

    Args:
        context: Tokens that keys and values are kept of.

    Returns:
        At least one, none longer than the context.
    """
    return [n for n in PREFILL_LENGTHS if n <= context] or [context]


class _Forward:
    """The operators of one signature."""

    def __init__(
        self, graph: Graph, config: ModelConfig, weights: StoredWeights, tokens: int, slots: int
    ) -> None:
        self.graph, self.config, self.weights = graph, config, weights
        self.T, self.S = tokens, slots
        self.names = weights.shapes
        self.turns: dict[str, tuple[Tensor, Tensor]] = {}
        self.masks: dict[bool, Tensor] = {}

    def run(self, with_logits: bool) -> None:
        """Appends the whole model."""
        c, graph = self.config, self.graph
        tokens = graph.input("tokens", (1, self.T), "int32")
        self.positions = graph.input("input_pos", (self.T,), "int32")
        caches = {
            f"kv_cache_{which}_{layer}": (1, c.num_kv_heads, self.S, c.head_dim)
            for layer in range(c.num_layers)
            for which in "kv"
        }
        self.caches = {name: graph.input(name, shape) for name, shape in caches.items()}
        self.place = self._place()
        x = self._embed(tokens)
        for layer in range(c.num_layers):
            x = self._sublayer(x, layer, "attention", self._attention)
            x = self._sublayer(x, layer, "feed_forward", self._feed_forward)
        if with_logits:
            graph.outputs["logits"] = self._logits(x)

    def _weight(self, name: str) -> Tensor:
        """A weight as the file has it: matrices with a row for each output."""
        return self.weights.tensor(self.graph, name)

    # ---------------------------------------------------------------- arithmetic

    def _two(self, operator: str, x: Tensor, y: Tensor | float) -> Tensor:
        """x and y, broadcast: ADD, SUB or MUL."""
        other = y if isinstance(y, Tensor) else self.graph.constant(y)
        shape = tuple(np.broadcast_shapes(x.shape, other.shape))
        kind = f"{operator.title()}Options"
        return self.graph.add(operator, [x, other], shape, options=kind)

    def _reshape(self, x: Tensor, *shape: int, dtype: str = "float32") -> Tensor:
        if x.shape == shape:
            return x
        sizes = self.graph.constant(shape, "int32")
        options: dict[str, Any] = {"options": "ReshapeOptions", "newShape": list(shape)}
        return self.graph.add("RESHAPE", [x, sizes], shape, dtype, **options)

    def _transpose(self, x: Tensor, *order: int) -> Tensor:
        shape = tuple(x.shape[axis] for axis in order)
        order_tensor = self.graph.constant(order, "int32")
        return self.graph.add("TRANSPOSE", [x, order_tensor], shape, options="TransposeOptions")

    def _rows(self, table: np.ndarray | Tensor) -> Tensor:
        """The rows of a table at the tokens' positions."""
        rows = table if isinstance(table, Tensor) else self.graph.constant(table)
        shape = (self.T, *rows.shape[1:])
        return self.graph.add("GATHER", [rows, self.positions], shape, options="GatherOptions")

    def _dense(self, x: Tensor, path: str) -> Tensor:
        """(T, inputs) -> (T, outputs)"""
        kernel = self._weight(f"{path}/kernel")
        bias = self._weight(f"{path}/bias") if f"{path}/bias" in self.names else None
        return self._product(x, kernel, bias)

    def _product(self, x: Tensor, rows: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.graph.add(
            "FULLY_CONNECTED",
            [x, rows, bias],
            (x.shape[0], rows.shape[0]),
            options="FullyConnectedOptions",
            asymmetricQuantizeInputs=self.weights.dtype == "int8",
        )

    def _mean(self, x: Tensor) -> Tensor:
        """Over the last axis, which stays."""
        last = len(x.shape) - 1
        axis = self.graph.constant([last], "int32")
        shape = (*x.shape[:-1], 1)
        return self.graph.add("MEAN", [x, axis], shape, options="ReducerOptions", keepDims=True)

    def _rms(self, x: Tensor, scale: str) -> Tensor:
        """x without its length, times a weight."""
        squares = self._mean(self._two("MUL", x, x))
        factor = self.graph.add(
            "RSQRT", [self._two("ADD", squares, self.config.norm_epsilon)], squares.shape
        )
        return self._two("MUL", self._two("MUL", x, factor), self._weight(scale))

    def _norm(self, x: Tensor, path: str) -> Tensor:
        if self.config.norm == "rms":
            return self._rms(x, f"{path}/scale")
        x = self._rms(self._two("SUB", x, self._mean(x)), f"{path}/gamma")
        shift = f"{path}/beta"
        return self._two("ADD", x, self._weight(shift)) if shift in self.names else x

    def _bounded(self, x: Tensor, bound: float) -> Tensor:
        small = self._two("MUL", x, 1 / bound)
        return self._two("MUL", self.graph.add("TANH", [small], x.shape), bound)

    def _activation(self, x: Tensor, name: str) -> Tensor:
        add = self.graph.add
        if name == "silu":
            return self._two("MUL", x, add("LOGISTIC", [x], x.shape))
        if name.startswith("gelu"):
            approximate = name == "gelu_tanh"
            return add("GELU", [x], x.shape, options="GeluOptions", approximate=approximate)
        x = add("RELU", [x], x.shape)
        return self._two("MUL", x, x) if name == "relu2" else x

    # ---------------------------------------------------------------- the model

    def _place(self) -> Tensor:
        """Where the tokens' keys and values begin: (0, 0, first position, 0)."""
        begin, size = (self.graph.constant([n], "int32") for n in (0, 1))
        first = self.graph.add(
            "SLICE", [self.positions, begin, size], (1,), "int32", options="SliceOptions"
        )
        zeros = [self.graph.constant([0] * n, "int32") for n in (2, 1)]
        parts = [zeros[0], first, zeros[1]]
        return self.graph.add("CONCATENATION", parts, (4,), "int32", options="ConcatenationOptions")

    def _embed(self, tokens: Tensor) -> Tensor:
        """(1, T) -> (T, D)"""
        c = self.config
        ids = self._reshape(tokens, self.T, dtype="int32")
        table = self._weight("token_embedding/embeddings")
        x = self.graph.add("EMBEDDING_LOOKUP", [ids, table], (self.T, c.embed_dim))
        if c.embedding_scale != 1:
            x = self._two("MUL", x, c.embedding_scale)
        if c.positions == "sinusoidal":
            table_of_sines = sinusoidal_table(c.context_length, c.embed_dim)
            return self._two("ADD", x, self._rows(table_of_sines))
        if c.positions == "learned":
            return self._two("ADD", x, self._rows(self._weight("position_encoding/embeddings")))
        return x

    def _sublayer(
        self, x: Tensor, layer: int, which: str, function: Callable[[Tensor, int], Tensor]
    ) -> Tensor:
        """x plus the function of x, with norms where the configuration places them."""
        before, behind = block_norms(self.config, which)
        y = x
        for name in before:
            y = self._norm(y, f"block_{layer}/{name}")
        y = function(y, layer)
        if self.config.norm_placement == "after":
            return self._norm(self._two("ADD", x, y), f"block_{layer}/{behind[0]}")
        for name in behind:
            y = self._norm(y, f"block_{layer}/{name}")
        return self._two("ADD", x, y)

    def _feed_forward(self, x: Tensor, layer: int) -> Tensor:
        c, path = self.config, f"block_{layer}/feed_forward"
        hidden = self._dense(x, f"{path}_up")
        if c.gated:
            gate = self._activation(self._dense(x, f"{path}_gate"), GATES[c.activation])
            hidden = self._two("MUL", gate, hidden)
        else:
            hidden = self._activation(hidden, c.activation)
        return self._dense(hidden, f"{path}_down")

    def _heads(self, x: Tensor, layer: int, name: str, count: int) -> Tensor:
        """A projection, split into heads, normalized and rotated: (T, count, H)."""
        c, path = self.config, f"block_{layer}/attention/{name}"
        turned = name != "value"
        heads = self._dense(x, path)
        if turned and c.qk_norm == "all":
            heads = self._rms(heads, f"{path}_norm/scale")
        heads = self._reshape(heads, self.T, count, c.head_dim)
        if turned and c.qk_norm == "head":
            heads = self._rms(heads, f"{path}_norm/scale")
        return self._rotate(heads, c.layer_kinds[layer]) if turned else heads

    def _rotate(self, heads: Tensor, kind: str) -> Tensor:
        """Rotary positions: each pair (i, i + H / 2) by its angle."""
        if kind not in self.turns:
            tables = half_rotary_tables(self.config, kind)
            if not tables[0].size:
                return heads
            cosines, sines = (
                self._reshape(self._rows(table), self.T, 1, table.shape[1]) for table in tables
            )
            self.turns[kind] = cosines, sines
        cosines, sines = self.turns[kind]
        half = (*heads.shape[:2], heads.shape[2] // 2)
        a, b = self.graph.add_many(
            "SPLIT",
            [self.graph.constant(2, "int32"), heads],
            [half, half],
            options="SplitOptions",
            numSplits=2,
        )
        first = self._two("SUB", self._two("MUL", a, cosines), self._two("MUL", b, sines))
        second = self._two("ADD", self._two("MUL", b, cosines), self._two("MUL", a, sines))
        options: dict[str, Any] = {"options": "ConcatenationOptions", "axis": 2}
        return self.graph.add("CONCATENATION", [first, second], heads.shape, **options)

    def _kept(self, heads: Tensor, name: str) -> Tensor:
        """The keys or values of all tokens so far, (1, K, S, H)."""
        K, H = heads.shape[1:]
        rows = self._reshape(self._transpose(heads, 1, 0, 2), 1, K, self.T, H)
        cache = self.caches[name]
        inputs = [cache, rows, self.place]
        self.graph.outputs[name] = self.graph.add("DYNAMIC_UPDATE_SLICE", inputs, cache.shape)
        return self.graph.outputs[name]

    def _mask(self, kind: str) -> Tensor:
        """0 where a token sees a slot, (1, T, S)."""
        local = kind == "L"
        if local in self.masks:
            return self.masks[local]
        graph, shape = self.graph, (self.T, self.S)
        slots = graph.constant(np.arange(self.S)[None], "int32")
        own = self._reshape(self.positions, self.T, 1, dtype="int32")
        seen = graph.add("LESS_EQUAL", [slots, own], shape, "bool", options="LessEqualOptions")
        if local:
            window = graph.constant(self.config.window, "int32")
            first = graph.add("SUB", [own, window], own.shape, "int32", options="SubOptions")
            near = graph.add("GREATER", [slots, first], shape, "bool", options="GreaterOptions")
            both = [seen, near]
            seen = graph.add("LOGICAL_AND", both, shape, "bool", options="LogicalAndOptions")
        values = [seen, graph.constant(np.float32(0)), graph.constant(np.float32(MASKED))]
        mask = graph.add("SELECT_V2", values, shape, options="SelectV2Options")
        self.masks[local] = self._reshape(mask, 1, *shape)
        return self.masks[local]

    def _attention(self, x: Tensor, layer: int) -> Tensor:
        """Queries of heads with the same key stand one under the other, so no key is copied."""
        c, T = self.config, self.T
        N, K, H = c.num_heads, c.num_kv_heads, c.head_dim
        q = self._heads(x, layer, "query", N)
        k = self._kept(self._heads(x, layer, "key", K), f"kv_cache_k_{layer}")
        v = self._kept(self._heads(x, layer, "value", K), f"kv_cache_v_{layer}")
        q = self._two("MUL", q, 1 / math.sqrt(H))
        q = self._transpose(self._reshape(q, T, K, N // K, H), 1, 2, 0, 3)
        q = self._reshape(q, 1, K, N // K * T, H)
        scores = self.graph.add(
            "BATCH_MATMUL",
            [q, k],
            (1, K, N // K * T, self.S),
            options="BatchMatMulOptions",
            adjY=True,
        )
        if c.attention_softcap is not None:
            scores = self._bounded(scores, c.attention_softcap)
        masked = self._two(
            "ADD", self._reshape(scores, N, T, self.S), self._mask(c.layer_kinds[layer])
        )
        weights = self.graph.add(
            "SOFTMAX", [masked], masked.shape, options="SoftmaxOptions", beta=1.0
        )
        weights = self._reshape(weights, *scores.shape)
        mixed = self.graph.add("BATCH_MATMUL", [weights, v], q.shape, options="BatchMatMulOptions")
        mixed = self._transpose(self._reshape(mixed, K, N // K, T, H), 2, 0, 1, 3)
        return self._dense(
            self._reshape(mixed, T, N * H), f"block_{layer}/attention/attention_output"
        )

    def _logits(self, x: Tensor) -> Tensor:
        """(1, D) -> (1, 1, V)"""
        c = self.config
        if c.has_final_norm:
            x = self._norm(x, "final_norm")
        if c.tie_embeddings:
            x = self._product(x, self._weight("token_embedding/embeddings"))
        else:
            x = self._dense(x, "logits")
        if c.logits_softcap is not None:
            x = self._bounded(x, c.logits_softcap)
        return self._reshape(x, 1, 1, c.vocab_size)
