"""The program of `minigpt export --format c`, beside the run.c of llama2.c on the same shape.

    git clone https://github.com/karpathy/llama2.c
    python -m benchmarks.c_export --llama2c llama2.c

Random weights of the shape of stories15M (6 layers of width 288, 32,000 tokens), so only speed is
compared: processor seconds of 200 tokens after a short prompt, one thread, both compiled with the
same flags, in alternating rounds. run.c is also compiled with -Ofast, its fastest.
"""

import argparse
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minigpt_tf.config import CONFIG_NAME, MODEL_NAME
from minigpt_tf.config.presets import model_preset
from minigpt_tf.inference.folder import describe_model, write_tokenizer
from minigpt_tf.inference.weights import weight_shapes
from minigpt_tf.interop.export import export_model
from minigpt_tf.machine import processor_name
from minigpt_tf.storage.json_files import write_json
from minigpt_tf.text.tokenizers import BytePairTokenizer

VOCABULARY, WIDTH, FEED, LAYERS, HEADS, CONTEXT = 32_000, 288, 768, 6, 6, 256
COUNT = 200
FLAGS = {"-O3": ["-O3"], "-O3 -march=native": ["-O3", "-march=native"]}


def numbers(*shape: int) -> np.ndarray:
    return (0.05 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def write_llama2c(file: Path) -> None:
    """A checkpoint of llama2.c's first version: sizes, then weights."""
    D, F, L = WIDTH, FEED, LAYERS
    angles = (CONTEXT, D // HEADS // 2)
    shapes = [(VOCABULARY, D), (L, D), *[(L, D, D)] * 4, (L, D), (L, F, D), (L, D, F), (L, F, D)]
    with open(file, "wb") as out:
        out.write(struct.pack("7i", D, F, L, HEADS, HEADS, VOCABULARY, CONTEXT))
        for shape in (*shapes, (D,), angles, angles):
            out.write(numbers(*shape).tobytes())


def write_ours(folder: Path) -> Path:
    """A model folder of the same shape, exported."""
    from minigpt_tf.model.keras_file import write_keras_file

    config = model_preset(
        "modern",
        vocab_size=VOCABULARY,
        context_length=CONTEXT,
        embed_dim=WIDTH,
        ff_dim=FEED,
        num_layers=LAYERS,
        num_heads=HEADS,
        num_kv_heads=HEADS,
        tie_embeddings=True,
    )
    tokenizer = BytePairTokenizer.train(["the cat sat on the mat"] * 5, 300)
    tokenizer.end_ids = frozenset()
    (folder / "model").mkdir()
    shapes = weight_shapes(config)
    write_keras_file(folder / "model" / MODEL_NAME, config, lambda name: numbers(*shapes[name]))
    write_json(folder / "model" / CONFIG_NAME, describe_model(config, tokenizer, [1]))
    write_tokenizer(folder / "model", tokenizer)
    return export_model(folder / "model", folder / "c", "c").path


def seconds_of(command: list[str]) -> float:
    """Processor seconds of a program, its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        sys.exit(f"{command[0]} ended with {done.returncode}: {done.stderr[-200:]!r}")
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--llama2c", type=Path, required=True, help="a clone of llama2.c")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(processor_name())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_llama2c(folder / "stories.bin")
        ours = write_ours(folder)
        runs: dict[str, Callable[[], float]] = {}
        for name, flags in {**FLAGS, "-Ofast -march=native": ["-Ofast", "-march=native"]}.items():
            for side, source in (
                ("run.c", arguments.llama2c / "run.c"),
                ("model.c", ours / "model.c"),
            ):
                if "-Ofast" in flags and side == "model.c":
                    continue
                program = folder / f"{side}{name.replace(' ', '')}"
                compiler = ["gcc", *flags, str(source), "-lm", "-o", str(program)]
                subprocess.run(compiler, check=True, capture_output=True)
                words = [str(ours / "model.bin"), "the cat", "-n", str(COUNT), "--ids"]
                if side == "run.c":
                    tokenizer = str(arguments.llama2c / "tokenizer.bin")
                    words = [str(folder / "stories.bin"), "-z", tokenizer, "-t", "0.9", "-s", "1"]
                    words += ["-n", str(COUNT), "-i", "the cat"]
                runs[f"{side} {name}"] = lambda command=[str(program), *words]: seconds_of(command)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(arguments.rounds):
            for name, run in runs.items():
                seconds[name].append(run())
    best = min(statistics.median(s) for name, s in seconds.items() if name.startswith("run.c"))
    for name, found in seconds.items():
        median = statistics.median(found)
        print(
            f"{name:<30} {COUNT / median:7.1f} tokens/s  {best / median:5.2f} of run.c at its best"
        )


if __name__ == "__main__":
    main()
