"""The engine: a GPT in NumPy float32 with a key/value cache, without TensorFlow."""

from typing import Any

import numpy as np

from ..config import ModelConfig
from ..errors import ConfigError
from . import kernels
from .positions import rotary_tables, sinusoidal_table
from .weights import Weights, check_weights, weights_of


class Engine:
    """Runs one sequence through the model.

    `prefill` starts a sequence, `decode_step` goes on by one token; both give the logits of the
    next token. Keys and values of all positions so far stay in a cache that is allocated once.
    """

    def __init__(self, config: ModelConfig, weights: Weights, where: str = "weights") -> None:
        """Raises ModelFolderError where the weights do not fit the configuration."""
        check_weights(weights, config, where)
        self.config = config
        self.position = 0
        self._blocks = [_Block(config, weights, layer) for layer in range(config.num_layers)]
        self._embeddings = weights["token_embedding/embeddings"]  # (V, D)
        if config.tie_embeddings:
            self._head = (self._embeddings.T, None)
        else:
            self._head = (weights["logits/kernel"], weights.get("logits/bias"))
        self._final_norm = _norm(config, weights, "final_norm") if config.norm_first else None
        T, H = config.context_length, config.head_dim
        self._positions = weights.get("position_encoding/embeddings")
        if config.positions == "sinusoidal":
            self._positions = sinusoidal_table(T, config.embed_dim)
        self._rotary = (
            rotary_tables(T, H, config.rope_theta) if config.positions == "rotary" else None
        )
        cache_shape = (config.num_layers, config.num_kv_heads, T, H)
        self._keys = np.zeros(cache_shape, dtype=np.float32)
        self._values = np.zeros(cache_shape, dtype=np.float32)

    @classmethod
    def from_model(cls, model: Any, config: ModelConfig) -> "Engine":
        """An engine with a copy of a live Keras model's weights."""
        return cls(config, weights_of(model))

    def prefill(self, ids: np.ndarray | list[int]) -> np.ndarray:
        """Starts a new sequence with ids (T,), T >= 1; logits (V,) of the token after them."""
        self.position = 0
        return self._logits(self._hidden(ids)[-1:])[0]

    def decode_step(self, token_id: int) -> np.ndarray:
        """Appends one token; logits (V,) of the token after it."""
        return self._logits(self._hidden([token_id]))[0]

    def all_logits(self, ids: np.ndarray | list[int]) -> np.ndarray:
        """Logits (T, V) after each of the ids (T,), as the Keras model gives them."""
        self.position = 0
        return self._logits(self._hidden(ids))

    def _hidden(self, ids: np.ndarray | list[int]) -> np.ndarray:
        """Final hidden states (T, D) of ids (T,) that follow the cached positions."""
        ids = np.asarray(ids)
        start, end = self.position, self.position + len(ids)
        self._check(ids, end)
        x = self._embeddings[ids]  # (T, D)
        if self._positions is not None:
            x = x + self._positions[start:end]
        rotary = None if self._rotary is None else tuple(table[start:end] for table in self._rotary)
        for block, keys, values in zip(self._blocks, self._keys, self._values, strict=True):
            x = block(x, keys, values, start, rotary)
        self.position = end
        return x if self._final_norm is None else self._final_norm(x)

    def _logits(self, x: np.ndarray) -> np.ndarray:
        return kernels.project(x, *self._head)

    def _check(self, ids: np.ndarray, end: int) -> None:
        if ids.ndim != 1 or len(ids) == 0:
            raise ConfigError(f"ids of shape {ids.shape}: expected (T,) with at least one id")
        if end > self.config.context_length:
            raise ConfigError(
                f"{end} tokens do not fit into the context of {self.config.context_length}"
            )
        wrong = ids[(ids < 0) | (ids >= self.config.vocab_size)]
        if len(wrong):
            raise ConfigError(
                f"token id {wrong[0]} is outside the vocabulary of {self.config.vocab_size}"
            )


