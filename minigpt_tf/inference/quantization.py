"""int4 weights whose errors are compensated: GPTQ (Frantar et al., 2022), offline, in NumPy.

A matrix is stored in groups of 32 weights along its inputs: w = d q + m, with codes q from 0 to 15
and a scale d and a minimum m for each group. Plain rounding to 16 steps is felt in every output.
Here each weight is rounded so that it makes up for the errors of the weights before it, measured
with the inputs that the matrix has on calibration passages. Token embedding and output head get 8
bits: the logits depend on them directly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import ModelConfig
from ..errors import ConfigError
from ..events import SILENT, Listener
from ..machine import start_blas_threads
from .blocks import BLOCK, Blocks, round_to_int8
from .stages import Passages, Stage, kernel_of, rows_of, stage_kernels
from .weights import Weights, weight_shapes

LARGEST_CODE = 15

DAMPENING = 0.05
"""Added to the diagonal of the second moments, as a fraction of its mean: calibration sees few
tokens, and errors that only they cancel must not count as canceled."""

RANGES = np.linspace(1.1, 0.5, 13, dtype=np.float32)
"""Ranges that are tried for a group, as fractions of that from its smallest to its largest weight:
clipping a far weight makes the steps of the others finer."""

SWEEPS = 2
"""How often each code is chosen anew, now that the errors of all others are known."""


@dataclass(frozen=True)
class Int4Matrix:
    """A matrix of 4-bit codes: w = scale * code + minimum.

    Args:
        codes: (outputs, inputs) uint8, from 0 to 15.
        scales: (outputs, groups) float32, each a bfloat16 value above 0.
        minimums: (outputs, groups) float32, each a bfloat16 value.
    """

    codes: np.ndarray
    scales: np.ndarray
    minimums: np.ndarray

    def dequantized(self) -> np.ndarray:
        """The matrix (outputs, inputs), float32."""
        return _spread(self.scales, self.codes) * self.codes + _spread(self.minimums, self.codes)

    def blocks(self) -> Blocks:
        """The matrix as the engine stores it, of the same values as float16 has no need to round:
        those from 6e-5 to 65504."""
        return Blocks(self.codes, _float16(self.scales), _float16(self.minimums))

    def rows(self, first: int, last: int) -> "Int4Matrix":
        """Some rows of the matrix.

        Args:
            first: The first of them.
            last: The one behind the last.

        Returns:
            Views of them.
        """
        rows = slice(first, last)
        return Int4Matrix(self.codes[rows], self.scales[rows], self.minimums[rows])


def _float16(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise ConfigError("this model has weights above 65504: it cannot be quantized to int4")
    return rounded


def _spread(of_groups: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(outputs, groups) -> (outputs, inputs)."""
    return np.repeat(of_groups, BLOCK, axis=1)[:, : codes.shape[1]]


QuantizedWeights = dict[str, Int4Matrix | Blocks | np.ndarray]
"""By the names of `inference.weights`; biases, norms and learned positions stay float32 arrays."""


def quantize_model(
    weights: Mapping[str, Any],
    config: ModelConfig,
    passages: np.ndarray,
    listener: Listener = SILENT,
) -> QuantizedWeights:
    """Quantizes a model to int4, block by block.

    The inputs of a matrix are those that it has in the quantized model: those that the quantized
    matrices before it compute.

    Args:
        weights: Arrays or datasets by the names of `inference.weights`.
        config: The architecture.
        passages: Ids for calibration (P, T): text of the kind that the model is for, or its own
            from `generated_passages`. Some 16,000 tokens are enough.
        listener: Gets the progress in blocks.

    Returns:
        Matrices by the names of the weights, (outputs, inputs); other weights as they are.

    Raises:
        ConfigError: The passages do not fit the model, or make numbers that are not finite.
    """
    start_blas_threads()
    passages = _checked(passages, config)
    shapes = weight_shapes(config)
    result: QuantizedWeights = {}
    current: Weights = {}  # what the passages run through: of the blocks, only one at a time
    for name in shapes:
        if name in ("token_embedding/embeddings", "logits/kernel"):
            blocks = round_to_int8(rows_of(_float32(weights[name]), name))
            result[name] = blocks
            if name.endswith("/embeddings"):
                current[name] = blocks.values()
        elif not name.endswith("/kernel"):
            result[name] = current[name] = _float32(weights[name])
    inputs = Passages(config, current, passages)
    for layer in range(config.num_layers):
        listener.preparation("quantizing", layer, config.num_layers)
        for stage in Stage:
            names = stage_kernels(config, layer, stage)
            rows = [rows_of(_float32(weights[name]), name) for name in names]
            together = quantize_to_int4(np.concatenate(rows), inputs.second_moments())
            first = 0
            for name, kernel in zip(names, rows, strict=True):
                rows_of_kernel = together.rows(first, first + len(kernel))
                first += len(kernel)
                result[name] = rows_of_kernel
                current[name] = kernel_of(rows_of_kernel.dequantized(), shapes[name], name)
            inputs.advance(layer, stage)
            for name in names:
                del current[name]
    listener.preparation("quantizing", config.num_layers, config.num_layers)
    return {name: result[name] for name in shapes}


