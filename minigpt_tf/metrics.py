"""The formulas of what is measured, each once, in NumPy.

V is the size of the vocabulary, N a number of tokens, C a number of labels. Logarithms are natural,
so that losses are in nats. What TensorFlow differentiates in training is computed there.
"""

import math

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities exp(z_i) / sum_j exp(z_j), of z - max z so that nothing overflows.

    Args:
        logits: (..., V). -inf becomes probability 0.

    Returns:
        (..., V), of the dtype of the logits; the last axis sums to 1.

    Example:
        >>> softmax(np.log([[1.0, 2.0, 1.0]]))
        array([[0.25, 0.5 , 0.25]])
    """
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log probabilities z_i - log sum_j exp(z_j), exact also where `softmax` would round to 0.

    Args:
        logits: (..., V), of any float dtype.

    Returns:
        (..., V) float64, at most 0.

    Example:
        >>> log_softmax(np.float32([0, -2000]))
        array([    0., -2000.])
    """
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_probability(logits: np.ndarray, token_id: int) -> float:
    """The log probability of one token, one element of `log_softmax`.

    Args:
        logits: (V,).
        token_id: The token.

    Returns:
        The logarithm in nats, at most 0.
    """
    return float(log_softmax(logits)[token_id])


def negative_log_likelihood(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The loss -log p(target) of each token: its cross-entropy against the text.

    The same as `-log_softmax` at the targets, to float32's precision, without a second array of the
    size of the logits.

    Args:
        logits: (N, V) float32. **They are overwritten.**
        targets: (N,) ids.

    Returns:
        (N,) float64, in nats. Their mean is the loss of the text.
    """
    chosen = np.take_along_axis(logits, targets[:, None], axis=1)[:, 0].astype(np.float64)
    highest = logits.max(axis=1)
    logits -= highest[:, None]
    np.exp(logits, out=logits)
    return np.log(logits.sum(axis=1, dtype=np.float64)) + highest - chosen


def perplexity(loss: float) -> float:
    """exp(loss): among how many equally likely tokens the model might as well choose (Jelinek et
    al., 1977, "Perplexity - a measure of the difficulty of speech recognition tasks").

    Args:
        loss: Mean negative log likelihood, in nats per token.

    Returns:
        At least 1 for a loss that is a mean of log probabilities; infinite where it is too large
        for a float.

    Example:
        >>> round(perplexity(math.log(50)), 6)
        50.0
    """
    return math.exp(loss) if loss < 700 else math.inf


def bits_per_byte(loss: float, tokens: int, nbytes: int) -> float:
    """The loss of a text in bits per byte of it, which compares models with different tokenizers
    (Gao et al., 2020, "The Pile", section 3.1).

    Args:
        loss: Mean negative log likelihood, in nats per token.
        tokens: How many tokens the loss is a mean of.
        nbytes: UTF-8 bytes of the text that these tokens stand for.

    Returns:
        loss * tokens / (ln 2 * nbytes). Unlike a loss per token, smaller tokens do not lower it.

    Raises:
        ZeroDivisionError: `nbytes` is 0.

    Example:
        >>> bits_per_byte(math.log(2), tokens=10, nbytes=40)
        0.25
    """
    return loss * tokens / math.log(2) / nbytes


def accuracy(counts: np.ndarray) -> float:
    """The fraction of correct predictions.

    Args:
        counts: (C, C), the confusion matrix: how many examples of label i were taken for label j.

    Returns:
        From 0 to 1; nan without examples.
    """
    return float(np.trace(counts) / counts.sum())


def precision(counts: np.ndarray) -> np.ndarray:
    """Of the examples taken for each label, the fraction that has it: TP / (TP + FP).

    Args:
        counts: (C, C), the confusion matrix as `accuracy` has it.

    Returns:
        (C,) float64; 0 for a label that was never predicted, as in scikit-learn.
    """
    return _ratio(np.diag(counts), counts.sum(axis=0))


def recall(counts: np.ndarray) -> np.ndarray:
    """Of the examples of each label, the fraction that was taken for it: TP / (TP + FN).

    Args:
        counts: (C, C), the confusion matrix as `accuracy` has it.

    Returns:
        (C,) float64; 0 for a label without examples.
    """
    return _ratio(np.diag(counts), counts.sum(axis=1))


def f1(counts: np.ndarray) -> np.ndarray:
    """The harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN) (van Rijsbergen, 1979,
    "Information Retrieval", chapter 7). Its mean over the labels is the macro F1.

    Args:
        counts: (C, C), the confusion matrix as `accuracy` has it.

    Returns:
        (C,) float64; 0 where both are 0.
    """
    return _ratio(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1))


def _ratio(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    return np.divide(counts, totals, out=np.zeros(len(counts)), where=totals > 0)
