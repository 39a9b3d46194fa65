r"""The engine beside llama.cpp, transformers and NumPy, in one run: all figures of one machine.

    pip install -r benchmarks/requirements.txt
    CMAKE_ARGS="-DGGML_NATIVE=ON" pip install --no-binary llama-cpp-python llama-cpp-python
    python benchmarks/decode.py [--rounds 5] [--only int8 batches] [--gguf FILE] \
        [--model models/smollm2] [--json FILE]

Two shapes, GPT-2 124M and SmolLM2-135M, with the same random weights for all. Every peer runs in a
process of its own, and the processes take turns, so that a change of the machine's speed meets all
alike. Numbers are medians of the rounds, ratios medians of the rounds' ratios. A peer that is not
installed or dies is reported, with how to build it, and the others continue.

- float32, int8, int4: one stream, 100 tokens, greedy, after a prompt of 8
- bfloat16, q4_1: the same with weights that are born so. The engine stores them exactly, so it is
  compared with itself in float32 too, bits included
- batches: tokens a second of 1 to 32 streams together; the engine also with the sampler at its
  default settings
- prompts: a prompt of 1,000 tokens
- speculation, with --model: five natural prompts, 200 tokens each, the model's own weights
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from peers import run
from rows import Files, Row
from rows_batches import batches_row
from rows_one_stream import bfloat16_row, float32_row, int4_row, int8_row, q4_1_row
from rows_prompts import prompts_row
from rows_speculation import speculation_row
from shapes import SHAPES

from minigpt_tf.machine import chosen_kernels, describe_kernels, memory_size, processor_name

ROWS: dict[str, Callable[[Files, str], Row | None]] = {
    "float32": float32_row,
    "bfloat16": bfloat16_row,
    "q4_1": q4_1_row,
    "int8": int8_row,
    "int4": int4_row,
    "batches": batches_row,
    "prompts": prompts_row,
    "speculation": speculation_row,
}
"""By the name for --only; None for a shape that the row leaves out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--shape", choices=SHAPES, help="only this shape")
    parser.add_argument("--gguf", type=Path, help="a Q4_1 file for q4_1, instead of random weights")
    parser.add_argument("--model", type=Path, help="a model folder, for speculation")
    parser.add_argument("--json", type=Path, help="a file for the results of every process")
    arguments = parser.parse_args()
    about = {"processor": processor_name(), "kernels": describe_kernels(chosen_kernels())}
    memory = memory_size()
    size = f", {memory / 2**30:.0f} GiB" if memory else ""
    print(f"{about['processor']}{size}\nkernels: {about['kernels']}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        files = Files(Path(scratch), arguments.gguf, arguments.model)
        shapes = [arguments.shape] if arguments.shape else list(SHAPES)
        made = [ROWS[name](files, shape) for name in arguments.only for shape in shapes]
        rows = [row for row in made if row is not None]
        for _ in range(arguments.rounds):
            for row in rows:
                measure(row)
    print("\n".join(line for row in rows for line in table(row)))
    print("\n".join(goals(rows)))
    if arguments.json:
        results = {row.title: row.results for row in rows}
        arguments.json.write_text(json.dumps(about | {"rows": results}, indent=1))


def measure(row: Row) -> None:
    """One round of a row; a peer that has failed is not run again."""
    for label, job in row.jobs.items():
        results = row.results.setdefault(label, [])
        if not any("failed" in result for result in results):
            results.append(run(job))


def table(row: Row) -> list[str]:
    """The lines of a row, and why peers have no figures."""
    lines = ["", row.title, *row.report(row.results)]
    for label, results in row.results.items():
        lines += [f"  {label}: {result['failed']}" for result in results if "failed" in result]
    return lines


def goals(rows: list[Row]) -> list[str]:
    """How llama.cpp is built; and the figures that have a goal, with the goal."""
    peers = [results for row in rows for results in row.results.values()]
    built = {result["built"] for results in peers for result in results if "built" in result}
    lines = ["", *(f"llama.cpp is built for: {flags}" for flags in sorted(built))]
    lines.append(f"{'':<64}{'figure':>8}  goal")
    for row in rows:
        for name, value, goal in row.figures(row.results):
            title = f"{row.title.split(',')[0]}: {name}"
            lines.append(f"{title:<64}{'-' if value is None else f'{value:.2f}':>8}  {goal}")
    return lines


if __name__ == "__main__":
    main()
