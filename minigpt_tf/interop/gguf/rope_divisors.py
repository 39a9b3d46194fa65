"""Rotary divisors as GGUF files list them, turned back into `ModelConfig.rope_scaling`."""

import math

import numpy as np

from ...config import LLAMA3_SCALING
from ...inference.positions import rotary_divisors

STANDARD = (1.0, 4.0, 8192.0)
"""LLAMA3_SCALING of all models that its makers have published."""
TOLERANCE = 1e-4
"""Largest relative difference between a file's divisors and those of the scaling found."""


def scaling_of(divisors: np.ndarray, frequencies: np.ndarray) -> dict[str, float] | None:
    """Finds the RoPE scaling whose `rotary_divisors` are given.

    Only the quotients of Llama 3's three numbers matter: where the standard ones do not fit,
    low_freq_factor is 1.

    Args:
        divisors: What each frequency is divided by, (H / 2,).
        frequencies: Those of the model without scaling, (H / 2,), in radians per token.

    Returns:
        Linear or Llama 3 scaling, as `rope_scaling` of ModelConfig; None if all divisors are 1.

    Raises:
        ValueError: No scaling has these divisors.
    """
    if divisors.shape != frequencies.shape or not (np.isfinite(divisors) & (divisors > 0)).all():
        raise ValueError(f"rotary divisors of shape {divisors.shape}, not all positive numbers")
    divisors = divisors.astype(np.float64)
    if np.allclose(divisors, 1, rtol=TOLERANCE):
        return None
    candidates = [{"factor": _short(divisors.mean())}]
    for factor, *rest in (_standard(divisors, frequencies), *_solved(divisors, frequencies)):
        candidates.append({"factor": factor, **dict(zip(LLAMA3_SCALING, rest, strict=True))})
    for scaling in candidates:
        sound = all(math.isfinite(value) and value > 0 for value in scaling.values())
        if sound and _fits(scaling, divisors, frequencies):
            return scaling
    raise ValueError("rotary divisors that are neither those of linear nor of Llama 3's scaling")


def _fits(scaling: dict[str, float], divisors: np.ndarray, frequencies: np.ndarray) -> bool:
    if len(scaling) > 1 and not scaling["low_freq_factor"] < scaling["high_freq_factor"]:
        return False
    found = rotary_divisors(frequencies, scaling)
    return np.allclose(found, divisors, rtol=TOLERANCE, atol=0)


def _standard(divisors: np.ndarray, frequencies: np.ndarray) -> tuple[float, ...]:
    """The standard numbers, with the factor that the slowest pair of dimensions then has."""
    low, high, original = STANDARD
    turns = original * frequencies[-1] / (2 * math.pi)
    smooth = min(max((turns - low) / (high - low), 0), 1)
    rest = 1 / divisors[-1] - smooth
    factor = (1 - smooth) / rest if rest > 0 else 0.0
    return _short(factor), *STANDARD


def _solved(divisors: np.ndarray, frequencies: np.ndarray) -> list[tuple[float, ...]]:
    """With low_freq_factor 1, from the straight line on which 1 / divisor rises with the frequency
    between the two flat parts; first with round numbers, then as solved."""
    factor = divisors.max()
    if factor <= 1:
        return []
    smooth = (1 / divisors - 1 / factor) / (1 - 1 / factor)
    between = (smooth > 1e-5) & (smooth < 1 - 1e-5)
    if between.sum() >= 2:  # smooth = slope * frequency - offset
        slope, negative = np.polyfit(frequencies[between], smooth[between], 1)
        offset = -negative
    else:  # at most one point between: any line through it that both flat parts allow
        low, high, _ = STANDARD
        slope, offset = _steepest(frequencies, smooth, low / (high - low))
    if offset <= 0:
        return []
    high, original = 1 + 1 / offset, 2 * math.pi * slope / offset
    rounded = _short(factor), 1.0, float(round(high, 3)), float(round(original))
    return [rounded, (_short(factor), 1.0, float(high), float(original))]


def _steepest(
    frequencies: np.ndarray, smooth: np.ndarray, usual_offset: float
) -> tuple[float, float]:
    """Slope and offset of a line through the one point between the flat parts, or else through the
    end of the slow one; with the usual offset, if it then rises steeply enough."""
    point = np.flatnonzero(smooth < 1 - 1e-5)[0]  # frequencies fall
    slopes = [(smooth[point] + usual_offset) / frequencies[point]]
    if point > 0:
        slopes.append((1 - smooth[point]) / (frequencies[point - 1] - frequencies[point]))
    if point + 1 < len(smooth) and smooth[point] > 1e-5:
        slopes.append(smooth[point] / (frequencies[point] - frequencies[point + 1]))
    slope = max(slopes)
    return slope, slope * frequencies[point] - smooth[point]


def _short(value: float) -> float:
    """The shortest decimal number that is the same in float32."""
    return float(str(np.float32(value)))
