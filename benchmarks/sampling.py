"""Choosing one token: the sampler, against the same filters over the whole vocabulary in NumPy.

    python benchmarks/sampling.py

Logits as a language model has them: normally distributed, and 40 likely tokens. Both ways take
turns, on one thread; prints medians of the rounds, in milliseconds a token, with its log
probability. The whole vocabulary is what version 0.1 did: the functions of `inference.samplers` on
V logits in float64.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from minigpt_tf.config import SamplingConfig
from minigpt_tf.inference import filters, samplers
from minigpt_tf.machine import processor_name
from minigpt_tf.metrics import log_probability, softmax

SETTINGS: dict[str, dict] = {
    "default": {},
    "greedy": {"greedy": True},
    "top_k 40": {"top_k": 40},
    "min_p 0.05": {"min_p": 0.05},
    "repetition_penalty 1.1": {"repetition_penalty": 1.1},
    "presence, frequency 0.5": {"presence_penalty": 0.5, "frequency_penalty": 0.5},
    "no filter, temperature 1": {"top_p": 1.0, "temperature": 1.0},
    "temperature 1.5": {"temperature": 1.5},
}
SUPPRESSED = np.array([0, 1])
TOKENS_SO_FAR, OF_THE_PROMPT = 500, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=100, help="in each round")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    print(f"{'V':>6}  {'setting':<26}{'sampler':>9}{'whole V':>9}{'ratio':>8}   ms a token")
    for vocab_size in (49_152, 50_257):
        rows = random.standard_normal((8, vocab_size), dtype=np.float32) * np.float32(2.5)
        for row in rows:
            row[random.integers(0, vocab_size, 40)] += np.linspace(12, 4, 40, dtype=np.float32)
        ids = random.integers(0, vocab_size, TOKENS_SO_FAR).tolist()
        for name, settings in SETTINGS.items():
            config = SamplingConfig(seed=1, **settings)
            ways = [
                samplers.make_sampler(config, SUPPRESSED, prompt_tokens=OF_THE_PROMPT),
                whole_vocabulary(config),
            ]
            times: list[list[float]] = [[], []]
            for _ in range(arguments.rounds):
                for way, taken in zip(ways, times, strict=True):
                    taken.append(median_seconds(way, rows, ids, arguments.tokens))
            ours, theirs = (1000 * statistics.median(taken) for taken in times)
            print(f"{vocab_size:>6}  {name:<26}{ours:>9.3f}{theirs:>9.3f}{theirs / ours:>8.1f}")
    print(processor_name())


def whole_vocabulary(config: SamplingConfig) -> samplers.Sampler:
    """The filters one after the other on all logits."""
    random = np.random.default_rng(config.seed)

    def choose(raw: np.ndarray, ids: list[int]) -> tuple[int, float]:
        logits = raw.astype(np.float64)
        logits[SUPPRESSED] = -np.inf
        if config.repetition_penalty != 1:
            logits = filters.apply_repetition_penalty(logits, ids, config.repetition_penalty)
        if config.presence_penalty or config.frequency_penalty:
            logits = filters.apply_count_penalties(
                logits, ids[OF_THE_PROMPT:], config.presence_penalty, config.frequency_penalty
            )
        if config.greedy:
            drawn = int(logits.argmax())
            return drawn, log_probability(raw, drawn)
        logits = filters.apply_temperature(logits, config.temperature)
        if config.top_k:
            logits = filters.apply_top_k(logits, config.top_k)
        if config.top_p < 1:
            logits = filters.apply_top_p(logits, config.top_p)
        if config.min_p:
            logits = filters.apply_min_p(logits, config.min_p)
        reached = np.cumsum(softmax(logits))
        drawn = int(np.searchsorted(reached, random.random() * reached[-1], side="right"))
        return drawn, log_probability(raw, drawn)

    return choose


def median_seconds(
    way: Callable[[np.ndarray, list[int]], object], rows: np.ndarray, ids: list[int], tokens: int
) -> float:
    taken = []
    for token in range(tokens):
        logits = rows[token % len(rows)]
        began = time.perf_counter()
        way(logits, ids)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