def _float32(weight: Any) -> np.ndarray:
    return np.asarray(weight, dtype=np.float32)


def quantize_to_int4(rows: np.ndarray, second_moments: np.ndarray) -> Int4Matrix:
    """Quantizes a matrix to int4 so that its outputs change little on inputs like those measured.

    GPTQ, with the groups, and the inputs inside each, in the order of their size, and with the
    scales of a group chosen when its turn comes. Where the second moments E[x x^T] are
    (U + I) D (U + I)^T, U above the diagonal, weight j is rounded from w_j + sum_i<j e_i U_ij,
    where e_i = w_i - (d q_i + m). Chee et al. (2023, "QuIP", theorem 6) show that this is GPTQ,
    without its inverse, and that rounding step j then costs D_j times the square of its error.

    Args:
        rows: (outputs, inputs).
        second_moments: Means of x x^T over the inputs x, (inputs, inputs).

    Returns:
        The codes, scales and minimums.
    """
    groups = _groups_in_order(np.diag(second_moments))
    order = np.concatenate(groups)
    moments, feedback, variances = _factored(second_moments[np.ix_(order, order)])
    exponent = np.frexp(np.abs(rows).max())[1]  # squares of very small or large weights are lost
    weights = np.ldexp(np.ascontiguousarray(rows.T[order], dtype=np.float32), -exponent)
    errors, rounded = np.zeros_like(weights), list[_Group]()
    for group in groups:
        first = rounded[-1].last if rounded else 0
        last = first + len(group)
        wanted = weights[first:last] + feedback[first:last, :first] @ errors[:first]
        scale, minimum = _scale_and_minimum(wanted, variances[first:last])
        codes = np.empty_like(wanted)
        for i in range(first, last):
            compensated = wanted[i - first] + feedback[i, first:i] @ errors[first:i]
            codes[i - first] = code = _codes(compensated, scale, minimum)
            errors[i] = weights[i] - (scale * code + minimum)
        rounded.append(_Group(first, last, codes, scale, minimum))
    for _ in range(SWEEPS):
        for each in rounded:
            each.improve(weights, errors, moments)
    codes = np.empty(rows.shape, dtype=np.uint8)
    codes[:, order] = np.concatenate([group.codes for group in rounded]).T
    stored = np.argsort([group.min() for group in groups])
    scales = np.stack([rounded[g].scale for g in stored], axis=1)
    minimums = np.stack([rounded[g].minimum for g in stored], axis=1)
    return Int4Matrix(codes, np.ldexp(scales, exponent), np.ldexp(minimums, exponent))


