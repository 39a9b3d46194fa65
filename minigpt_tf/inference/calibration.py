"""A model's blocks over many passages, stage by stage: the inputs of each of its matrices.

Quantization measures what a matrix is multiplied with. A block has four stages: the matrices of one
stage share their inputs, and what they compute becomes the inputs of the next stage. So a stage can
be quantized before anything behind it has been computed.
"""

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Protocol

import numpy as np

from ..config import ModelConfig
from ..config.architecture import GATES
from ..errors import ConfigError
from ..events import SILENT, Listener
from ..metrics import softmax
from .key_value_cache import Cache
from .positions import rotary_tables, rotation_of, sinusoidal_table
from .weights import block_norms


class Decoder(Protocol):
    """What writes the passages: an `engine.Engine`."""

    config: ModelConfig

    def decode_batch(self, ids: np.ndarray, cache: Cache) -> np.ndarray:
        """Appends a token to each sequence.

        Args:
            ids: (P,).
            cache: The sequences.

        Returns:
            Logits (P, V).
        """
        ...


CALIBRATION_PASSAGES, CALIBRATION_TOKENS = 128, 128
"""How many passages a model writes for its own calibration, and their length."""

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


class Passages:
    """P passages of T tokens on their way through a model.

    `inputs` are what the matrices of the next stage are multiplied with, (P T, inputs); `advance`
    computes a stage. Behind the last block they are what the output head is multiplied with.

    Args:
        config: The architecture.
        weights: Arrays by the names of `inference.weights`.
        ids: (P, T), T at most the context length.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, Any], ids: np.ndarray) -> None:
        self.config, self.weights = config, weights
        self.count, self.length = ids.shape
        table = weights["token_embedding/embeddings"]
        self._x = np.asarray(table[ids.ravel()], dtype=np.float32)
        self._x *= np.float32(config.embedding_scale)
        positions = None
        if config.positions == "sinusoidal":
            positions = sinusoidal_table(self.length, config.embed_dim)
        elif config.positions == "learned":
            positions = weights["position_encoding/embeddings"][: self.length]
        if positions is not None:
            self._x.reshape(self.count, self.length, -1)[:] += positions
        self._rotary = {}
        for kind in set(config.layer_kinds):
            theta, scaling = rotation_of(config, kind)
            if theta is not None:
                tables = rotary_tables(config.context_length, config.head_dim, theta, scaling)
                self._rotary[kind] = tables
        self.inputs = self._x
        for name in block_norms(config, "attention")[0]:
            self.inputs = self._norm(f"block_0/{name}", self._x)

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
            self._x = self.inputs = self._norm(behind[0], self._x + output)
            return
        for path in behind:
            output = self._norm(path, output)
        self._x += output
        if stage == Stage.OUT:
            following = [f"block_{layer}/{name}" for name in block_norms(c, "feed_forward")[0]]
        elif layer + 1 < c.num_layers:
            following = [f"block_{layer + 1}/{name}" for name in block_norms(c, "attention")[0]]
        else:
            following = ["final_norm"]
        self.inputs = self._norm(following[0], self._x) if following else self._x.copy()

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
                mixed[p, :, head] = softmax(scores) @ np.ascontiguousarray(v[p, :, kv])
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


def passages_of(ids: np.ndarray, count: int, length: int, seed: int = 0) -> np.ndarray:
    """Passages of a text, for calibration.

    Args:
        ids: The text (N,).
        count: At most so many passages.
        length: Tokens of a passage; a shorter text is one passage.
        seed: Of where they begin; they do not overlap.

    Returns:
        (P, T) ids.

    Example:
        >>> passages_of(np.arange(100), count=2, length=4).shape
        (2, 4)
    """
    ids = np.asarray(ids)
    length = min(length, len(ids))
    passages = ids[: len(ids) // length * length].reshape(-1, length)
    chosen = np.random.default_rng(seed).permutation(len(passages))[:count]
    return passages[np.sort(chosen)]


def generated_passages(
    engine: Decoder,
    count: int = CALIBRATION_PASSAGES,
    length: int = CALIBRATION_TOKENS,
    seed: int = 0,
    listener: Listener = SILENT,
) -> np.ndarray:
    """Text that a model writes itself, for calibration without data.

    Each passage begins with a random token and continues with tokens drawn at temperature 1, so
    that together they are what the model was trained on as far as it remembers (Liu et al., 2023,
    "LLM-QAT", section 3.1).

    Args:
        engine: The model in float32, best with a short context: there are keys and values of a
            whole context for each passage.
        count: Number of passages P.
        length: Tokens of a passage, cut to the context length.
        seed: Of all random numbers.
        listener: Gets the progress in tokens.

    Returns:
        (P, T) ids.
    """
    config, random = engine.config, np.random.default_rng(seed)
    length = min(length, config.context_length)
    cache = Cache(config, count)
    passages = np.empty((count, length), dtype=np.int64)
    passages[:, 0] = random.integers(config.vocab_size, size=count)
    for i in range(1, length):
        listener.preparation("writing text for calibration", i, length)
        logits = engine.decode_batch(passages[:, i - 1], cache)
        up_to = softmax(logits).cumsum(axis=1, dtype=np.float64)  # probabilities of ids up to each
        drawn = random.random((count, 1)) * up_to[:, -1:]
        passages[:, i] = (up_to < drawn).sum(axis=1)
    return passages
