"""What `minigpt plan` predicts, against what 24 runs take: peak memory (ru_maxrss) and whole time.

    python benchmarks/planning.py                       all, in half an hour on two quiet cores
    python benchmarks/planning.py --only gpt2 lora      runs whose names contain one of the words
    python benchmarks/planning.py --probe               what the machine is measured to do

Four shapes, each trained from scratch and then tuned by five methods, with rows of 64 to 1,024
tokens, in float32 and bfloat16. A run is a command in a process of its own, on made-up words. Two
predictions are made before each: one that knows nothing of earlier runs, and one that has learned
from those before it. Of the latter the first three do not count.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
TAUGHT_AFTER = 3
"""Own runs from which the plan has learned."""

GOALS = {"memory": (0.07, 0.15), "seconds": (0.12, 0.25)}
"""Median and worst error."""


class Shape(NamedTuple):
    """A model, and the text that has its words."""

    options: list[str]
    words: int


def sizes(preset: str, words: int, **options: int) -> Shape:
    named = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    named = [text.replace("_", "-") for text in named]
    vocabulary = ["--tokenizer", "word", "--vocab-size", str(words + 2)]
    return Shape(["--preset", preset, *vocabulary, *named], words)


SHAPES = {
    "lecture": sizes("lecture", 4998),
    "modern": sizes("modern", 8190, embed_dim=512, num_layers=8, num_heads=8, ff_dim=1408),
    "gpt2": sizes("gpt2", 50_255),
    "smollm2": sizes(
        *("modern", 49_150),
        embed_dim=576,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        ff_dim=1536,
    ),
}
"""The course's model, a modern one of 28 M parameters, GPT-2 124M, SmolLM2-135M."""


class Run(NamedTuple):
    """A run of the table."""

    shape: str
    method: str
    rows: int
    batch: int
    dtype: str
    steps: int
    more: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.shape} {self.method} {self.batch} x {self.rows} {self.dtype[-8:]}"


F32, BF16 = "float32", "mixed_bfloat16"
RUNS = [
    Run("lecture", "scratch", 256, 24, BF16, 24),
    Run("lecture", "full", 128, 16, F32, 30),
    Run("lecture", "lora", 64, 32, F32, 30),
    Run("lecture", "qlora", 256, 8, BF16, 30),
    Run("lecture", "dpo", 64, 16, BF16, 30),
    Run("lecture", "classify", 256, 16, F32, 40),
    Run("modern", "scratch", 1024, 3, F32, 12),
    Run("modern", "full", 512, 6, BF16, 16),
    Run("modern", "lora", 256, 12, F32, 16),
    Run("modern", "qlora", 1024, 4, BF16, 12),
    Run("modern", "dpo", 512, 2, F32, 16),
    Run("modern", "classify", 64, 32, BF16, 30, ("--classify-layers", "all")),
    Run("gpt2", "scratch", 512, 3, BF16, 8),
    Run("gpt2", "full", 64, 8, F32, 10),
    Run("gpt2", "lora", 128, 12, BF16, 12),
    Run("gpt2", "qlora", 512, 2, F32, 8),
    Run("gpt2", "dpo", 256, 2, BF16, 10),
    Run("gpt2", "classify", 128, 8, F32, 20),
    Run("smollm2", "scratch", 1024, 1, F32, 6),
    Run("smollm2", "full", 128, 6, BF16, 10),
    Run("smollm2", "lora", 512, 2, F32, 8),
    Run("smollm2", "qlora", 128, 8, F32, 8),
    Run("smollm2", "dpo", 64, 4, F32, 12),
    Run("smollm2", "classify", 256, 4, BF16, 12, ("--classify-layers", "lora")),
]

HELD_OUT = [
    Run("lecture", "full", 512, 6, BF16, 20),
    Run("modern", "scratch", 256, 8, F32, 12),
    Run("modern", "lora", 128, 16, BF16, 20),
    Run("gpt2", "full", 256, 2, BF16, 10),
    Run("gpt2", "qlora", 64, 12, F32, 10),
    Run("smollm2", "lora", 64, 8, BF16, 12),
]
"""Runs to which nothing was fitted."""


# ---------------------------------------------------------------- made-up data


def made_up(words: int, count: int, rng: random.Random) -> str:
    """Some words, few of them often."""
    return " ".join(f"w{min(words, int(rng.paretovariate(0.7))) - 1}" for _ in range(count))


def write_text(file: Path, words: int) -> None:
    """A text that has each word at least once."""
    rng = random.Random(0)
    every = [f"w{i}" for i in range(words)]
    rng.shuffle(every)
    rest = [made_up(words, 50, rng) for _ in range(1000)]
    lines = [" ".join(every[i : i + 50]) for i in range(0, words, 50)] + rest
    rng.shuffle(lines)
    file.write_text("\n".join(lines), encoding="utf-8")


