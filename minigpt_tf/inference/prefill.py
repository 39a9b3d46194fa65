"""A prompt in matrix products: many tokens at once, by NumPy's BLAS on all cores."""

import numpy as np

from ..config import ModelConfig
from ..machine import start_blas_threads
from . import kernels
from .kernels import BlockMatrix, first_matrix
from .weight_layout import EngineWeights

CHUNK = 256
"""Tokens that go through the model together: enough for BLAS, and few scores that are masked."""

WEIGHTS_AT_ONCE = 1 << 20
"""Weights of an int8 matrix that are turned into float32 at a time, small enough for the caches."""


class Prefill:
    """Appends many tokens to one sequence of the cache."""

    def __init__(
        self, config: ModelConfig, weights: EngineWeights, cosines: np.ndarray, sines: np.ndarray
    ) -> None:
        """
        Args:
            config: Architecture of the model.
            weights: In the engine's layout.
            cosines: Of the rotary angles, (C, H / 2); (0, 0) without.
            sines: The same.
        """
        self.config, self.weights, self.cosines, self.sines = config, weights, cosines, sines
        self.compiled = False
        """Whether all that this model needs of `kernels` has been compiled."""
        self._activate = kernels.ACTIVATIONS[config.activation]
        self._factor = np.float32(1 / np.sqrt(config.head_dim))

    def __call__(
        self, x: np.ndarray, keys: np.ndarray, values: np.ndarray, start: int, num_logits: int
    ) -> np.ndarray:
        """Runs T tokens through the model, and writes their keys and values into the cache.

        Args:
            x: Their embeddings (T, D).
            keys: Of their sequence, (L, K, C, H).
            values: The same.
            start: Position of the first token.
            num_logits: How many of the last tokens get logits.

        Returns:
            Logits (num_logits, V) after the last tokens.
        """
        hidden = self.hidden(x, keys, values, start, num_logits)
        return self._product(len(self.weights.layout) - 1, hidden)

    def hidden(
        self, x: np.ndarray, keys: np.ndarray, values: np.ndarray, start: int, num_logits: int
    ) -> np.ndarray:
        """As a call, but without the output head.

        Args:
            x: As there.
            keys: As there.
            values: As there.
            start: As there.
            num_logits: How many of the last tokens get a hidden state.

        Returns:
            Hidden states (num_logits, D), from which the head computes logits.
        """
        start_blas_threads()
        hidden = np.concatenate(
            [
                self._chunk(x[first : first + CHUNK], keys, values, start + first)[-num_logits:]
                for first in range(0, len(x), CHUNK)
            ]
        )
        self.compiled = True
        return hidden[-num_logits:]

    def _chunk(self, x: np.ndarray, keys: np.ndarray, values: np.ndarray, start: int) -> np.ndarray:
        """Final hidden states (T, D) of x (T, D)."""
        norms, norm_first = self.weights.norms, self.config.norm_first
        normal = self._norm(x, norms[0]) if norm_first else x
        for layer in range(self.config.num_layers):
            for number, sublayer in enumerate((self._attention, self._feed_forward)):
                x = x + sublayer(normal, layer, keys[layer], values[layer], start)
                normal = self._norm(x, norms[1 + 2 * layer + number])
                x = x if norm_first else normal
        return normal

    def _norm(self, x: np.ndarray, norm: np.ndarray) -> np.ndarray:
        out, c = np.empty_like(x), self.config
        kernels.normalize(x, norm, np.float32(c.norm_epsilon), c.norm == "layer", out)
        return out

    def _attention(
        self, x: np.ndarray, layer: int, keys: np.ndarray, values: np.ndarray, start: int
    ) -> np.ndarray:
        """x (T, D) -> (T, D); keys and values (K, C, H)."""
        N, K, H = self.config.num_heads, self.config.num_kv_heads, self.config.head_dim
        T, end = len(x), start + len(x)
        qkv = self._block_product(layer, BlockMatrix.QKV, x).reshape(T, N + 2 * K, H)
        if self.config.positions == "rotary":
            kernels.rotate_tokens(qkv, N + K, self.cosines[start:end], self.sines[start:end])
        q, k, v = np.split(qkv, [N, N + K], axis=1)  # (T, heads, H)
        keys[:, start:end], values[:, start:end] = k.swapaxes(0, 1), v.swapaxes(0, 1)
        q = q.swapaxes(0, 1) * self._factor  # (N, T, H)
        mixed = np.empty((T, N, H), dtype=np.float32)
        for head in range(N):
            kv = head // (N // K)
            scores = q[head] @ keys[kv, :end].T  # (T, end)
            kernels.causal_softmax(scores, start)
            mixed[:, head] = scores @ values[kv, :end]
        return self._block_product(layer, BlockMatrix.OUT, mixed.reshape(T, N * H))

    def _feed_forward(self, x: np.ndarray, layer: int, *_) -> np.ndarray:
        """x (T, D) -> (T, D)."""
        gate = self._block_product(layer, BlockMatrix.GATE, x)
        up = self._block_product(layer, BlockMatrix.UP, x)
        self._activate(up.reshape(-1), gate.reshape(-1))
        return self._block_product(layer, BlockMatrix.DOWN, up)

    def _block_product(self, layer: int, matrix: BlockMatrix, x: np.ndarray) -> np.ndarray:
        return self._product(first_matrix(layer) + matrix, x)

    def _product(self, index: int, x: np.ndarray) -> np.ndarray:
        """x (T, inputs) times matrix `index`, plus bias -> (T, outputs)."""
        matrix, rows = self.weights.matrix(index), self.weights.rows(index)
        if matrix.dtype == np.float32:
            out = x @ matrix.T
        else:
            out = np.empty((len(x), len(matrix)), dtype=np.float32)
            step = max(1, WEIGHTS_AT_ONCE // matrix.shape[1])
            for first in range(0, len(matrix), step):
                rows_at_once = matrix[first : first + step].astype(np.float32)
                np.matmul(x, rows_at_once.T, out=out[:, first : first + step])
            out *= self.weights.scales[rows]
        out += self.weights.biases[rows]
        return out
