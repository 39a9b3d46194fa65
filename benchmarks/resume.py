"""Runs that are killed at random moments and resumed: do they end with the same bits?

    python benchmarks/resume.py [--kills 50] [--seed 0] [--pairs 8]

Small runs (2 layers of width 16, with dropout) get SIGKILL at any time, or while something is being
saved, and go on with --resume until they end, in float32 and bfloat16, with checkpoints by step and
by time. Each is compared with a run of its setting that nobody disturbed: weights, optimizer,
progress, best weights, history and samples, all but the time it took. "Lost" is the median time
that a killed process had worked since its last state, or since its start. Then prints what
checkpoints cost a run of the lecture's size; `--pairs 0` leaves that out. Exit status 1 where a bit
differs.
"""

import argparse
import contextlib
import csv
import hashlib
import json
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data" / "ramanujan.txt"
TIMINGS = ("seconds", "tokens_per_second")
"""What may differ between two runs in each row of their history."""

SIZES = (
    "--context-length 16 --vocab-size 500 --embed-dim 16 --num-layers 2 --num-heads 2 --head-dim 8 "
    "--ff-dim 32 --batch-size 8 --sample-tokens 5"
)
SETTINGS = {
    "float32, every step": (
        f"{SIZES} --dtype float32 --steps 80 --eval-every 15 --checkpoint-every 1"
    ),
    "bfloat16, every step, stops early": (
        f"{SIZES} --dtype mixed_bfloat16 --steps 500 --eval-every 7 --checkpoint-every 1 "
        "--early-stopping 8 --learning-rate 0.03 --optimizer adamw --weight-decay 0.1"
    ),
    "bfloat16, every 7 steps": (
        f"{SIZES} --dtype mixed_bfloat16 --steps 80 --eval-every 10 --checkpoint-every 7 "
        "--accumulate 2 --keep best"
    ),
    "float32, by time": (
        f"{SIZES} --dtype float32 --steps 80 --eval-every 10 --checkpoint-minutes 0.003 "
        "--optimizer muon"
    ),
}


