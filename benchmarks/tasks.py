"""What every peer is timed at, whatever runs the model."""

import hashlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

PROMPT = list(range(100, 108))
TOKENS = 100
STREAMS = (1, 2, 4, 8, 16, 32)
BATCH_STEPS = 16
PROMPT_TOKENS = 1000
ANSWER_TOKENS = 200
ANSWER_PROMPTS = (
    "Explain in a few paragraphs why the sky is blue.",
    "Write a Python function that returns the prime numbers below n, and explain it.",
    "Summarize this text, then repeat its second sentence: The river rose in the night. By noon "
    "the lower fields were under water. The farmers moved their cattle to the hill.",
    "Write a short story about a lighthouse keeper who finds a letter in a bottle.",
    "List ten tips for learning a foreign language, with a sentence about each.",
)
"""An explanation, code, a text to copy from, a story and a list."""

Decode = Callable[[list[int]], np.ndarray]
"""Appends tokens, or starts anew with several; logits (V,) after the last one."""
Start = Callable[[list[list[int]]], np.ndarray]
"""Starts B sequences; logits (B, V)."""
Step = Callable[[list[int]], np.ndarray]
"""Appends a token to each of B sequences; logits (B, V)."""


def one_stream(decode: Decode, weight_bytes: int) -> dict[str, Any]:
    """Decodes greedily after a short prompt, the first time to warm up.

    Args:
        decode: Of the peer.
        weight_bytes: What a token reads.

    Returns:
        Tokens a second, the ids, and a hash of the first logits.
    """
    hashed = hashlib.sha256()
    logits = decode(PROMPT)
    for _ in range(16):
        hashed.update(np.ascontiguousarray(logits, dtype=np.float32))
        logits = decode([int(logits.argmax())])
    ids = [int(decode(PROMPT).argmax())]
    began = time.perf_counter()
    for _ in range(TOKENS):
        ids.append(int(decode(ids[-1:]).argmax()))
    seconds = time.perf_counter() - began
    return {
        "speed": TOKENS / seconds,
        "bytes": weight_bytes,
        "ids": ids[:TOKENS],
        "logits": hashed.hexdigest(),
    }


def batch_rate(streams: int, start: Start, step: Step) -> float:
    """Tokens a second of all streams together, each choosing the most likely token."""
    logits = start([[10 + number, *PROMPT[1:]] for number in range(streams)])
    began = 0.0
    for number in range(BATCH_STEPS + 2):
        if number == 2:  # the first two warm up
            began = time.perf_counter()
        logits = step(logits.argmax(axis=1).tolist())
    return streams * BATCH_STEPS / (time.perf_counter() - began)


def prompt_seconds(decode: Decode, vocab_size: int) -> float:
    """Seconds to read a long prompt; the best of two, after one to warm up."""
    ids = np.random.default_rng(0).integers(0, vocab_size, PROMPT_TOKENS).tolist()
    decode(ids)
    return min(seconds(lambda: decode(ids)) for _ in range(2))


def seconds(run: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def median_seconds(run: Callable[[], object], times: int) -> float:
    """Median of so many calls, after one to warm up."""
    return statistics.median([seconds(run) for _ in range(times + 1)][1:])
