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
from ..errors import ConfigError
from ..metrics import softmax
from .positions import rotary_tables, sinusoidal_table

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
    gate = ["feed_forward_gate"] if config.activation == "swiglu" else []
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
        positions = None
        if config.positions == "sinusoidal":
            positions = sinusoidal_table(self.length, config.embed_dim)
        elif config.positions == "learned":
            positions = weights["position_encoding/embeddings"][: self.length]
        if positions is not None:
            self._x.reshape(self.count, self.length, -1)[:] += positions
        if config.positions == "rotary":
            tables = rotary_tables(
                config.context_length, config.head_dim, config.rope_theta, config.rope_scaling
            )
            self._rotary = tables
        first = "block_0/attention_norm"
        self.inputs = self._norm(first, self._x) if config.norm_first else self._x

    @property
    def residual(self) -> np.ndarray:
        """The residual stream as it is now, (P T, D): not to be changed."""
        return self._x

    def head_inputs(self) -> np.ndarray:
        """What the output head would be multiplied with if the blocks ended here.

        Returns:
            (P T, D): behind the final norm, where the model has one.
        """
        return self._norm("final_norm", self._x) if self.config.norm_first else self._x

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
            self.inputs = self._a_few_at_a_time(block, self._attention, self._width(Stage.OUT))
        elif stage == Stage.UP:
            self.inputs = self._a_few_at_a_time(block, self._activated, self._width(Stage.DOWN))
        else:
            names = {Stage.OUT: "attention/attention_output", Stage.DOWN: "feed_forward_down"}
            self.update = self._dense(f"{block}/{names[stage]}", self.inputs)
            self._x = self._x + self.update
            self.inputs = self._norm(self._norm_behind(layer, stage), self._x)
            if not self.config.norm_first:
                self._x = self.inputs

    def _width(self, stage: Stage) -> int:
        c = self.config
        return c.num_heads * c.head_dim if stage == Stage.OUT else c.ff_dim

    def _norm_behind(self, layer: int, stage: Stage) -> str:
        if not self.config.norm_first:
            name = "attention_norm" if stage == Stage.OUT else "feed_forward_norm"
            return f"block_{layer}/{name}"
        if stage == Stage.OUT:
            return f"block_{layer}/feed_forward_norm"
        last = layer + 1 == self.config.num_layers
        return "final_norm" if last else f"block_{layer + 1}/attention_norm"

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
        mixed, unseen = np.empty_like(q), np.triu(np.ones((T, T), dtype=bool), 1)
        if c.positions == "rotary":
            q, k = self._rotated(q), self._rotated(k)
        q *= np.float32(1 / np.sqrt(c.head_dim))
        for p in range(len(q)):
            for head in range(c.num_heads):
                kv = head // (c.num_heads // c.num_kv_heads)
                scores = q[p, :, head] @ np.ascontiguousarray(k[p, :, kv]).T  # (T, T)
                scores[unseen] = -np.inf
                attention = softmax(scores)
                if self._on_attention is not None:
                    self._on_attention(block, head, attention)
                mixed[p, :, head] = attention @ np.ascontiguousarray(v[p, :, kv])
        return mixed.reshape(len(x), -1)

    def _rotated(self, heads: np.ndarray) -> np.ndarray:
        """Heads (P, T, n, H) at their rotary positions."""
        cosines, sines = (table[: self.length, None] for table in self._rotary)
        first, second = np.split(heads, 2, axis=-1)
        return heads * cosines + np.concatenate([-second, first], axis=-1) * sines

    def _activated(self, block: str, x: np.ndarray) -> np.ndarray:
        """Some passages' (P T, D) -> (P T, F) behind the activation."""
        up = self._dense(f"{block}/feed_forward_up", x)
        if self.config.activation == "swiglu":
            return up * _gated(self._dense(f"{block}/feed_forward_gate", x))
        return _ACTIVATIONS[self.config.activation](up)


def _gated(x: np.ndarray) -> np.ndarray:
    """silu: x / (1 + e^-x)."""
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
    "relu": lambda x: np.maximum(x, 0),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}
