"""Many answers at a time: total tokens a second, continuous batches against static ones, and gaps.

    python benchmarks/batching.py [--rounds 5] [--shape "SmolLM2-135M"] [--quantize int8]

The shapes of benchmarks/shapes.py with random weights; prompts of 8 tokens. Prints, as medians of
the rounds:

- total tokens a second of 1, 4, 8 and 16 answers through the scheduler, greedy and sampled, and the
  processor time outside of the engine, in ms a token;
- 48 answers of 8 to 96 tokens through 16 rows: in batches that wait for their longest answer, and
  continuously, where the next answer takes the place of one that has ended; and the passes over
  the weights;
- while one answer is generated, a prompt of 1,000 tokens comes: the longest pause of the first
  answer, and the time to the first token of the second, against its time alone.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from shapes import SHAPES, random_weights

from minigpt_tf.config import SamplingConfig
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.inference.scheduling import Scheduler
from minigpt_tf.inference.weight_layout import lay_out_weights
from minigpt_tf.machine import processor_name
from minigpt_tf.text.tokenizers import BaseTokenizer, train_tokenizer

STREAMS, TOKENS = (1, 4, 8, 16), 64
ROWS, ANSWERS = 16, 48
PROMPT = 1000
SETTINGS = {"greedy": SamplingConfig(greedy=True), "top_k 40": SamplingConfig(top_k=40, seed=1)}
DATA = Path(__file__).parents[1] / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", choices=SHAPES, default="SmolLM2-135M")
    parser.add_argument("--quantize", choices=("none", "int8"), default="int8")
    arguments = parser.parse_args()
    generator = make_generator(arguments.shape, arguments.quantize)
    print(f"{processor_name()}; {arguments.shape}, quantize {arguments.quantize}")
    runs: dict[str, Callable[[], list[float]]] = {}
    for name, sampling in SETTINGS.items():
        for streams in STREAMS:
            runs[f"{streams:>2} answers, {name}"] = partial(speed, generator, streams, sampling)
    runs["static batches"] = partial(unequal, generator, continuous=False)
    runs["continuous batches"] = partial(unequal, generator, continuous=True)
    results: dict[str, list[list[float]]] = {name: [] for name in [*runs, "prompt"]}
    for number in range(arguments.rounds + 1):  # in turns; the first round warms up
        for name, run in {**runs, "prompt": partial(interrupted, generator)}.items():
            found = run()
            if number:
                results[name].append(found)
    show(results, arguments.rounds)


def show(results: dict[str, list[list[float]]], rounds: int) -> None:
    print(f"{f'medians of {rounds} rounds':<30}tokens/s   ms outside   passes")
    for name in [name for name in results if name != "prompt"]:
        rate, overhead, passes = map(statistics.median, zip(*results[name], strict=True))
        print(f"{name:<30}{rate:>8.1f}{overhead:>13.3f}{passes:>9.0f}")
    pairs = zip(results["continuous batches"], results["static batches"], strict=True)
    ratio = statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)
    print(f"continuous against static: {ratio:.2f}")
    pause, alone, first, ratio = map(statistics.median, zip(*results["prompt"], strict=True))
    print(
        f"a prompt of {PROMPT} tokens beside an answer: its longest pause {pause:.2f} s; "
        f"first token after {first:.2f} s, alone {alone:.2f} s (ratio {ratio:.2f})"
    )


def make_generator(shape: str, quantize: str) -> TextGenerator:
    config = SHAPES[shape]
    texts = [path.read_text(encoding="utf-8") for path in sorted(DATA.glob("*.txt"))]
    engine = TimedEngine(
        config, lay_out_weights(random_weights(config), config, "random", quantize)
    )
    return TextGenerator(engine, WholeVocabulary(train_tokenizer("bpe", texts, 2000)), [1])


class WholeVocabulary:
    """A tokenizer that has a text for every id of the model: those of random weights are any."""

    end_ids: frozenset[int] = frozenset()

    def __init__(self, tokenizer: BaseTokenizer) -> None:
        self.tokenizer = tokenizer

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode([1 + i % (self.tokenizer.vocab_size - 1) for i in ids])

    def suppressed_ids(self, vocab_size: int) -> np.ndarray:
        return np.zeros(0, dtype=np.int64)


class TimedEngine(Engine):
    """An engine that adds up the processor time that the caller's thread spends in it, and counts
    the passes over the weights in which answers get their tokens."""

    seconds, passes = 0.0, 0

    def decode_batch(self, *arguments, **named):
        self.passes += 1
        return self._timed(super().decode_batch, *arguments, **named)

    def prefill_some(self, *arguments, **named):
        return self._timed(super().prefill_some, *arguments, **named)

    def _timed(self, run, *arguments, **named):
        began = time.thread_time()
        result = run(*arguments, **named)
        self.seconds += time.thread_time() - began
        return result


def finish(generator: TextGenerator, schedulers: list[Scheduler]) -> list[float]:
    """Runs the schedulers' requests, one scheduler after the other: tokens a second, processor
    time in ms a token outside of the engine, and passes."""
    engine, tokens = generator.engine, 0
    engine.seconds, engine.passes = 0.0, 0
    began, began_working = time.perf_counter(), time.thread_time()
    for scheduler in schedulers:
        while scheduler.unfinished:
            for event in scheduler.step():
                if event.error is not None:
                    raise event.error
                if event.generation is not None:
                    tokens += len(event.generation.ids)
    seconds, worked = time.perf_counter() - began, time.thread_time() - began_working
    return [tokens / seconds, 1000 * (worked - engine.seconds) / tokens, engine.passes]


def prompt(number: int) -> list[int]:
    return [10 + number, *range(100, 107)]


def of_length(sampling: SamplingConfig, tokens: int) -> SamplingConfig:
    return replace(sampling, max_new_tokens=tokens)


def speed(generator: TextGenerator, streams: int, sampling: SamplingConfig) -> list[float]:
    scheduler = generator.scheduler(streams)
    for number in range(streams):
        scheduler.submit(prompt(number), of_length(sampling, TOKENS))
    return finish(generator, [scheduler])


def unequal(generator: TextGenerator, continuous: bool) -> list[float]:
    lengths = random.Random(0).choices((8, 16, 32, 96), k=ANSWERS)
    size = ANSWERS if continuous else ROWS
    schedulers = []
    for first in range(0, ANSWERS, size):
        schedulers.append(generator.scheduler(ROWS))
        for number in range(first, first + size):
            sampling = of_length(SamplingConfig(greedy=True), lengths[number])
            schedulers[-1].submit(prompt(number), sampling)
    return finish(generator, schedulers)


def interrupted(generator: TextGenerator) -> list[float]:
    """Longest pause of an answer, seconds to the first token of a long prompt alone and beside that
    answer, and their ratio."""
    greedy = of_length(SamplingConfig(greedy=True), 400)
    ids = [10 + number % 1000 for number in range(PROMPT)]
    alone = generator.scheduler(1)
    request, began = alone.submit(ids, greedy), time.perf_counter()
    while not request.answer.new_ids:
        alone.step()
    seconds_alone = time.perf_counter() - began
    scheduler = generator.scheduler(2)
    running = scheduler.submit(prompt(0), greedy)
    while len(running.answer.new_ids) < 10:
        scheduler.step()
    late, began, pause = scheduler.submit(ids, greedy), time.perf_counter(), 0.0
    while not late.answer.new_ids:
        before = time.perf_counter()
        scheduler.step()
        pause = max(pause, time.perf_counter() - before)
    seconds = time.perf_counter() - began
    return [pause, seconds_alone, seconds, seconds / seconds_alone]


if __name__ == "__main__":
    main()
