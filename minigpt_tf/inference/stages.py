"""A model's blocks in NumPy, stage by stage, for all that is to be seen between them.

Quantization measures what each matrix is multiplied with; `inspection` shows where heads look and
what each block adds. A block has four stages: the matrices of one stage share their inputs, and
what they compute becomes the inputs of the next stage. So a stage can be quantized before anything
behind it has been computed.
"""

import math
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

import numpy as np

from ..config import ModelConfig
from ..config.architecture import GATES
from ..errors import ConfigError
from ..metrics import softmax
from .positions import rotary_tables, rotation_of, sinusoidal_table
from .weights import block_norms

PASSAGES_AT_ONCE = 8
"""Passages whose queries, keys, values and gates are in memory together."""


class Stage(IntEnum):
    """The stages of a block in the order of their use."""

    QKV = 0
    OUT = 1
    UP = 2
    DOWN = 3


def stage_kernels(config: ModelConfig, layer: int, stage: Stage) -> list[str]:
    """The weights that are multiplied with the inputs of a stage.

    Args:
        config: The architecture.
        layer: The block, from 0.
        stage: Which of its stages.

    Returns:
        Names of `inference.weights`.

    Example:
        >>> import minigpt_tf as mg
        >>> stage_kernels(mg.model_preset("lecture"), 0, Stage.UP)
        ['block_0/feed_forward_up/kernel']
    """
    gate = ["feed_forward_gate"] if config.gated else []
    paths = {
        Stage.QKV: ["attention/query", "attention/key", "attention/value"],
        Stage.OUT: ["attention/attention_output"],
        Stage.UP: [*gate, "feed_forward_up"],
        Stage.DOWN: ["feed_forward_down"],
    }
    return [f"block_{layer}/{path}/kernel" for path in paths[stage]]


def rows_of(kernel: np.ndarray, name: str) -> np.ndarray:
    """A kernel as the engine has it: a row for each output.

    Args:
        kernel: As Keras has it, (inputs, outputs), perhaps split into heads; an embedding (V, D).
        name: Its name in `inference.weights`.

    Returns:
        (outputs, inputs), a view.
    """
    if name.endswith("/embeddings"):
        return kernel
    inputs = kernel.shape[:2] if name.endswith("/attention_output/kernel") else kernel.shape[:1]
    return kernel.reshape(int(np.prod(inputs)), -1).T


