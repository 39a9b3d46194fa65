"""The forward pass as a graph of ONNX's operators, written as the formulas are.

One graph reads a prompt and writes tokens: `input_ids` (B, T) are the tokens behind the P that keys
and values are given of; what it returns of both has P + T positions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from ...config import ModelConfig
from ...config.architecture import GATES
from ...inference.positions import half_rotary_tables, rotation_of, sinusoidal_table
from ...inference.weights import block_norms, weight_shapes

OPSET = 17
"""The first with LayerNormalization; of 2022."""

LETTERS = "GLN"


class GraphBuilder:
    """Nodes and small constants; every method gives the name of a value.

    Args:
        config: The architecture.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self._shapes = weight_shapes(config)
        self._count = 0

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """An operator with one result.

        Args:
            operator: Of ONNX.
            inputs: Names of values.
            attributes: Of the operator.

        Returns:
            The name of the result.
        """
        self._count += 1
        name = f"{operator.lower()}_{self._count}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name

    def constant(self, name: str, value: np.ndarray | Sequence[int] | float) -> str:
        """A small constant, kept once.

        Args:
            name: Under which it is kept.
            value: Integers are int64, other numbers float32.

        Returns:
            The name.
        """
        if not isinstance(value, np.ndarray):
            value = np.array(value, dtype=np.float32 if isinstance(value, float) else np.int64)
        self.constants[name] = value
        return name

    # ------------------------------------------------------------ layers

    def dense(self, path: str, x: str) -> str:
        """x times a kernel that is stored as (inputs, outputs), and a bias.

        Args:
            path: Of the layer in `inference.weights`.
            x: (..., inputs).

        Returns:
            (..., outputs).
        """
        x = self.add("MatMul", x, f"{path}/kernel")
        bias = f"{path}/bias"
        return self.add("Add", x, bias) if bias in self._shapes else x

    def norm(self, path: str, x: str) -> str:
        """Layer normalization, or the RMS norm.

        Args:
            path: Of the norm in `inference.weights`.
            x: (..., D).

        Returns:
            The same shape.
        """
        if self.config.norm == "rms":
            return self.rms(f"{path}/scale", x)
        shift = [f"{path}/beta"] if f"{path}/beta" in self._shapes else []
        epsilon = self.config.norm_epsilon
        return self.add("LayerNormalization", x, f"{path}/gamma", *shift, axis=-1, epsilon=epsilon)

    def rms(self, scale: str, x: str) -> str:
        """x / sqrt(mean(x^2) + epsilon) * scale, over the last axis.

        Args:
            scale: The name of a weight.
            x: (..., n).

        Returns:
            The same shape.
        """
        mean = self.add("ReduceMean", self.add("Mul", x, x), axes=[-1], keepdims=1)
        epsilon = self.constant("epsilon", float(self.config.norm_epsilon))
        root = self.add("Sqrt", self.add("Add", mean, epsilon))
        return self.add("Mul", self.add("Div", x, root), scale)

    def bounded(self, x: str, bound: float) -> str:
        """bound tanh(x / bound).

        Args:
            x: Of any shape.
            bound: Positive.

        Returns:
            The same shape.
        """
        cap = self.constant(f"bound {bound}", float(bound))
        return self.add("Mul", self.add("Tanh", self.add("Div", x, cap)), cap)

    def activated(self, kind: str, x: str) -> str:
        """An activation, or what a gate goes through.

        Args:
            kind: "silu", "gelu", "gelu_tanh", "relu2" or "relu".
            x: Of any shape.

        Returns:
            The same shape.
        """
        if kind == "silu":
            return self.add("Mul", x, self.add("Sigmoid", x))
        if kind == "gelu":
            erf = self.add("Erf", self.add("Mul", x, self.constant("sqrt half", 0.5**0.5)))
            one = self.add("Add", erf, self.constant("one", 1.0))
            return self.add("Mul", self.add("Mul", x, one), self.constant("half", 0.5))
        if kind == "gelu_tanh":
            cube = self.add("Mul", self.add("Mul", x, x), x)
            cube = self.add("Mul", cube, self.constant("cubic", 0.044715))
            inner = self.add("Mul", self.add("Add", x, cube), self.constant("root", 0.7978845608))
            one = self.add("Add", self.add("Tanh", inner), self.constant("one", 1.0))
            return self.add("Mul", self.add("Mul", x, one), self.constant("half", 0.5))
        x = self.add("Relu", x)
        return self.add("Mul", x, x) if kind == "relu2" else x

    # ------------------------------------------------------------ attention

    def heads(self, x: str, count: int) -> str:
        """(B, T, count H) -> (B, count, T, H).

        Args:
            x: Queries, keys or values.
            count: Of heads.

        Returns:
            The heads.
        """
        shape = self.constant(f"heads {count}", [0, 0, count, self.config.head_dim])
        return self.add("Transpose", self.add("Reshape", x, shape), perm=[0, 2, 1, 3])

    def rotated(self, x: str, tables: tuple[str, str]) -> str:
        """Heads at their positions: the first half turns with the second half.

        Args:
            x: (B, n, T, H).
            tables: Cosines and sines (T, H / 2).

        Returns:
            The same shape.
        """
        half = self.config.head_dim // 2
        axis = self.constant("axis 3", [3])
        first = self.add("Slice", x, self.constant("0", [0]), self.constant("half H", [half]), axis)
        ends = self.constant("whole H", [2 * half])
        second = self.add("Slice", x, self.constant("half H", [half]), ends, axis)
        cosines, sines = tables
        a = self.add("Sub", self.add("Mul", first, cosines), self.add("Mul", second, sines))
        b = self.add("Add", self.add("Mul", second, cosines), self.add("Mul", first, sines))
        return self.add("Concat", a, b, axis=3)

    def attention(self, layer: int, x: str, tables: tuple[str, str] | None, mask: str) -> str:
        """What the heads of a block make of x (B, T, D).

        Args:
            layer: The block, from 0.
            x: Its inputs.
            tables: Cosines and sines of the positions (T, H / 2); None without rotation.
            mask: (T, P + T) float32: 0 for what is seen, else -inf.

        Returns:
            (B, T, D).
        """
        c, path = self.config, f"block_{layer}/attention"
        counts = {"query": c.num_heads, "key": c.num_kv_heads, "value": c.num_kv_heads}
        made: dict[str, str] = {}
        for name, count in counts.items():
            value = self.dense(f"{path}/{name}", x)
            scale = f"{path}/{name}_norm/scale"
            if c.qk_norm == "all" and scale in self._shapes:
                value = self.rms(scale, value)
            value = self.heads(value, count)
            if c.qk_norm == "head" and scale in self._shapes:
                value = self.rms(scale, value)
            if tables is not None and name != "value":
                value = self.rotated(value, tables)
            made[name] = value
        for name in ("key", "value"):
            inputs = [f"past_{name}s.{layer}", made[name]]
            out = f"present_{name}s.{layer}"
            self.nodes.append(helper.make_node("Concat", inputs, [out], out, axis=2))
            made[name] = out
        groups = c.num_heads // c.num_kv_heads
        shape = self.constant("grouped", [0, c.num_kv_heads, groups, -1, c.head_dim])
        query = self.add("Reshape", made["query"], shape)
        one = self.constant("axis 2", [2])
        key, value = (self.add("Unsqueeze", made[name], one) for name in ("key", "value"))
        scores = self.add("MatMul", query, self.add("Transpose", key, perm=[0, 1, 2, 4, 3]))
        scores = self.add("Mul", scores, self.constant("factor", float(c.head_dim**-0.5)))
        if c.attention_softcap is not None:
            scores = self.bounded(scores, c.attention_softcap)
        weights = self.add("Softmax", self.add("Add", scores, mask), axis=-1)
        mixed = self.add("MatMul", weights, value)  # (B, K, N / K, T, H)
        shape = self.constant("one group", [0, c.num_heads, -1, c.head_dim])
        mixed = self.add("Transpose", self.add("Reshape", mixed, shape), perm=[0, 2, 1, 3])
        shape = self.constant("joined", [0, 0, c.num_heads * c.head_dim])
        return self.dense(f"{path}/attention_output", self.add("Reshape", mixed, shape))

    def feed_forward(self, layer: int, x: str) -> str:
        """The second sublayer of a block.

        Args:
            layer: The block, from 0.
            x: Its inputs (B, T, D).

        Returns:
            (B, T, D).
        """
        block, activation = f"block_{layer}", self.config.activation
        up = self.dense(f"{block}/feed_forward_up", x)
        if self.config.gated:
            gate = self.activated(GATES[activation], self.dense(f"{block}/feed_forward_gate", x))
            up = self.add("Mul", up, gate)
        else:
            up = self.activated(activation, up)
        return self.dense(f"{block}/feed_forward_down", up)

    # ------------------------------------------------------------ positions

    def places(self) -> tuple[str, str]:
        """Positions.

        Returns:
            Those of the new tokens (T,), and all (P + T,), int64.
        """
        zero, step = self.constant("first", 0), self.constant("step", 1)
        sizes = [
            self.add("Gather", self.add("Shape", name), self.constant(f"place {axis}", axis))
            for name, axis in (("past_keys.0", 2), ("input_ids", 1))
        ]
        end = self.add("Add", *sizes)
        new = self.add("Range", sizes[0], end, step)
        return new, self.add("Range", zero, end, step)

    def mask(self, new: str, every: str, window: int | None) -> str:
        """What each token sees.

        Args:
            new: Positions of the new tokens (T,).
            every: All positions (P + T,).
            window: Tokens that each one sees, itself included (unset: all).

        Returns:
            (T, P + T) float32: 0 for the positions that a token sees, else -inf.
        """
        rows = self.add("Unsqueeze", new, self.constant("axis 1", [1]))
        unseen = self.add("Greater", every, rows)
        if window is not None:
            first = self.add("Sub", rows, self.constant("window", window - 1))
            unseen = self.add("Or", unseen, self.add("Less", every, first))
        never = self.constant("never", float("-inf"))
        return self.add("Where", unseen, never, self.constant("zero", 0.0))