@dataclass
class _Group:
    """Rounded weights of inputs `first` to before `last`, in the order of rounding."""

    first: int
    last: int
    codes: np.ndarray  # (n, outputs) float32
    scale: np.ndarray  # (outputs,), as `minimum`
    minimum: np.ndarray

    def improve(self, weights: np.ndarray, errors: np.ndarray, moments: np.ndarray) -> None:
        """Chooses d and m, then one code after the other, anew: what is best for the outputs while
        all else stays (coordinate descent, as in Behdin et al., 2023, "QuantEase").

        Args:
            weights: All of the matrix (inputs, outputs).
            errors: Of all of them; changed in place.
            moments: (inputs, inputs).
        """
        mine = slice(self.first, self.last)
        own = moments[mine, mine]
        slopes = moments[mine] @ errors  # half the derivative of the outputs' error
        scale, minimum = self._least_squares(slopes, own)
        change = weights[mine] - (scale * self.codes + minimum) - errors[mine]
        better = (change * (2 * slopes + own @ change)).sum(axis=0) < 0
        self.scale = np.where(better, scale, self.scale)
        self.minimum = np.where(better, minimum, self.minimum)
        change *= better
        errors[mine] += change
        slopes += own @ change
        for i, at in enumerate(range(self.first, self.last)):
            best = weights[at] - errors[at] + slopes[i] / own[i, i]
            self.codes[i] = _codes(best, self.scale, self.minimum)
            change = weights[at] - (self.scale * self.codes[i] + self.minimum) - errors[at]
            errors[at] += change
            slopes += own[:, i, None] * change

    def _least_squares(self, slopes: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """d and m at which both derivatives are 0, rounded."""
        products = own @ self.codes
        by_scale = (self.codes * products).sum(axis=0)  # second derivatives, and the mixed one
        by_minimum, mixed = own.sum(), products.sum(axis=0)
        determinant = by_scale * by_minimum - mixed * mixed
        solvable = determinant > 1e-5 * by_scale * by_minimum
        determinant = np.where(solvable, determinant, np.float32(np.inf))
        toward_scale, toward_minimum = (self.codes * slopes).sum(axis=0), slopes.sum(axis=0)
        scale = (toward_scale * by_minimum - toward_minimum * mixed) / determinant
        minimum = (toward_minimum * by_scale - toward_scale * mixed) / determinant
        return _stored(self.scale + scale, self.minimum + minimum)


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Rounds to the nearest bfloat16 values, ties to even.

    Args:
        values: float32.

    Returns:
        float32 whose lower 16 bits are 0.

    Example:
        >>> bfloat16(np.float32([1.0, 1.001, -3.14159]))
        array([ 1.    ,  1.    , -3.140625], dtype=float32)
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def _groups_in_order(sizes: np.ndarray) -> list[np.ndarray]:
    """The inputs of each group, the largest first, and the groups with the largest inputs first:
    later weights can make up for errors, and the last cannot be made up for."""
    inputs = len(sizes)
    groups = [np.arange(g, min(g + BLOCK, inputs)) for g in range(0, inputs, BLOCK)]
    groups.sort(key=lambda group: -sizes[group].mean())
    return [group[np.argsort(-sizes[group], kind="stable")] for group in groups]


def _factored(second_moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dampened moments, the transpose of U (inputs, inputs), and D (inputs,) of
    `quantize_to_int4`.

    Where float32's errors in the moments outweigh the dampening, more of it is needed.
    """
    dampening = DAMPENING * float(np.diag(second_moments).mean()) or 1.0
    while True:
        moments = second_moments + dampening * np.eye(len(second_moments))
        try:
            lower = np.linalg.cholesky(moments[::-1, ::-1])
        except np.linalg.LinAlgError:
            dampening *= 10
            continue
        factor = lower[::-1, ::-1]  # upper: moments = factor factor^T
        roots = np.diag(factor)
        feedback = np.ascontiguousarray((factor / roots).T, dtype=np.float32)
        return moments.astype(np.float32), feedback, roots**2


def _scale_and_minimum(
    weights: np.ndarray, importance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The d and m with the smallest weighted squared error among some ranges.

    Each range gives codes, and these codes the d and m of least squares (as llama.cpp's
    make_qkx2_quants does for its formats).

    Args:
        weights: Of one group (n, outputs).
        importance: Of each of its inputs (n,).

    Returns:
        d and m (outputs,), bfloat16 values.
    """
    v = (importance / importance.sum()).astype(np.float32)
    low, high = weights.min(axis=0), weights.max(axis=0)
    mean = v @ weights
    least = np.full(weights.shape[1], np.inf, dtype=np.float32)
    best_scale, best_minimum = np.ones_like(least), np.zeros_like(least)
    for fraction in RANGES:
        half = (high - low) * (fraction / 2)
        scale, minimum = _stored(2 * half / LARGEST_CODE, (low + high) / 2 - half)
        codes = _codes(weights, scale, minimum)
        mean_code = v @ codes
        codes -= mean_code
        variance = v @ np.square(codes)
        slope = np.divide(v @ (codes * weights), variance, out=scale.copy(), where=variance > 0)
        scale, minimum = _stored(slope, mean - slope * mean_code)
        error = v @ np.square(scale * _codes(weights, scale, minimum) + minimum - weights)
        better = error < least
        least = np.where(better, error, least)
        best_scale = np.where(better, scale, best_scale)
        best_minimum = np.where(better, minimum, best_minimum)
    return best_scale, best_minimum


def _stored(scale: np.ndarray, minimum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """d and m as they are stored; d is 1 where all weights are equal."""
    scale = bfloat16(scale)
    return np.where(scale > 0, scale, np.float32(1)), bfloat16(minimum)


def _codes(weights: np.ndarray, scale: np.ndarray, minimum: np.ndarray) -> np.ndarray:
    """The nearest codes, as float32."""
    codes = (weights - minimum) / scale
    return np.clip(np.rint(codes, out=codes), 0, LARGEST_CODE, out=codes)


def _checked(passages: np.ndarray, config: ModelConfig) -> np.ndarray:
    passages = np.asarray(passages)
    if passages.ndim != 2 or passages.size == 0 or passages.dtype.kind not in "iu":
        raise ConfigError(
            f"passages of shape {passages.shape} and type {passages.dtype}: expected ids (P, T)"
        )
    if passages.shape[1] > config.context_length:
        raise ConfigError(
            f"passages of {passages.shape[1]} tokens do not fit into the context of "
            f"{config.context_length}"
        )
    wrong = passages[(passages < 0) | (passages >= config.vocab_size)]
    if len(wrong):
        raise ConfigError(f"token id {wrong[0]} is outside the vocabulary of {config.vocab_size}")
    return passages
