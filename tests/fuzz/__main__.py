"""Damaged files and odd command lines, thousands of them: `python -m tests.fuzz --minutes 30`.

Nothing may end in a traceback, hang, take memory without bound, or run code. Each failing input is
kept in a folder with the command that shows it, command.txt. The same seed draws the same inputs.
"""

import argparse
import gc
import json
import os
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.conftest import ROOT
from tests.fuzz.kinds import NAMES, SECRET, make_case, numbered

FAULTS = ("traceback", "hang", "memory", "code", "signal", "status", "words")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long (30)")
    parser.add_argument("--inputs", type=int, default=10**9, help="how many, at most")
    parser.add_argument("--seed", type=int, default=0, help="draws the inputs (0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--kinds", nargs="+", choices=NAMES, default=NAMES, metavar="KIND")
    parser.add_argument("--number", type=int, help="run this one case of --kinds KIND alone")
    parser.add_argument("--failing", type=Path, help="folder for failing inputs (unset: a new one)")
    return parser.parse_args()


def make_seeds(root: Path, cache: Path) -> Path:
    """The sound files, with what leads nowhere beside them."""
    seeds = root / "seeds"
    seeds.mkdir()
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
    words = [sys.executable, "-m", "tests.fuzz.seeds", str(seeds)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the seeds cannot be made: {done.stderr[-2000:]}")
    (seeds / SECRET).write_text("secret")
    (seeds / "loop").symlink_to("loop")
    os.mkfifo(seeds / "pipe")
    return seeds


def work(index: int, given: argparse.Namespace, root: Path, seeds: Path, pipe: int) -> None:
    """A worker: each of its cases in a child of its own. Writes a line of JSON for each."""
    from tests.fuzz import child

    child.prepare()
    gc.collect()
    gc.freeze()
    end = time.monotonic() + 60 * given.minutes
    for place, (kind, number) in enumerate(numbered(given.inputs, given.kinds)):
        if place % given.workers != index:
            continue
        if time.monotonic() > end:
            break
        number = number if given.number is None else given.number
        folder = root / "cases" / f"{kind.replace(' ', '-')}-{number}"
        folder.mkdir(parents=True)
        case = make_case(kind, number, given.seed, seeds, folder)
        outcome = child.run_case(case, seeds, root / "cache")
        if outcome.fault:
            keep(folder, given.failing / outcome.fault / folder.name, case.words, outcome.detail)
        child.clean(case)
        os.write(
            pipe, (json.dumps({"kind": kind, "number": number, **vars(outcome)}) + "\n").encode()
        )
        if given.number is not None:
            break


def keep(folder: Path, to: Path, words: list[str], detail: str) -> None:
    """Keeps a failing input, and the command that reads it."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to, symlinks=True)
    command = shlex.join(["python", "-m", "minigpt_tf", *words]).replace(str(folder), str(to))
    (to / "command.txt").write_text(f"{detail}\n{command}\n", errors="surrogateescape")


def run(given: argparse.Namespace) -> list[dict]:
    """All cases; the outcomes."""
    root = Path(tempfile.mkdtemp(prefix="minigpt-fuzz-"))
    given.failing = given.failing or root / "failing"
    (root / "cache").mkdir()
    (root / "cases").mkdir()
    print(f"failing inputs: {given.failing}", flush=True)
    seeds = make_seeds(root, root / "cache")
    if given.number is not None:
        given.workers = given.inputs = 1
    reading, writing = os.pipe()
    workers = []
    for index in range(given.workers):
        worker = os.fork()
        if worker == 0:
            os.close(reading)
            try:
                work(index, given, root, seeds, writing)
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
                status = 1
            os._exit(status)
        workers.append(worker)
    os.close(writing)
    found = list(outcomes(reading))
    failed = [worker for worker in workers if os.waitpid(worker, 0)[1]]
    if not any((given.failing / fault).exists() for fault in FAULTS):
        shutil.rmtree(root, ignore_errors=True)
    if failed:
        raise SystemExit("a worker of the harness has failed")
    return found


def outcomes(pipe: int):
    """The lines of the workers, with a word on faults as they come."""
    began, count = time.monotonic(), 0
    with os.fdopen(pipe, encoding="utf-8") as lines:
        while True:
            select.select([lines], [], [])
            line = lines.readline()
            if not line:
                return
            found = json.loads(line)
            count += 1
            if found["fault"]:
                print("{fault}: {kind} {number}: {detail}".format(**found), flush=True)
            if count % 1000 == 0:
                print(f"{count:,} inputs, {time.monotonic() - began:.0f} s", flush=True)
            yield found


def table(found: list[dict]) -> list[str]:
    """A line for each kind: inputs, refused, the slowest, the largest, and faults."""
    header = ["kind", "inputs", "refused", "most s", "most MiB", *FAULTS]
    rows = [header]
    for kind in [*dict.fromkeys(item["kind"] for item in found), ""]:
        of = [item for item in found if kind in ("", item["kind"])]
        faults = Counter(item["fault"] for item in of)
        refused = sum(os.waitstatus_to_exitcode(item["status"]) == 2 for item in of)
        most = [f"{max(item['seconds'] for item in of):.1f}", max(item["mebibytes"] for item in of)]
        rows.append([kind or "all", len(of), refused, *most, *(faults[name] for name in FAULTS)])
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(header))]
    return ["  ".join(str(c).rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]


def main() -> int:
    """Runs the cases and prints the table; 1 if there was a fault."""
    began = time.monotonic()
    found = run(options())
    print("\n".join(table(found)))
    print(f"{len(found):,} inputs in {time.monotonic() - began:.0f} s")
    return int(any(item["fault"] for item in found))


if __name__ == "__main__":
    sys.exit(main())