def forward_graph(config: ModelConfig) -> GraphBuilder:
    """The whole forward pass.

    Args:
        config: The architecture.

    Returns:
        Nodes that end in "logits", "present_keys.0" and so on, and the constants they use. The
        weights have the names of `inference.weights`; the embedding is (V, D), kernels (inputs,
        outputs), and everything else one row.
    """
    graph = GraphBuilder(config)
    new, every = graph.places()
    x = graph.add("Gather", "token_embedding/embeddings", "input_ids")
    if config.embedding_scale != 1:
        scale = graph.constant("embedding scale", float(config.embedding_scale))
        x = graph.add("Mul", x, scale)
    if config.positions == "sinusoidal":
        table = sinusoidal_table(config.context_length, config.embed_dim)
        graph.constant("position_encoding/embeddings", table)
    if config.positions != "rotary":
        x = graph.add("Add", x, graph.add("Gather", "position_encoding/embeddings", new))
    tables: dict[str, tuple[str, str] | None] = {}
    masks: dict[str, str] = {}
    for kind in (letter for letter in LETTERS if letter in config.layer_kinds):
        masks[kind] = graph.mask(new, every, config.window if kind == "L" else None)
        tables[kind] = None
        if rotation_of(config, kind)[0] is not None:
            cosines, sines = half_rotary_tables(config, kind)
            both = (
                graph.constant(f"cosines {kind}", cosines),
                graph.constant(f"sines {kind}", sines),
            )
            tables[kind] = (graph.add("Gather", both[0], new), graph.add("Gather", both[1], new))
    for layer, kind in enumerate(config.layer_kinds):
        for sublayer in ("attention", "feed_forward"):
            before, behind = (
                [f"block_{layer}/{norm}" for norm in norms]
                for norms in block_norms(config, sublayer)
            )
            inputs = graph.norm(before[0], x) if before else x
            if sublayer == "attention":
                update = graph.attention(layer, inputs, tables[kind], masks[kind])
            else:
                update = graph.feed_forward(layer, inputs)
            if config.norm_placement == "after":
                x = graph.norm(behind[0], graph.add("Add", x, update))
            else:
                x = graph.add("Add", x, graph.norm(behind[0], update) if behind else update)
    if config.has_final_norm:
        x = graph.norm("final_norm", x)
    if config.tie_embeddings:
        turned = graph.add("Transpose", "token_embedding/embeddings", perm=[1, 0])
        logits = graph.add("MatMul", x, turned)
    else:
        logits = graph.dense("logits", x)
    if config.logits_softcap is not None:
        logits = graph.bounded(logits, config.logits_softcap)
    graph.nodes.append(helper.make_node("Identity", [logits], ["logits"], "logits"))
    return graph


def signature(config: ModelConfig) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Inputs and outputs of the graph, with the names of their axes.

    Args:
        config: The architecture.

    Returns:
        Both lists, in the order in which onnxruntime gives them.
    """
    kind, K, H = TensorProto.FLOAT, config.num_kv_heads, config.head_dim
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])]
    vocabulary: list[str | int | None] = ["batch", "tokens", config.vocab_size]
    outputs = [helper.make_tensor_value_info("logits", kind, vocabulary)]
    for layer in range(config.num_layers):
        for name in ("keys", "values"):
            past: list[str | int | None] = ["batch", K, "past", H]
            present: list[str | int | None] = ["batch", K, "present", H]
            inputs.append(helper.make_tensor_value_info(f"past_{name}.{layer}", kind, past))
            outputs.append(helper.make_tensor_value_info(f"present_{name}.{layer}", kind, present))
    return inputs, outputs