def kernel_of(rows: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """The inverse of `rows_of`.

    Args:
        rows: (outputs, inputs).
        shape: The kernel's shape in `inference.weights`.
        name: Its name.

    Returns:
        The kernel as Keras has it.
    """
    return rows if name.endswith("/embeddings") else np.ascontiguousarray(rows.T).reshape(shape)


OnAttention = Callable[[str, int, np.ndarray], None]
"""Called with a block's name, one of its heads and the head's weights for a passage (T, T)."""


class Passages:
    """P passages of T tokens on their way through a model.

    `inputs` are what the matrices of the next stage are multiplied with, (P T, inputs); `advance`
    computes a stage. Behind the last block they are what the output head is multiplied with.

    Args:
        config: The architecture.
        weights: Arrays by the names of `inference.weights`.
        ids: (P, T), T at most the context length.
        on_attention: Gets the attention of each head (unset: nobody looks).
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Mapping[str, Any],
        ids: np.ndarray,
        on_attention: OnAttention | None = None,
    ) -> None:
        self.config, self.weights, self._on_attention = config, weights, on_attention
        self.count, self.length = ids.shape
        self.update: np.ndarray | None = None
        """What the last sublayer has added to the residual stream, (P T, D)."""
        table = weights["token_embedding/embeddings"]
        self._x = np.asarray(table[ids.ravel()], dtype=np.float32)
        if config.embedding_scale != 1:
            self._x = self._x * np.float32(config.embedding_scale)
        positions = None
        if config.positions == "sinusoidal":
            positions = sinusoidal_table(self.length, config.embed_dim)
        elif config.positions == "learned":
            positions = weights["position_encoding/embeddings"][: self.length]
        if positions is not None:
            self._x.reshape(self.count, self.length, -1)[:] += positions
        self._rotary = {}
        """Cosines and sines by the letter of a layer, for those that rotate."""
        for kind in set(config.layer_kinds):
            theta, scaling = rotation_of(config, kind)
            if theta is not None:
                tables = rotary_tables(config.context_length, config.head_dim, theta, scaling)
                self._rotary[kind] = tables
        self._layer = 0
        first = block_norms(config, "attention")[0]
        self.inputs = self._norm(f"block_0/{first[0]}", self._x) if first else self._x

    @property
    def residual(self) -> np.ndarray:
        """The residual stream as it is now, (P T, D): not to be changed."""
        return self._x

    def head_inputs(self) -> np.ndarray:
        """What the output head would be multiplied with if the blocks ended here.

        Returns:
            (P T, D): behind the final norm, where the model has one.
        """
        return self._norm("final_norm", self._x) if self.config.has_final_norm else self._x

    def second_moments(self) -> np.ndarray:
        """Means of x x^T over the inputs x.

        Returns:
            (inputs, inputs) float32.

        Raises:
            ConfigError: The model computes numbers that are not finite.
        """
        moments = self.inputs.T @ self.inputs / np.float32(len(self.inputs))
        if not np.isfinite(moments).all():
            raise ConfigError(
                "this model computes numbers that are not finite: it cannot be quantized to int4"
            )
        return moments

    def advance(self, layer: int, stage: Stage) -> None:
        """Computes a stage of a block; `inputs` are those of the next stage then.

        Args:
            layer: The block, from 0.
            stage: The stage whose inputs `inputs` are.
        """
        block = f"block_{layer}"
        if stage == Stage.QKV:
            self._layer = layer
            self.inputs = self._a_few_at_a_time(block, self._attention, self._width(Stage.OUT))
        elif stage == Stage.UP:
            self.inputs = self._a_few_at_a_time(block, self._activated, self._width(Stage.DOWN))
        else:
            names = {Stage.OUT: "attention/attention_output", Stage.DOWN: "feed_forward_down"}
            self._add(self._dense(f"{block}/{names[stage]}", self.inputs), layer, stage)

    def _width(self, stage: Stage) -> int:
        c = self.config
        return c.num_heads * c.head_dim if stage == Stage.OUT else c.ff_dim

    def _add(self, output: np.ndarray, layer: int, stage: Stage) -> None:
        """Adds what a sublayer computed to the residual stream, with the norms around the sum."""
        c, sublayer = self.config, "attention" if stage == Stage.OUT else "feed_forward"
        behind = [f"block_{layer}/{name}" for name in block_norms(c, sublayer)[1]]
        if c.norm_placement == "after":
            self.update = output
            self._x = self.inputs = self._norm(behind[0], self._x + output)
            return
        self.update = self._norm(behind[0], output) if behind else output
        self._x = self._x + self.update
        following = self._norms_before(layer, stage)
        self.inputs = self._norm(following[0], self._x) if following else self._x

    def _norms_before(self, layer: int, stage: Stage) -> list[str]:
        """The norm before the sublayer that follows a stage, or before the output head."""
        if stage == Stage.OUT:
            return [f"block_{layer}/{n}" for n in block_norms(self.config, "feed_forward")[0]]
        if layer + 1 == self.config.num_layers:
            return ["final_norm"]
        return [f"block_{layer + 1}/{n}" for n in block_norms(self.config, "attention")[0]]

    def _a_few_at_a_time(self, block: str, compute: Any, width: int) -> np.ndarray:
        """`compute` of a few passages at a time."""
        out = np.empty((len(self.inputs), width), dtype=np.float32)
        step = PASSAGES_AT_ONCE * self.length
        for first in range(0, len(out), step):
            out[first : first + step] = compute(block, self.inputs[first : first + step])
        return out

    def _dense(self, path: str, x: np.ndarray) -> np.ndarray:
        """x (T, inputs) -> (T, outputs)."""
        name, bias = f"{path}/kernel", self.weights.get(f"{path}/bias")
        out = x @ rows_of(self.weights[name], name).T
        return out if bias is None else out + np.ravel(bias)

    def _norm(self, path: str, x: np.ndarray) -> np.ndarray:
        c, weights = self.config, self.weights
        if c.norm == "layer":
            x = x - x.mean(axis=1, keepdims=True)
        variance = np.square(x).mean(axis=1, keepdims=True)
        out = x / np.sqrt(variance + np.float32(c.norm_epsilon))
        out *= weights[f"{path}/scale" if c.norm == "rms" else f"{path}/gamma"]
        return out + weights[f"{path}/beta"] if f"{path}/beta" in weights else out

    def _attention(self, block: str, x: np.ndarray) -> np.ndarray:
        """Some passages' (P T, D) -> what the heads make of it (P T, N H)."""
        c, T = self.config, self.length
        shape = (len(x) // T, T, -1, c.head_dim)  # (P, T, heads, H)
        q, k, v = (
            self._dense(f"{block}/attention/{name}", x).reshape(shape)
            for name in ("query", "key", "value")
        )
        if c.qk_norm != "none":
            q = self._head_norm(f"{block}/attention/query_norm/scale", q)
            k = self._head_norm(f"{block}/attention/key_norm/scale", k)
        mixed, unseen = np.empty_like(q), np.triu(np.ones((T, T), dtype=bool), 1)
        kind = c.layer_kinds[self._layer]
        if kind == "L":
            assert c.window is not None
            unseen |= np.tril(np.ones((T, T), dtype=bool), -c.window)
        if kind in self._rotary:
            q, k = (self._rotated(heads, self._rotary[kind]) for heads in (q, k))
        q *= np.float32(1 / np.sqrt(c.head_dim))
        for p in range(len(q)):
            for head in range(c.num_heads):
                kv = head // (c.num_heads // c.num_kv_heads)
                scores = q[p, :, head] @ np.ascontiguousarray(k[p, :, kv]).T  # (T, T)
                if c.attention_softcap is not None:
                    cap = np.float32(c.attention_softcap)
                    scores = cap * np.tanh(scores / cap)
                scores[unseen] = -np.inf
                attention = softmax(scores)
                if self._on_attention is not None:
                    self._on_attention(block, head, attention)
                mixed[p, :, head] = attention @ np.ascontiguousarray(v[p, :, kv])
        return mixed.reshape(len(x), -1)

    def _head_norm(self, name: str, heads: np.ndarray) -> np.ndarray:
        """Queries or keys (P, T, n, H) behind their norm."""
        axes = (3,) if self.config.qk_norm == "head" else (2, 3)
        mean = np.square(heads).mean(axis=axes, keepdims=True)
        scale = np.asarray(self.weights[name]).reshape(-1, heads.shape[3])
        return heads / np.sqrt(mean + np.float32(self.config.norm_epsilon)) * scale

    def _rotated(self, heads: np.ndarray, tables: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Heads (P, T, n, H) at their rotary positions."""
        cosines, sines = (table[: self.length, None] for table in tables)
        first, second = np.split(heads, 2, axis=-1)
        return heads * cosines + np.concatenate([-second, first], axis=-1) * sines

    def _activated(self, block: str, x: np.ndarray) -> np.ndarray:
        """Some passages' (P T, D) -> (P T, F) behind the activation."""
        up = self._dense(f"{block}/feed_forward_up", x)
        if self.config.gated:
            gate = _ACTIVATIONS[GATES[self.config.activation]]
            return up * gate(self._dense(f"{block}/feed_forward_gate", x))
        return _ACTIVATIONS[self.config.activation](up)


def _silu(x: np.ndarray) -> np.ndarray:
    """x / (1 + e^-x)."""
    return x / (1 + np.exp(-np.maximum(x, np.float32(-87))))


def _gelu(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution function of x, by formula 7.1.26 of Abramowitz and Stegun."""
    size = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * size)
    polynomial = np.zeros_like(t)
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        polynomial = (polynomial + np.float32(coefficient)) * t
    erf = 1 - polynomial * np.exp(-size * size)
    return np.float32(0.5) * (x + np.abs(x) * erf)


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    """0.5 x (1 + tanh(u)): GPT-2's approximation."""
    u = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)
    return np.float32(0.5) * x * (1 + np.tanh(u))


_ACTIVATIONS = {
    "silu": _silu,
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.square(np.maximum(x, 0)),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}