class Launcher:
    """Starts trainings from a process that has imported TensorFlow, but not used it yet.

    Each is a process of its own, which runs the command line's `main`, some seconds sooner than
    `python -m minigpt_tf` would.
    """

    PROGRAM = """
import json, os, sys
from pathlib import Path
from disk_changes import DiskChanges
from minigpt_tf.__main__ import main
from minigpt_tf.startup import quiet_import
with quiet_import():
    import minigpt_tf.training.trainer
print("ready", flush=True)
for line in os.fdopen(os.dup(0)):
    log, counted, last, *words = json.loads(line)
    process = os.fork()
    if process == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1), os.dup2(output, 2)
        changes = DiskChanges(last) if counted or last is not None else None
        status = main(words)
        if counted:
            Path(counted).write_text(str(changes.count))
        os._exit(status)
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""

    def __init__(self) -> None:
        paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
        environment = {**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._process.stdout.readline()  # it is ready
        self._running = 0

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, *_: object) -> None:
        if self._running:
            os.kill(self._running, signal.SIGKILL)
        self._process.communicate()

    def start(
        self, words: list[str], log: Path, counted: Path | None = None, last: int | None = None
    ) -> int:
        """Starts `minigpt WORDS`, whose output is added to `log`; the process's number.

        It writes to `counted` how often it has changed the disk, and is killed before it changes it
        once more than `last` times.
        """
        line = [str(log), str(counted or ""), last, *words]
        print(json.dumps(line), file=self._process.stdin, flush=True)
        self._running = int(self._process.stdout.readline())
        return self._running

    def end(self) -> int:
        """Waits for what was started; its exit status, or minus the signal that ended it."""
        status = int(self._process.stdout.readline())
        self._running = 0
        return status


def run(launcher: Launcher, out: Path, options: str, kill_at=None) -> bool:
    """Starts or resumes the run in `out`; `kill_at(process)` returns when it is to be killed.

    Whether it was killed. Raises RuntimeError where it failed.
    """
    going_on = (out / "checkpoint" / "run.json").exists()
    begin = ["train", "--data", str(DATA), "--out", str(out), *shlex.split(options)]
    log = out.with_suffix(".log")
    words = ["train", "--resume", "--out", str(out)] if going_on else begin
    process = launcher.start(words, log)
    if kill_at is not None:
        kill_at(process)
        os.kill(process, signal.SIGKILL)  # until `end` has waited for it, its number is its own
    status = launcher.end()
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"exit status {status} of {words}:\n{log.read_text()[-2000:]}")
    return status != 0


@dataclass
class Kills:
    """What became of the runs of a setting."""

    kills: int = 0
    saving: int = 0
    """Kills that left a half-written file behind, under its temporary name."""
    before_first_state: int = 0
    runs: int = 0
    different: list[str] = field(default_factory=list)
    """What was not the same, of all runs."""
    lost: list[float] = field(default_factory=list)
    """Seconds that each killed process had worked since its last state, or since its start."""


def kill_and_resume(
    launcher: Launcher,
    options: str,
    folder: Path,
    kills: int,
    rng: random.Random,
    share: float = 1.0,
) -> Kills:
    """Runs of a setting until they have been killed `kills` times in all, and gone on to their end.

    With a smaller `share` a process is killed sooner after its start, so fewer runs bear the kills.
    """
    began = time.monotonic()
    run(launcher, folder / "undisturbed", options)
    duration = time.monotonic() - began
    expected = results(folder / "undisturbed")
    outcome = Kills()
    while outcome.kills < kills:
        out = folder / f"killed-{outcome.runs}"
        began = time.time()
        while outcome.kills < kills:
            if outcome.kills % 2:
                kill_at = while_saving(out, rng.randint(1, round(20 * share)))
            else:
                kill_at = after(rng.uniform(0, share * duration))
            if not run(launcher, out, options, kill_at):
                break  # it had ended before
            states = [file.stat().st_mtime for file in out.glob("checkpoint/state-*")]
            outcome.kills += 1
            outcome.saving += bool(unfinished(out))
            outcome.before_first_state += not states
            outcome.lost.append(time.time() - max(began, *states, 0))
            began = time.time()
        run(launcher, out, options)
        outcome.runs += 1
        found = results(out)
        outcome.different += [f"{out.name}: {n}" for n in expected if found[n] != expected[n]]
    return outcome


def after(seconds: float):
    """Waits until a process has run for so many seconds, or has ended."""
    return lambda process: wait_until(process, lambda: False, seconds)


def while_saving(out: Path, count: int):
    """Waits until a process saves something for so many times, and has not done so yet."""
    seen = set()

    def happens() -> bool:
        seen.update(unfinished(out))
        return len(seen) >= count

    return lambda process: wait_until(process, happens, 60)


def unfinished(out: Path) -> list[Path]:
    """The scratch folders of what is being saved, or was when the run was killed."""
    found = []
    for folder in (out, out / "checkpoint"):
        with contextlib.suppress(FileNotFoundError):
            found += [folder / name for name in os.listdir(folder) if name.startswith(".saving-")]
    return found


def wait_until(process: int, happens, seconds: float) -> None:
    """Returns when something happens, the process has ended, or after so many seconds."""
    end = time.monotonic() + seconds
    while not happens() and time.monotonic() < end and not has_ended(process):
        time.sleep(0.001)


def has_ended(process: int) -> bool:
    """Whether nothing of a process is left but its exit status."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def results(out: Path) -> dict[str, str]:
    """Hashes of all that a run has made, but for the time that it took."""
    import h5py

    found = {}
    with h5py.File(out / "model.h5") as file:
        digest = hashlib.sha256()
        names: list[str] = []
        file["model_weights"].visit(names.append)
        for name in sorted(names):
            item = file["model_weights"][name]
            if isinstance(item, h5py.Dataset):
                digest.update(name.encode() + item[()].tobytes())
        found["model.h5"] = digest.hexdigest()
    with np.load(max(out.glob("checkpoint/state-*.npz"))) as archive:
        arrays = dict(archive)
    progress = json.loads(arrays.pop("progress").tobytes())
    del progress["seconds"]
    for row in progress["history"]:
        for name in TIMINGS:
            del row[name]
    for name, array in arrays.items():
        found[f"state: {name}"] = hashlib.sha256(array.tobytes()).hexdigest()
    found["progress"] = json.dumps(progress)
    with open(out / "history.csv", newline="") as file:
        rows = [{k: v for k, v in row.items() if k not in TIMINGS} for row in csv.DictReader(file)]
    found["history.csv"] = json.dumps(rows)
    found["samples.txt"] = (out / "samples.txt").read_text()
    return found


