"""Whole processes from start to end, against `import tensorflow` in the same run.

    python benchmarks/startup.py --model models/ramanujan
    python benchmarks/startup.py --model models/ramanujan --before ../earlier-clone

The processes take turns, so that a change of the machine's speed meets all alike. Prints medians
and their ratio to TensorFlow's import. "First run" finds none of the engine's machine code. With
--before, each process takes turns with that of another clone; the ratio is of now to before.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minigpt_tf.machine import processor_name

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="models/ramanujan", help="a model folder")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--before", type=Path, help="a clone of an earlier commit")
    arguments = parser.parse_args()
    model = str(Path(arguments.model).resolve())
    ask = ["generate.py", "who is Srinivasa Ramanujan", "--model", model]
    commands = {
        "import tensorflow": ["-c", "import tensorflow"],
        "import minigpt_tf": ["-c", "import minigpt_tf"],
        "minigpt --help": ["-m", "minigpt_tf", "--help"],
        "generate.py --help": ["generate.py", "--help"],
        "train.py --help": ["train.py", "--help"],
        "generate.py, 1 token": [*ask, "--max-new-tokens", "1"],
        "generate.py, 50 tokens": [*ask, "--max-new-tokens", "50"],
        "the same, first run": [*ask, "--max-new-tokens", "50"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    before: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(arguments.runs + 1):
        for name, words in commands.items():
            first_run = "first run" in name
            earlier = measure(words, first_run, arguments.before) if arguments.before else 0.0
            seconds = measure(words, first_run, ROOT)
            if run:  # the first round warms the disk's cache
                times[name].append(seconds)
                before[name].append(earlier)
    reference = statistics.median(times["import tensorflow"])
    print(f"{'process':<24}{'median s':>10}{'min':>8}{'max':>8}{'ratio':>8}", end="")
    print("  of before" if arguments.before else "", f"  ({arguments.runs} runs)")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        extremes = f"{min(seconds):>8.3f}{max(seconds):>8.3f}"
        print(f"{name:<24}{median:>10.3f}{extremes}{median / reference:>8.3f}", end="")
        if arguments.before:
            pairs = zip(seconds, before[name], strict=True)
            print(f"{statistics.median(now / earlier for now, earlier in pairs):>10.2f}", end="")
        print()
    print(processor_name())


def measure(words: list[str], first_run: bool, clone: Path) -> float:
    """Seconds from the start of `python WORDS` in a clone to its end."""
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "NUMBA_CACHE_DIR": empty} if first_run else {**os.environ}
        # Bytecode is kept, as it is of an installed package.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, *words], cwd=clone, check=True, capture_output=True, env=environment
        )
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
