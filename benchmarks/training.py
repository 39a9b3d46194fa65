"""Tokens a second in training, beside PyTorch on the same shapes, in one run.

    pip install -r benchmarks/requirements.txt
    git clone https://github.com/karpathy/nanoGPT
    python benchmarks/training.py --nanogpt nanoGPT [--rounds 5] [--size lecture]

Three sizes, without dropout and with it. Without --nanogpt the peer is the GPT-2 of transformers.
Every peer trains in a process of its own that is started once and then takes a few steps whenever
it is its turn, so that a change of the machine's speed meets all alike; --peer-python is the Python
that has PyTorch, where ours does not. Prints medians, the ratio to the faster of the peers (median
of the rounds' ratios), and the fraction of the machine's own bfloat16 matrix-product rate, measured
in the same rounds: 6 floating-point operations for each weight of a matrix and token, and those of
attention, over the time of a step. A peer that is missing or dies has dashes and its reason.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from results import middle, ratio, shown
from turns import Turns, serve_turns

from minigpt_tf.config import ModelConfig, TrainingConfig
from minigpt_tf.config.presets import model_preset, training_preset
from minigpt_tf.machine import processor, usable_cores

SIZES = {  # the lecture's heads are 32 wide here, as the peers' are
    "lecture": model_preset("lecture", head_dim=32, dropout_everywhere=True),
    "gpt2": model_preset("gpt2", context_length=256),
    "shakespeare": model_preset("shakespeare"),
}
STEPS = {"lecture": 6, "gpt2": 2, "shakespeare": 40}
"""Steps in a turn."""
DROPOUTS = (0.0, 0.1)
OURS = ("ours mixed_bfloat16", "ours float32")
PEERS = ("PyTorch bfloat16", "PyTorch float32")
PRODUCTS = "products"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", choices=SIZES, help="only this size")
    parser.add_argument("--dropout", type=float, help="only this dropout")
    parser.add_argument("--nanogpt", type=Path, help="a nanoGPT checkout, instead of transformers")
    parser.add_argument("--peer-python", default=sys.executable, help="the Python with PyTorch")
    parser.add_argument("--trainer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trainer:
        model = replace(SIZES[arguments.size], dropout=arguments.dropout)
        serve(arguments.trainer, arguments.size, model, arguments.nanogpt)
        return
    name, features = processor()
    print(f"{name}, {usable_cores()} cores, {' '.join(features)}", flush=True)
    for size in [arguments.size] if arguments.size else SIZES:
        for dropout in DROPOUTS if arguments.dropout is None else [arguments.dropout]:
            compare(size, dropout, arguments)


def compare(size: str, dropout: float, arguments: argparse.Namespace) -> None:
    """Measures and prints one size."""
    words = [__file__, "--size", size, "--dropout", str(dropout)]
    words += ["--nanogpt", str(arguments.nanogpt)] if arguments.nanogpt else []
    trainers = {}
    for name in (*OURS, *PEERS, PRODUCTS):
        python = arguments.peer_python if name in PEERS else sys.executable
        trainers[name] = Turns([python, *words, "--trainer", name])
    for trainer in trainers.values():
        trainer.turn()  # compiles
    measured: dict[str, list[float | None]] = {name: [] for name in trainers}
    for _ in range(arguments.rounds):
        for name, trainer in trainers.items():
            measured[name].append(trainer.turn())
    for trainer in trainers.values():
        trainer.close()
    model, batch = SIZES[size], training_preset(size).batch_size
    print(f"\n{size}, dropout {dropout}: {model.parameter_count:,} parameters, ", end="")
    print(f"{batch} windows of {model.context_length}, medians of {arguments.rounds} rounds")
    print_speeds(measured, batch * model.context_length, operations(model))
    for name, trainer in trainers.items():
        if trainer.failed:
            print(f"{name} failed: {trainer.failed}")
    sys.stdout.flush()


def print_speeds(measured: dict[str, list[float | None]], tokens: int, operations: int) -> None:
    """A table of the seconds that steps of so many tokens took, of so many operations a token."""
    print(f"{'':<22}{'tokens/s':>9}{'min':>8}{'max':>8}{'ratio':>8}{'products':>10}")
    rounds = zip(*(measured[peer] for peer in PEERS), strict=True)
    rival = [min((s for s in pair if s is not None), default=None) for pair in rounds]
    rates = measured[PRODUCTS]
    ideal = [None if rate is None else operations * tokens / rate for rate in rates]
    for name in (*OURS, *PEERS):
        speeds = [tokens / s for s in measured[name] if s is not None]
        row = shown(middle(speeds), 9, 0) + shown(min(speeds, default=None), 8, 0)
        row += shown(max(speeds, default=None), 8, 0) + shown(ratio(rival, measured[name]), 8)
        print(f"{name:<22}{row}{shown(ratio(ideal, measured[name]), 10)}")
    rate = middle(rates)
    if rate is not None:
        print(f"bfloat16 matrix products of 2048 x 2048: {rate / 1e9:.0f} GFLOPS")


def operations(model: ModelConfig) -> int:
    """Floating-point operations for a token of training: products with weights, and attention."""
    weights = model.num_layers * 2 * model.embed_dim * (2 * model.embed_dim + model.ff_dim)
    weights += model.vocab_size * model.embed_dim
    attention = 12 * model.num_layers * model.embed_dim * model.context_length
    return 6 * weights + attention


def serve(name: str, size: str, model: ModelConfig, nanogpt: Path | None) -> None:
    """In a process of its own: for each turn, the median seconds of a few steps."""
    training = training_preset(size)
    ids = np.random.default_rng(0).integers(
        0, model.vocab_size, (training.batch_size, model.context_length + 1), dtype=np.int32
    )
    x, y, dtype = ids[:, :-1], ids[:, 1:], name.split()[-1]

    def prepare() -> Callable[[], float]:
        if name == PRODUCTS:
            return products()
        if name in OURS:
            return timed(ours(dtype, model, training, x, y), STEPS[size])
        return timed(torch_step(dtype, model, training, x, y, nanogpt), STEPS[size])

    serve_turns(prepare)


def timed(work: Callable[[], object], steps: int) -> Callable[[], float]:
    """A function that gives the median seconds of so many calls."""

    def seconds() -> float:
        times = []
        for _ in range(steps):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    return seconds


def ours(
    dtype: str, model: ModelConfig, training: TrainingConfig, x: np.ndarray, y: np.ndarray
) -> Callable[[], object]:
    from minigpt_tf.training.optimizers import build_optimizer
    from minigpt_tf.training.step import LanguageModel, TrainingStep

    trainable = LanguageModel(model, training, dtype)
    optimizer = build_optimizer(training, 1000)
    optimizer.build(trainable.variables)
    step = TrainingStep(trainable, optimizer, clip_norm=training.clip_norm)
    return lambda: step(x, y, step=1)


def torch_step(
    dtype: str,
    model: ModelConfig,
    training: TrainingConfig,
    x: np.ndarray,
    y: np.ndarray,
    nanogpt: Path | None,
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