def cost_of_checkpoints(pairs: int) -> None:
    """Prints what a state of the lecture's size takes from the steps after it."""
    from minigpt_tf.config.presets import model_preset, training_preset
    from minigpt_tf.training.checkpoint import RunState, StateWriter
    from minigpt_tf.training.optimizers import build_optimizer
    from minigpt_tf.training.step import LanguageModel, TrainingStep

    config, training, steps = model_preset(dropout=0.1), training_preset(), 3
    model = LanguageModel(config, training, "float32")
    optimizer = build_optimizer(training, 1000)
    optimizer.build(model.variables)
    step = TrainingStep(model, optimizer, clip_norm=1.0)
    shape = (training.batch_size, config.context_length)
    x = np.random.default_rng(0).integers(0, config.vocab_size, shape, dtype=np.int32)
    variables = model.keras_model.variables + optimizer.variables
    names = {f"{number}": variable for number, variable in enumerate(variables)}
    copying, writing, plain, saving = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoint").mkdir()
        writer = StateWriter(Path(folder))
        step(x, x, step=0)
        for number in range(pairs):
            began = time.perf_counter()
            for _ in range(steps):
                step(x, x, step=1)
            plain.append(time.perf_counter() - began)
            began = time.perf_counter()
            writer.save(names, RunState(step=2 * number))
            copying.append(time.perf_counter() - began)
            for _ in range(steps):
                step(x, x, step=1)
            writer.wait()
            saving.append(time.perf_counter() - began)
            began = time.perf_counter()
            writer.save(names, RunState(step=2 * number + 1))
            writer.wait()
            writing.append(time.perf_counter() - began)
        size = max(Path(folder).glob("checkpoint/*")).stat().st_size
    extra = statistics.median(b - a for a, b in zip(plain, saving, strict=True))
    share = extra / (60 * training.checkpoint_minutes)
    rows = {
        f"{steps} steps": statistics.median(plain),
        f"{steps} steps beside a state's writing": statistics.median(saving),
        "a state, copied": statistics.median(copying),
        "a state, copied and written": statistics.median(writing),
    }
    print(f"\nlecture, a state of {size / 1e6:.0f} MB, medians of {pairs} pairs")
    for name, seconds in rows.items():
        print(f"{name:<36}{seconds:>10.3f} s")
    print(f"{'a state takes from the steps':<36}{extra:>10.3f} s = ", end="")
    print(f"{share:.2%} with one every {training.checkpoint_minutes:g} minutes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--pairs", type=int, default=8, help="for the cost of checkpoints")
    arguments = parser.parse_args()
    names = ("kills", "saving", "at start", "runs", "same bits", "lost s")
    print(f"{'setting':<36}" + "".join(f"{name:>10}" for name in names))
    total, rng = Kills(), random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch, Launcher() as launcher:
        for number, (name, options) in enumerate(SETTINGS.items()):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            left = (arguments.kills - total.kills) / (len(SETTINGS) - number)
            outcome = kill_and_resume(launcher, options, folder, round(left), rng)
            show(name, outcome)
            for item in vars(total):
                setattr(total, item, getattr(total, item) + getattr(outcome, item))
    show("all", total)
    for what in total.different:
        print(f"different: {what}")
    if arguments.pairs:
        cost_of_checkpoints(arguments.pairs)
    return 1 if total.different else 0


def show(name: str, outcome: Kills) -> None:
    """A row of the table."""
    same = "no" if outcome.different else "yes"
    lost = statistics.median(outcome.lost) if outcome.lost else 0
    counts = (outcome.kills, outcome.saving, outcome.before_first_state, outcome.runs)
    print(f"{name:<36}" + "".join(f"{count:>10}" for count in counts), end="")
    print(f"{same:>10}{lost:>10.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
