"""How fast a prompt is read: 1,000 tokens of the GPT-2 124M shape, against matrix products alone.

    python benchmarks/prefill.py [--rounds 7]

Prints the floating-point operations a second of `Engine.prefill` (two for each weight and token
but for the output head, which sees the last token only, and four for each pair of positions that
attention looks at), and of NumPy's product of two square float32 matrices, in turns, and the share;
then the time of short prompts, of which the first is one token.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from minigpt_tf.config import ModelConfig
from minigpt_tf.config.presets import model_preset
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.weight_layout import lay_out_weights
from minigpt_tf.inference.weights import weight_shapes
from minigpt_tf.machine import processor_name

TOKENS = 1000
SIDE = 3072


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    config = model_preset("gpt2")
    random = np.random.default_rng(0)
    weights = {
        name: random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        for name, shape in weight_shapes(config).items()
    }
    square = random.standard_normal((SIDE, SIDE), dtype=np.float32)
    print(processor_name())
    for quantize, stored in (("none", "float32"), ("int8", "int8")):
        engine = Engine(config, lay_out_weights(weights, config, "random", quantize))
        ids = random.integers(0, config.vocab_size, TOKENS)
        shares, rates = [], []
        for number in range(rounds + 1):
            peak = 2 * SIDE**3 / seconds(lambda: square @ square)
            rate = operations(config) / seconds(lambda: engine.prefill(ids))  # noqa: B023
            if number:
                shares.append(rate / peak)
                rates.append((rate / 1e9, peak / 1e9))
        ours, peak = (statistics.median(column) for column in zip(*rates, strict=True))
        print(f"{stored}: prefill of {TOKENS} tokens at {ours:.0f} GFLOPS, ", end="")
        print(f"matrix product {peak:.0f}: {statistics.median(shares):.2f} of it")
        print("  tokens        ms")
        for length in (1, 2, 4, 8, 9, 12, 16, 24, 32, 48):
            runs = [seconds(lambda: engine.prefill(ids[:length])) for _ in range(rounds + 2)]  # noqa: B023
            print(f"  {length:>6}{statistics.median(runs[2:]) * 1000:>10.1f}")


def operations(config: ModelConfig) -> float:
    block = config.parameter_count - config.vocab_size * config.embed_dim
    block -= config.context_length * config.embed_dim
    attention = 4 * config.num_layers * config.embed_dim * TOKENS * (TOKENS + 1) / 2
    return 2 * TOKENS * block + attention + 2 * config.vocab_size * config.embed_dim


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