def write_records(file: Path, run: Run, words: int) -> None:
    """Records whose rows have nearly as many tokens as the table says: half a prompt, half an
    answer. The template around them takes 40 or so."""
    rng = random.Random(1)
    count = 10 * max(4, run.batch)

    def text(part: float) -> str:
        return made_up(words, max(4, int(part * (run.rows - 44))), rng)

    records: list[dict[str, str]] = []
    for i in range(count):
        if run.method == "dpo":
            row = {"prompt": text(0.5), "chosen": text(0.5), "rejected": text(0.5)}
        elif run.method == "classify":
            row = {"text": made_up(words, run.rows - 4, rng), "label": f"label {i % 3}"}
        else:
            row = {"instruction": text(0.5), "output": text(0.5)}
        records.append(row)
    file.write_text(json.dumps(records), encoding="utf-8")


# ---------------------------------------------------------------- runs


def command_of(run: Run, scratch: Path) -> list[str]:
    """The words behind `minigpt`."""
    shape = SHAPES[run.shape]
    common = ["--batch-size", run.batch, "--steps", run.steps, "--dtype", run.dtype, *run.more]
    if run.method == "scratch":
        text = scratch / f"{shape.words}.txt"
        if not text.exists():
            write_text(text, shape.words)
        out = ["--out", scratch / run.shape, "--eval-fraction", 0.2, "--overwrite"]
        words = ["train", "--data", text, *shape.options, "--context-length", run.rows, *common]
        return [*map(str, [*words, *out])]
    records = scratch / f"{run.shape}-{run.method}.json"
    write_records(records, run, shape.words)
    out = ["--out", scratch / "tuned", "--overwrite"]
    words = ["finetune", "--base", scratch / run.shape, "--data", records, "--method", run.method]
    return [*map(str, [*words, *common, *out])]


def minigpt(words: list[str], cache: Path) -> tuple[str, float, float]:
    """What a command prints, its seconds and its peak in bytes."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "minigpt_tf", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"minigpt {' '.join(words)} ended with {process.returncode}")
    scale = 1 if sys.platform == "darwin" else 1024
    return printed, time.perf_counter() - began, scale * usage.ru_maxrss


def planned(words: list[str], cache: Path) -> dict[str, Any]:
    """What `minigpt plan` says of a command."""
    return json.loads(minigpt(["plan", *words, "--json"], cache)[0])


def recorded(words: list[str]) -> dict[str, Any]:
    """What a finished run says in its own config.json of what it took."""
    config = Path(words[words.index("--out") + 1]) / "config.json"
    return json.loads(config.read_text(encoding="utf-8"))["plan"]["measured"]


def measure(runs: list[Run], scratch: Path) -> Iterator[dict[str, Any]]:
    """Predicts and runs each; the base of a shape is trained first, where it is missing."""
    fresh, learning = scratch / "fresh", scratch / "learning"
    for run in runs:
        if run.method != "scratch" and not (scratch / run.shape / "config.json").exists():
            base = next(r for r in RUNS if r.shape == run.shape and r.method == "scratch")
            minigpt(command_of(base, scratch), scratch / "bases")
        words = command_of(run, scratch)
        unlearned, learned = planned(words, fresh), planned(words, learning)
        _, seconds, peak = minigpt(words, learning)
        yield {
            "run": run.name,
            "command": words,
            "memory": peak,
            "seconds": seconds,
            "step_seconds": recorded(words)["step_seconds"],
            "predicted": unlearned,
            "learned": learned,
        }


# ---------------------------------------------------------------- the table


def error(row: dict[str, Any], which: str, what: str) -> float:
    """How far a prediction is off, as a fraction of what was measured."""
    return row[which][what] / row[what] - 1


def line_of(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [f"{row['run']:<38}"]
    for what, unit in (("memory", 2**20), ("seconds", 1)):
        cells.append(f"{row[what] / unit:>8,.0f}{row['predicted'][what] / unit:>8,.0f}")
        cells.append(f"{error(row, 'predicted', what):>+7.1%}{error(row, 'learned', what):>+7.1%}")
    return " ".join(cells)


def summary(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Medians and the worst, against the goals."""
    for which, counted in (("predicted", rows), ("learned", rows[TAUGHT_AFTER:])):
        for what, (median, worst) in GOALS.items():
            errors = [abs(error(row, which, what)) for row in counted]
            if errors:
                yield (
                    f"{which:<10} {what:<8} median {statistics.median(errors):6.1%} (goal "
                    f"{median:.0%}), worst {max(errors):6.1%} (goal {worst:.0%}), of {len(errors)}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[""], help="words in the names of the runs")
    parser.add_argument(
        "--held-out", action="store_true", help="six runs that nothing was fitted to"
    )
    parser.add_argument("--probe", action="store_true", help="measure the machine alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep all that was measured")
    parser.add_argument("--scratch", type=Path, help="keeps bases and caches")
    arguments = parser.parse_args()
    if arguments.probe:
        from minigpt_tf.planning.probe import measure_speed

        for name, value in vars(measure_speed()).items():
            print(f"{name:<12}{value:>12,.3e}")
        return
    every = HELD_OUT if arguments.held_out else RUNS
    runs = [run for run in every if any(word in run.name for word in arguments.only)]
    print(f"{'run':<38}{'MiB':>9}{'plan':>8}{'off':>8}{'taught':>7}{'s':>9}{'plan':>8}{'off':>8}")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.scratch or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for row in measure(runs, folder):
            rows.append(row)
            print(line_of(row), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
