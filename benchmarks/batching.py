"""Many answers at a time: total tokens a second, continuous batches against static ones, and gaps.

    python benchmarks/batching.py [--rounds 5] [--shape "SmolLM2-135M"] [--quantize int8]

The shapes of benchmarks/decode.py with random weights; prompts of 8 tokens. Prints, as medians of
the rounds:

- total tokens a second of 1, 4, 8 and 16 answers through the scheduler, greedy and with the default
  sampling, and what a token costs beside `Engine.decode_batch`, in ms;
- 48 answers of 8 to 96 tokens through 16 rows: in batches that wait for their longest answer, and
  continuously, where the next answer takes the place of one that has ended;
- while one answer is generated, a prompt of 1,000 tokens comes: the longest pause of the first
  answer, and the time to the first token of the second, against its time alone.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from decode import SHAPES, random_weights

from minigpt_tf.config import SamplingConfig
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.inference.scheduling import Scheduler
from minigpt_tf.inference.weight_layout import lay_out_weights
from minigpt_tf.machine import processor_name
from minigpt_tf.text.tokenizers import train_tokenizer

STREAMS, TOKENS = (1, 4, 8, 16), 64
ROWS, ANSWERS = 16, 48
PROMPT = 1000
DATA = Path(__file__).parents[1] / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", choices=SHAPES, default="SmolLM2-135M")
    parser.add_argument("--quantize", choices=("none", "int8"), default="int8")
    arguments = parser.parse_args()
    config = SHAPES[arguments.shape]
    texts = [path.read_text(encoding="utf-8") for path in sorted(DATA.glob("*.txt"))]
    dtype = np.dtype("int8" if arguments.quantize == "int8" else "float32")
    weights = lay_out_weights(random_weights(config), config, "random", dtype)
    engine = TimedEngine(config, weights)
    generator = TextGenerator(engine, train_tokenizer("bpe", texts, 2000), [1])
    print(f"{processor_name()}; {arguments.shape}, {dtype}, medians of {arguments.rounds} rounds")
    settings = {"greedy": SamplingConfig(greedy=True), "default sampling": SamplingConfig(seed=1)}
    runs: dict[str, Callable[[], list[float]]] = {
        f"{streams:>2} answers, {name}": lambda s=streams, how=how: speed(generator, s, how)
        for name, how in settings.items()
        for streams in STREAMS
    }
    runs["static batches"] = lambda: unequal(generator, continuous=False)
    runs["continuous batches"] = lambda: unequal(generator, continuous=True)
    runs["a long prompt"] = lambda: interrupted(generator)
    results: dict[str, list[list[float]]] = {name: [] for name in runs}
    for number in range(arguments.rounds + 1):  # in turns; the first round warms up
        for name, run in runs.items():
            found = run()
            if number:
                results[name].append(found)
    for name, rounds in results.items():
        medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
        if name == "a long prompt":
            pause, alone, first, ratio = medians
            print(
                f"a prompt of {PROMPT} tokens beside an answer: its longest pause {pause:.2f} s; "
                f"first token after {first:.2f} s, alone {alone:.2f} s (ratio {ratio:.2f})"
            )
        else:
            rate, overhead = medians
            print(f"{name:<28}{rate:>8.1f} tokens/s, {overhead:.3f} ms a token beside the engine")
    pairs = zip(results["continuous batches"], results["static batches"], strict=True)
    ratio = statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)
    print(f"continuous against static: {ratio:.2f}")


class TimedEngine(Engine):
    """An engine that adds up the processor time that the caller's thread spends in it."""

    seconds = 0.0

    def decode_batch(self, *arguments, **named):
        return self._timed(super().decode_batch, *arguments, **named)

    def prefill_some(self, *arguments, **named):
        return self._timed(super().prefill_some, *arguments, **named)

    def _timed(self, run, *arguments, **named):
        began = time.thread_time()
        result = run(*arguments, **named)
        self.seconds += time.thread_time() - began
        return result


def finish(generator: TextGenerator, schedulers: list[Scheduler]) -> list[float]:
    """Runs the schedulers' requests, one scheduler after the other: tokens a second, and processor
    time in ms a token outside of the engine."""
    generator.engine.seconds, tokens = 0.0, 0
    began, began_working = time.perf_counter(), time.thread_time()
    for scheduler in schedulers:
        while scheduler.unfinished:
            for event in scheduler.step():
                if event.error is not None:
                    raise event.error
                if event.generation is not None:
                    tokens += len(event.generation.ids)
    seconds, worked = time.perf_counter() - began, time.thread_time() - began_working
    return [tokens / seconds, 1000 * (worked - generator.engine.seconds) / tokens]


def prompt(number: int) -> list[int]:
    return [10 + number, *range(100, 107)]


def of_length(sampling: SamplingConfig, tokens: int) -> SamplingConfig:
    """The model's end token is never chosen, so that lengths are as wished."""
    fields = {name: getattr(sampling, name) for name in ("greedy", "seed")}
    return SamplingConfig(**fields, max_new_tokens=tokens, logit_bias={0: -1000.0})


def speed(generator: TextGenerator, streams: int, sampling: SamplingConfig) -> list[float]:
    scheduler = generator.scheduler(streams)
    for number in range(streams):
        scheduler.submit(prompt(number), of_length(sampling, TOKENS))
    return finish(generator, [scheduler])


def unequal(generator: TextGenerator, continuous: bool) -> list[float]:
    lengths = [random.Random(0).choices((8, 16, 32, 96), k=ANSWERS)][0]
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
