"""Memory: what loading a model takes, and whether 200 calls leave speed and memory as they were.

    python benchmarks/endurance.py

Loads a GPT-2 124M model folder (random weights, 498 MB) in a process of its own and prints the most
memory it had at any time, in float32 and as int8, beside the size of the weights. Then that process
generates 200 times. Its last 20 calls take turns with the first 20 of a fresh process, so that a
change of the machine's speed meets both alike; prints the median of the pairs' ratios.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minigpt_tf.config import EngineConfig, SamplingConfig

CALLS, EDGE, WARM = 200, 20, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--quantize", default="none", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        serve(arguments.folder, arguments.quantize)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "gpt2"
        subprocess.run([sys.executable, "-c", WRITE, str(folder)], check=True, capture_output=True)
        for quantize in ("none", "int8"):
            report(quantize, folder)


def report(quantize: str, folder: Path) -> None:
    if quantize == "int8":
        with Process(folder, quantize) as first:
            print(f"int8, first time: loaded in {first.loaded['seconds']:.2f} s, ", end="")
            print(f"most memory {first.loaded['most']:.0f} MB")
    with Process(folder, quantize) as aged, Process(folder, quantize) as fresh:
        name, loaded = "float32" if quantize == "none" else quantize, aged.loaded
        print(
            f"{name}: weights {loaded['weights']:.0f} MB, before them {loaded['imports']:.0f} MB, ",
            end="",
        )
        print(f"most while loading {loaded['most']:.0f} MB, loaded in {loaded['seconds']:.2f} s")
        aged.call(WARM)
        before = aged.call(1)["memory"]
        aged.call(CALLS - EDGE - WARM - 1)
        fresh.call(WARM)
        pairs = [(aged.call(1), fresh.call(1)) for _ in range(EDGE)]
        ratio = statistics.median(old["speed"] / new["speed"] for old, new in pairs)
        speed = statistics.median(old["speed"] for old, _ in pairs)
        print(
            f"  calls {CALLS - EDGE + 1} to {CALLS}: {speed:.1f} tokens/s, {ratio:.3f} of a fresh ",
            end="",
        )
        print(f"process's; memory {before:.1f} -> {pairs[-1][0]['memory']:.1f} MB")


class Process:
    """A process that has loaded the model and generates when it is told to."""

    def __init__(self, folder: Path, quantize: str) -> None:
        words = [sys.executable, __file__, "--folder", str(folder), "--quantize", quantize]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.loaded = json.loads(self._process.stdout.readline())

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def call(self, times: int) -> dict:
        """Generates some times; tokens a second of the last one, and memory after it."""
        print(times, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


WRITE = """
import sys, pathlib
from minigpt_tf.config.presets import model_preset
from minigpt_tf.model import build_gpt_model
from minigpt_tf.inference.folder import describe_model, write_tokenizer
from minigpt_tf.storage.json_files import write_json
from minigpt_tf.text.tokenizers import CharTokenizer
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
config = model_preset("gpt2")
build_gpt_model(config, seed=0).save(folder / "model.h5")
tokenizer = CharTokenizer("".join(map(chr, range(0x4E00, 0x9E00))))
write_tokenizer(folder, tokenizer)
write_json(folder / "config.json", describe_model(config, tokenizer, [5]))
"""


def serve(folder: str, quantize: str) -> None:
    """Loads, then generates as often as each line of standard input says."""
    from minigpt_tf.inference.generate import TextGenerator

    imports, began = memory(), time.perf_counter()
    generator = TextGenerator.load(folder, EngineConfig(quantize=quantize))
    loaded = {
        "weights": generator.engine.weights.nbytes / 1e6,
        "imports": imports,
        "most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "seconds": time.perf_counter() - began,
    }
    print(json.dumps(loaded), flush=True)
    prompt = generator.tokenizer.decode(range(100, 108))
    for line in sys.stdin:
        for _ in range(int(line)):
            generation = generator.generate(prompt, SamplingConfig(max_new_tokens=16, seed=1))
        print(json.dumps({"speed": generation.tokens_per_second, "memory": memory()}), flush=True)


def memory() -> float:
    """Resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
