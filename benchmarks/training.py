"""Tokens a second in training, beside PyTorch on the same shapes, in one run.

    pip install -r benchmarks/requirements.txt
    python benchmarks/training.py [--rounds 5] [--size lecture] [--nanogpt PATH]

Three sizes, with the dropout of their presets and with none. Every peer trains in a process of its
own that is started once and then takes a few steps whenever it is its turn, so that a change of the
machine's speed meets all alike. Prints medians, the ratio to the faster of the peers (median of the
rounds' ratios), and the share of the machine's own bfloat16 matrix-product rate, measured in the
same rounds: 6 floating-point operations for each weight of a matrix and token, and those of
attention, over the time of a step.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from minigpt_tf.config import ModelConfig, TrainingConfig
from minigpt_tf.config.presets import model_preset, training_preset

SIZES = {  # the lecture's heads are 32 wide here, as the peers' are
    "lecture": model_preset("lecture", head_dim=32),
    "gpt2": model_preset("gpt2", context_length=256),
    "shakespeare": model_preset("shakespeare"),
}
STEPS = {"lecture": 6, "gpt2": 2, "shakespeare": 40}
"""Steps in a turn."""
OURS = ("ours mixed_bfloat16", "ours float32")
PEERS = ("PyTorch bfloat16", "PyTorch float32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", choices=SIZES, help="only this size")
    parser.add_argument("--dropout", type=float, help="only this dropout")
    parser.add_argument("--nanogpt", type=Path, help="a nanoGPT checkout, instead of transformers")
    parser.add_argument("--trainer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trainer:
        model = replace(SIZES[arguments.size], dropout=arguments.dropout)
        serve(arguments.trainer, arguments.size, model, arguments.nanogpt)
        return
    for size in [arguments.size] if arguments.size else SIZES:
        chosen = arguments.dropout
        for dropout in sorted({SIZES[size].dropout, 0.0}) if chosen is None else [chosen]:
            compare(size, dropout, arguments.rounds, arguments.nanogpt)


def compare(size: str, dropout: float, rounds: int, nanogpt: Path | None) -> None:
    """Measures and prints one size."""
    words = [sys.executable, __file__, "--size", size, "--dropout", str(dropout)]
    words += ["--nanogpt", str(nanogpt)] if nanogpt else []
    names = (*OURS, *PEERS, "products")
    trainers = {name: Turns([*words, "--trainer", name]) for name in names}
    for trainer in trainers.values():
        trainer.turn()  # compiles
    seconds = {name: [] for name in names}
    for _ in range(rounds):
        for name, trainer in trainers.items():
            seconds[name].append(trainer.turn())
    for trainer in trainers.values():
        trainer.close()
    model, batch = SIZES[size], training_preset(size).batch_size
    tokens = batch * model.context_length
    print(f"\n{size}, dropout {dropout}: {model.parameter_count:,} parameters, ", end="")
    print(f"{batch} windows of {model.context_length}, medians of {rounds} rounds")
    print(f"{'':<22}{'tokens/s':>9}{'min':>8}{'max':>8}{'ratio':>8}{'products':>10}")
    rival = [min(pair) for pair in zip(*(seconds[peer] for peer in PEERS), strict=True)]
    for name in (*OURS, *PEERS):
        speeds = [tokens / s for s in seconds[name]]
        ratio = statistics.median(r / s for r, s in zip(rival, seconds[name], strict=True))
        share = statistics.median(
            operations(model) * tokens / s / rate
            for s, rate in zip(seconds[name], seconds["products"], strict=True)
        )
        row = f"{name:<22}{statistics.median(speeds):>9,.0f}{min(speeds):>8,.0f}"
        print(f"{row}{max(speeds):>8,.0f}{ratio:>8.2f}{share:>10.2f}")
    rate = statistics.median(seconds["products"])
    print(f"bfloat16 matrix products of 2048 x 2048: {rate / 1e9:.0f} GFLOPS", flush=True)


def operations(model: ModelConfig) -> int:
    """Floating-point operations for a token of training: products with weights, and attention."""
    weights = model.num_layers * 2 * model.embed_dim * (2 * model.embed_dim + model.ff_dim)
    weights += model.vocab_size * model.embed_dim
    attention = 12 * model.num_layers * model.embed_dim * model.context_length
    return 6 * weights + attention


class Turns:
    """A process that works when it is told to and then prints what it measured."""

    def __init__(self, command: list[str]) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, **pipes)

    def turn(self) -> float:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve(name: str, size: str, model: ModelConfig, nanogpt: Path | None) -> None:
    """In a process of its own: for each line of input, the median seconds of a few steps."""
    training = training_preset(size)
    ids = np.random.default_rng(0).integers(
        0, model.vocab_size, (training.batch_size, model.context_length + 1), dtype=np.int32
    )
    if name == "products":
        work, steps = products(), 1
    else:
        make, steps = (ours if name in OURS else torch_step), STEPS[size]
        work = make(name.split()[1], model, training, ids[:, :-1], ids[:, 1:], nanogpt)
    for _ in sys.stdin:
        times = []
        for _ in range(steps):
            began = time.perf_counter()
            result = work()
            times.append(time.perf_counter() - began)
        print(json.dumps(result if name == "products" else statistics.median(times)), flush=True)


def ours(
    dtype: str, model: ModelConfig, training: TrainingConfig, x, y, nanogpt: Path | None
) -> Callable[[], object]:
    from minigpt_tf.training.optimizers import build_optimizer
    from minigpt_tf.training.step import LanguageModel, TrainingStep

    trainable = LanguageModel(model, training, dtype)
    optimizer = build_optimizer(training, 1000)
    optimizer.build(trainable.variables)
    step = TrainingStep(trainable, optimizer, clip_norm=training.clip_norm)
    return lambda: step(x, y, step=1)


def torch_step(
    dtype: str, model: ModelConfig, training: TrainingConfig, x, y, nanogpt: Path | None
) -> Callable[[], object]:
    import torch_gpt

    torch_model = torch_gpt.build(model, nanogpt)
    optimizer = torch_gpt.adamw(torch_model.train(), training.learning_rate)
    return lambda: torch_gpt.train_step(torch_model, optimizer, x, y, dtype)


def products() -> Callable[[], float]:
    """Floating-point operations a second of bfloat16 matrix products, the best of ten."""
    import tensorflow as tf

    size = 2048
    matrix = tf.cast(tf.random.stateless_normal((size, size), seed=(0, 0)), tf.bfloat16)

    def rate() -> float:
        times = []
        for _ in range(10):
            began = time.perf_counter()
            tf.matmul(matrix, matrix).numpy()
            times.append(time.perf_counter() - began)
        return 2 * size**3 / min(times)

    return rate


if __name__ == "__main__":
    main()