class _Block:
    """One transformer block."""

    def __init__(self, config: ModelConfig, weights: Weights, layer: int) -> None:
        self.config = config
        path = f"block_{layer}"
        D, H = config.embed_dim, config.head_dim
        projections = [f"{path}/attention/{name}" for name in ("query", "key", "value")]
        # One product for all three: (D, (heads + 2 kv_heads) * H)
        self.qkv_kernel = np.concatenate(
            [weights[f"{name}/kernel"].reshape(D, -1) for name in projections], axis=1
        )
        self.qkv_bias = None
        if config.qkv_bias:
            self.qkv_bias = np.concatenate(
                [weights[f"{name}/bias"].ravel() for name in projections]
            )
        self.output_kernel = weights[f"{path}/attention/attention_output/kernel"].reshape(-1, D)
        self.output_bias = weights.get(f"{path}/attention/attention_output/bias")
        self.attention_norm = _norm(config, weights, f"{path}/attention_norm")
        self.feed_forward_norm = _norm(config, weights, f"{path}/feed_forward_norm")
        self.dense = {
            name: (weights[f"{path}/{name}/kernel"], weights.get(f"{path}/{name}/bias"))
            for name in ("feed_forward_gate", "feed_forward_up", "feed_forward_down")
            if f"{path}/{name}/kernel" in weights
        }
        self.activation = kernels.ACTIVATIONS[config.activation]
        self.scale = np.float32(1 / np.sqrt(H))

    def __call__(
        self,
        x: np.ndarray,
        keys: np.ndarray,
        values: np.ndarray,
        start: int,
        rotary: tuple[np.ndarray, np.ndarray] | None,
    ) -> np.ndarray:
        """x (T, D) at positions from `start` on -> (T, D); writes this layer's cache (K, C, H)."""
        if self.config.norm_first:
            x = x + self._attention(self.attention_norm(x), keys, values, start, rotary)
            return x + self._feed_forward(self.feed_forward_norm(x))
        x = self.attention_norm(x + self._attention(x, keys, values, start, rotary))
        return self.feed_forward_norm(x + self._feed_forward(x))

    def _attention(self, x, keys, values, start, rotary) -> np.ndarray:
        N, K, H = self.config.num_heads, self.config.num_kv_heads, self.config.head_dim
        T, end = len(x), start + len(x)
        qkv = kernels.project(x, self.qkv_kernel, self.qkv_bias)
        q, k, v = np.split(qkv.reshape(T, N + 2 * K, H), [N, N + K], axis=1)  # (T, heads, H)
        if rotary is not None:
            q, k = kernels.rotate(q, *rotary), kernels.rotate(k, *rotary)
        keys[:, start:end], values[:, start:end] = k.swapaxes(0, 1), v.swapaxes(0, 1)
        # Query heads that share a key/value head stand together: (K, N/K * T, H)
        q = q.reshape(T, K, N // K, H).transpose(1, 2, 0, 3).reshape(K, -1, H) * self.scale
        scores = q @ keys[:, :end].swapaxes(1, 2)  # (K, N/K * T, end)
        if T > 1:
            future = np.arange(end) > np.arange(start, end)[:, None]  # (T, end)
            scores.reshape(N, T, end)[:, future] = -np.inf
        mixed = kernels.softmax(scores) @ values[:, :end]  # (K, N/K * T, H)
        mixed = mixed.reshape(N, T, H).swapaxes(0, 1).reshape(T, N * H)
        return kernels.project(mixed, self.output_kernel, self.output_bias)

    def _feed_forward(self, x: np.ndarray) -> np.ndarray:
        hidden = self._project("feed_forward_up", x)
        if "feed_forward_gate" in self.dense:
            hidden = hidden * self.activation(self._project("feed_forward_gate", x))
        else:
            hidden = self.activation(hidden)
        return self._project("feed_forward_down", hidden)

    def _project(self, name: str, x: np.ndarray) -> np.ndarray:
        return kernels.project(x, *self.dense[name])


def _norm(config: ModelConfig, weights: Weights, path: str):
    """The norm at `path`, as a function of x."""
    if config.norm == "rms":
        scale = weights[f"{path}/scale"]
        return lambda x: kernels.rms_norm(x, scale, config.norm_epsilon)
    gamma, beta = weights[f"{path}/gamma"], weights.get(f"{path}/beta")
    return lambda x: kernels.layer_norm(x, gamma, beta, config.norm_epsilon)
