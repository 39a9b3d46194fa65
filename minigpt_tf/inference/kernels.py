"""The arithmetic of a transformer in NumPy, float32: norms, activations, softmax, rotation."""

import numpy as np


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the last axis; -inf stays probability 0."""
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def project(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """x (T, D) @ kernel (D, F) + bias (F,), if there is one."""
    product = x @ kernel
    return product if bias is None else product + bias


def layer_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray | None, epsilon: float
) -> np.ndarray:
    """Layer normalisation over the last axis (Ba et al., 2016)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    normal = centred / np.sqrt(variance + epsilon) * gamma
    return normal if beta is None else normal + beta


def rms_norm(x: np.ndarray, scale: np.ndarray, epsilon: float) -> np.ndarray:
    """Root-mean-square normalisation over the last axis (Zhang and Sennrich, 2019)."""
    return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + epsilon) * scale


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0)"""
    return np.maximum(x, 0)


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution function of x (Hendrycks and Gimpel, 2016)."""
    return 0.5 * x * (1 + erf(x * np.float32(0.7071067811865476)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """The tanh approximation of gelu that GPT-2 was trained with."""
    return 0.5 * x * (1 + np.tanh(np.float32(0.7978845608028654) * (x + 0.044715 * x * x * x)))


def silu(x: np.ndarray) -> np.ndarray:
    """x times the logistic function of x, the gate of SwiGLU (Shazeer, 2020)."""
    return x * (0.5 + 0.5 * np.tanh(0.5 * x))  # tanh cannot overflow where exp(-x) can


ACTIVATIONS = {"relu": relu, "gelu": gelu, "gelu_tanh": gelu_tanh, "swiglu": silu}
"""By ModelConfig.activation; for swiglu, the function of its gate."""

_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def erf(x: np.ndarray) -> np.ndarray:
    """The error function within 1.5e-7 (Abramowitz and Stegun, 1964, formula 7.1.26)."""
    t = 1 / (1 + np.float32(0.3275911) * np.abs(x))
    polynomial = np.zeros_like(t)
    for coefficient in reversed(_ERF):
        polynomial = (polynomial + np.float32(coefficient)) * t
    return np.sign(x) * (1 - polynomial * np.exp(-x * x))


def rotate(x: np.ndarray, cosines: np.ndarray, sines: np.ndarray) -> np.ndarray:
    """Rotary positions: turns each pair (i, i + H / 2) of x (T, heads, H) by its angle.

    `cosines` and `sines`: rows of `positions.rotary_tables` for these T positions, (T, H).
    """
    first, second = np.split(x, 2, axis=-1)
    turned = np.concatenate([-second, first], axis=-1)
    return x * cosines[:, None, :] + turned * sines[:, None, :]
