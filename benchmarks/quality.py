"""Quality for time: loss against seconds on tiny shakespeare, beside nanoGPT's example for a CPU.

    pip install -r benchmarks/requirements.txt
    python benchmarks/quality.py --data tinyshakespeare.txt [--nanogpt PATH] [--picture curve.png]

Ours is the whole command `train --preset shakespeare --recipe fast`, import included. The peer is
nanoGPT's example (4 layers, 4 heads, 128 wide, context 64, batch 12, 2,000 steps of AdamW with a
cosine), in the faster of float32 and bfloat16, its time without its evaluations. Both are scored on
the last 10 % of the text, every token once, in windows of 64 that do not overlap. They take turns.
Prints the curves, the time until the loss was 1.88, and how float32 ends instead of --dtype auto.
"""

import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from minigpt_tf.config import DataConfig
from minigpt_tf.config.presets import model_preset, training_preset
from minigpt_tf.files.documents import read_documents
from minigpt_tf.text.corpus import build_corpus, learn_tokenizer
from minigpt_tf.text.windows import TrainingWindows, scoring_batches

ROOT = Path(__file__).parents[1]
TARGET = 1.88
EVERY = 250
"""Steps between the peer's evaluations."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--nanogpt", type=Path, help="a nanoGPT checkout, instead of transformers")
    parser.add_argument("--picture", type=Path, help="where to draw the curves")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        train_peer(arguments.data, arguments.peer, arguments.nanogpt)
        return
    ratios, curves = [], {}
    for _ in range(arguments.rounds):
        for dtype in ("auto", "float32"):
            curves[f"ours, recipe fast, {dtype}"] = ours(arguments.data, dtype)
        for dtype in ("float32", "bfloat16"):
            curves[f"PyTorch {dtype}"] = peer(arguments.data, dtype, arguments.nanogpt)
        for name, (points, whole) in curves.items():
            print(f"\n{name}: whole process {whole:.1f} s, 1.88 reached {reached(points)}")
            print("  ".join(f"{seconds:.1f} s {loss:.4f}" for seconds, loss in points), flush=True)
        rival = min(whole for name, (_, whole) in curves.items() if name.startswith("PyTorch"))
        ratios.append(curves["ours, recipe fast, auto"][1] / rival)
    auto, exact = (curves[f"ours, recipe fast, {d}"][0][-1][1] for d in ("auto", "float32"))
    print(f"\nlast loss with --dtype auto against float32: {auto / exact - 1:+.2%}")
    print(f"ours takes {statistics.median(ratios):.2f} of the peer's whole time", end=" ")
    print(f"(median of {arguments.rounds})")
    if arguments.picture:
        draw(curves, arguments.picture)


def reached(points: list[tuple[float, float]]) -> str:
    first = next((seconds for seconds, loss in points if loss <= TARGET), None)
    return "never" if first is None else f"after {first:.1f} s"


def ours(data: Path, dtype: str) -> tuple[list[tuple[float, float]], float]:
    """(seconds since the command was given, full validation loss) pairs, and the whole time."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "model"
        words = ["--preset", "shakespeare", "--tokenizer", "char", "--recipe", "fast"]
        words += ["--eval-every", "125", "--dtype", dtype]
        command = [sys.executable, "-m", "minigpt_tf", "train", "--data", str(data), *words]
        began = time.perf_counter()
        subprocess.run([*command, "--out", str(out)], check=True, cwd=ROOT, capture_output=True)
        whole = time.perf_counter() - began
        rows = list(csv.DictReader((out / "history.csv").open()))
        metrics = json.loads((out / "config.json").read_text())["metrics"]
    before = whole - metrics["seconds"]  # mostly imports; saving counts as if it came first
    return [(before + float(row["seconds"]), float(row["val_loss"])) for row in rows], whole


def peer(data: Path, dtype: str, nanogpt: Path | None) -> tuple[list[tuple[float, float]], float]:
    words = [sys.executable, __file__, "--data", str(data), "--peer", dtype]
    words += ["--nanogpt", str(nanogpt)] if nanogpt else []
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    return [tuple(point) for point in result["points"]], result["whole"]


def train_peer(data: Path, dtype: str, nanogpt: Path | None) -> None:
    """nanoGPT's example; the clock stands still during evaluations."""
    started = time.time() - _seconds_since_start()
    import torch
    import torch_gpt

    config, training = model_preset("shakespeare"), training_preset("shakespeare")
    documents = read_documents(data)
    tokenizer = learn_tokenizer(documents, "char", config.vocab_size)
    corpus = build_corpus(documents, tokenizer, DataConfig(tokenizer="char"))
    size, steps = training.batch_size, training.steps
    windows = TrainingWindows(corpus.train_ids, 64, batch_size=size, stride=1, seed=1337)
    model = torch_gpt.build(config, nanogpt)
    optimizer = torch_gpt.adamw(model, 1e-3)
    points, paused = [], 0.0
    for step in range(steps):
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0, step - 100) / (steps - 100))))
        rate = 1e-3 * min(1.0, (step + 1) / 101) * (0.1 + 0.9 * decay)
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch_gpt.train_step(model.train(), optimizer, *windows.batch(step), dtype)
        if (step + 1) % EVERY == 0:
            now = time.time()
            total = 0.0
            with torch.no_grad():
                model.eval()
                for x, y in scoring_batches(np.asarray(corpus.val_ids), 64, 256):
                    total += torch_gpt.loss_of(model, x, y, dtype).item() * x.size
            points.append((now - started - paused, total / (len(corpus.val_ids) - 1)))
            paused += time.time() - now
    print(json.dumps({"points": points, "whole": time.time() - started - paused}))


def _seconds_since_start() -> float:
    """Since this process began, its imports included."""
    if hasattr(os, "sysconf") and Path("/proc/self/stat").exists():
        ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return uptime - ticks / os.sysconf("SC_CLK_TCK")
    return 0.0


def draw(curves: dict, file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, (points, _) in curves.items():
        axes.plot(*zip(*points, strict=True), marker=".", label=name)
    axes.axhline(TARGET, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="seconds", ylabel="validation loss (nats per character)")
    axes.legend()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
