"""Memory: what loading a model takes, and whether 200 calls leave speed and memory as they were.

    python benchmarks/endurance.py

Loads a GPT-2 124M model folder (random weights, 498 MB) in a process of its own and prints the most
memory it had at any time, in float32 and as int8, beside the size of the weights. Then generates
200 times in one process and compares the last 20 calls with the first 20, also in proportion to how
fast the memory was at the time: after each call all weights are read once by NumPy.
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

CALLS, EDGE = 200, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--quantize", default="none", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        print(json.dumps(measure(arguments.folder, arguments.quantize)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "gpt2"
        subprocess.run([sys.executable, "-c", WRITE, str(folder)], check=True, capture_output=True)
        for quantize in ("none", "int8", "int8"):
            words = [sys.executable, __file__, "--folder", str(folder), "--quantize", quantize]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            report(quantize, json.loads(done.stdout.splitlines()[-1]))


def report(quantize: str, found: dict) -> None:
    name = "float32" if quantize == "none" else quantize + ("" if found["kept"] else ", first time")
    print(
        f"{name}: weights {found['weights']:.0f} MB, imports {found['imports']:.0f} MB, most ",
        end="",
    )
    print(f"while loading {found['loading']:.0f} MB, loaded in {found['seconds']:.2f} s")
    first, last, drift = found["first"], found["last"], found["drift"]
    print(
        f"  {CALLS} calls: {first:.1f} tokens/s in the first {EDGE}, {last:.1f} in the last ",
        end="",
    )
    print(f"{EDGE} ({last / first:.3f}; of the memory's speed at the time, {drift:.3f}); ", end="")
    print(f"memory {found['before']:.1f} -> {found['after']:.1f} MB")


WRITE = """
import sys, pathlib
from minigpt_tf.config import model_preset
from minigpt_tf.model import build_gpt_model
from minigpt_tf.modelfolder import describe_model, write_json, write_tokenizer
from minigpt_tf.text.tokenizers import CharTokenizer
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
config = model_preset("gpt2")
build_gpt_model(config, seed=0).save(folder / "model.h5")
tokenizer = CharTokenizer("".join(map(chr, range(0x4E00, 0x9E00))))
write_tokenizer(folder, tokenizer)
write_json(folder / "config.json", describe_model(config, tokenizer, [5]))
"""


def measure(folder: str, quantize: str) -> dict:
    from minigpt_tf.inference.generate import TextGenerator

    kept = Path(folder, "model.int8.h5").is_file()
    imports = memory()
    began = time.perf_counter()
    generator = TextGenerator.load(folder, EngineConfig(quantize=quantize))
    seconds = time.perf_counter() - began
    loading = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    sampling = SamplingConfig(max_new_tokens=16, seed=1)
    prompt = generator.tokenizer.decode(range(100, 108))
    for _ in range(3):
        generator.generate(prompt, sampling)
    before, speeds, reads = memory(), [], []
    for _ in range(CALLS):
        speeds.append(generator.generate(prompt, sampling).tokens_per_second)
        began = time.perf_counter()
        generator.engine.weights.matrices.max()
        reads.append(time.perf_counter() - began)
    steady = [speed * read for speed, read in zip(speeds, reads, strict=True)]
    return {
        "kept": kept,
        "weights": generator.engine.weights.nbytes / 1e6,
        "imports": imports,
        "loading": loading,
        "seconds": seconds,
        "first": statistics.median(speeds[:EDGE]),
        "last": statistics.median(speeds[-EDGE:]),
        "drift": statistics.median(steady[-EDGE:]) / statistics.median(steady[:EDGE]),
        "before": before,
        "after": memory(),
    }


def memory() -> float:
    """Resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
