"""Commands that are killed at random moments: is what they write the old or the new, whole?

    python benchmarks/kills.py [--kills 500] [--seed 0] [--only NAME]

Every command that writes a model is killed while it replaces another one: `train`, `finetune` with
each method, `import`, `export` in each format, and `generate` while it makes weights in fewer bits.
A third of the kills (SIGKILL) come at any time, a third before one of the changes to the disk that
Python makes, a third while something is being saved. After each, the next reader opens what is
there: it must hold the files of the old model or those of the new one, by their hashes in an
undisturbed run. After the last kill, a command runs to its end: nothing unfinished may be left.
Prints a line a command; exit status 1 where something was mixed or left.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from resume import Launcher, after, wait_until

SIZES = "--context-length 160 --embed-dim 8 --num-layers 1 --num-heads 2 --num-kv-heads 1"
TRAIN = f"train --preset modern --tokenizer bpe --dtype float32 --steps 3 --batch-size 4 {SIZES}"
TRAIN += " --head-dim 4 --ff-dim 8 --sample-tokens 2"
TUNE = "--steps 2 --batch-size 2 --dtype float32 --val-split 0.3 --eval-every 1"
METHODS = ("full", "lora", "qlora", "dpo", "classify")
RECORDS = [{"instruction": f"say {n}", "output": f"it is {n}"} for n in range(12)]
PAIRS = [{"prompt": f"say {n}", "chosen": f"it is {n}", "rejected": "no"} for n in range(12)]
LABELED = [{"text": f"{n} {'apple' if n % 2 else 'saw'}", "label": "ab"[n % 2]} for n in range(12)]

CHANGING = ("history.csv", "samples.txt", "loss.png", "confusion.png", "README.md")
"""Files with times in them, or pictures of such."""


@dataclass(frozen=True)
class Command:
    """A command that replaces what lies at a path."""

    name: str
    words: tuple[str, ...]
    out: Path
    """What it writes."""
    old: Callable[[Path], None]
    """Makes the old model at that path."""


@dataclass
class Outcome:
    """What became of a command's kills."""

    kills: int = 0
    saving: int = 0
    """Kills that left something unfinished behind."""
    old: int = 0
    new: int = 0
    mixed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def identity(path: Path) -> dict[str, str]:
    """Hashes of the files at a path, but of times and places."""
    if path.is_file():
        return {path.name: digest(path)}
    return {
        file.name: digest(file)
        for file in sorted(path.iterdir())
        if file.is_file() and file.name not in CHANGING and not file.name.startswith(".saving-")
    }


def digest(file: Path) -> str:
    """A hash of what a file holds of a model."""
    if file.suffix == ".keras":
        with zipfile.ZipFile(file) as archive:
            content = b"".join(archive.read(n) for n in ("config.json", "model.weights.h5"))
    elif file.name == "config.json":
        values = json.loads(file.read_text())
        for name in list(values.get("files", ())):
            if name in CHANGING or name.endswith(".safetensors"):
                del values["files"][name]
        values.get("metrics", {}).pop("seconds", None)
        values.pop("plan", None)  # what was predicted and measured
        content = json.dumps(values).encode()
    elif file.suffix == ".safetensors":  # its header is in any order
        content = file.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        content = json.dumps(json.loads(content[8:end]), sort_keys=True).encode() + content[end:]
    else:
        content = file.read_bytes()
    return hashlib.sha256(content).hexdigest()


def open_as_reader(path: Path) -> None:
    """Does what the next command that reads it does first."""
    from minigpt_tf.config import CONFIG_NAME
    from minigpt_tf.errors import ModelFolderError
    from minigpt_tf.inference.folder import load_folder

    if path.is_dir() and "format_version" in (path / CONFIG_NAME).read_text():
        with contextlib.suppress(ModelFolderError):  # what is wrong with it is seen by its hashes
            load_folder(path)


def unfinished(root: Path) -> list[Path]:
    """What was being written, anywhere below a folder."""
    return [path for path in root.rglob(".*") if path.name.startswith((".saving-", ".making-"))]


def campaign(
    launcher: Launcher, command: Command, kills: int, rng: random.Random, log: Path
) -> Outcome:
    """Kills a command so many times."""
    outcome, root = Outcome(), command.out.parent
    kept = root.with_name(f"{root.name}-old")
    command.old(command.out)
    copy(root, kept)
    old = identity(command.out)
    began = time.monotonic()
    launcher.start([*command.words], log, counted=log.with_suffix(".changes"))
    if launcher.end() != 0:
        raise RuntimeError(f"{command.name} failed:\n{log.read_text()[-2000:]}")
    duration = time.monotonic() - began
    changes = int(log.with_suffix(".changes").read_text())
    new = identity(command.out)
    assert new != old, command.name
    copy(kept, root)
    while outcome.kills < kills:
        kind, last = outcome.kills % 3, None
        moment = after(rng.uniform(0, duration))
        if kind == 1:
            last, moment = rng.randrange(changes), after(100 * duration)
        elif kind == 2:
            moment = while_saving(root, rng.uniform(0, 0.03))
        process = launcher.start([*command.words], log, last=last)
        moment(process)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        status = launcher.end()
        if status not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{command.name}: status {status}:\n{log.read_text()[-2000:]}")
        killed = status != 0
        outcome.kills += killed
        outcome.saving += killed and bool(unfinished(root))
        open_as_reader(command.out)
        found = identity(command.out)
        if found == old:
            outcome.old += killed
        elif found == new:
            outcome.new += killed
            replace(kept, root)
        else:
            names = old.keys() | new.keys() | found.keys()
            odd = {
                name: "old"
                if found.get(name) == old.get(name)
                else "new"
                if found.get(name) == new.get(name)
                else "neither"
                for name in sorted(names)
            }
            outcome.mixed.append(f"{command.name}: {odd}")
            replace(kept, root)
    launcher.start([*command.words], log)
    if launcher.end() != 0:
        raise RuntimeError(f"{command.name} failed:\n{log.read_text()[-2000:]}")
    if identity(command.out) != new:
        outcome.mixed.append(f"{command.name}: the last, undisturbed run")
    outcome.left = [f"{command.name}: {path}" for path in unfinished(root)]
    return outcome


def copy(source: Path, target: Path) -> None:
    """Makes a folder a copy of another one."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def replace(kept: Path, root: Path) -> None:
    """The same, but what is unfinished stays: the next command is to remove it."""
    for path in root.iterdir():
        if path.name.startswith(".saving-"):
            continue
        for below in sorted(path.iterdir()) if path.is_dir() else ():
            if not below.name.startswith(".saving-"):
                shutil.rmtree(below) if below.is_dir() else below.unlink()
        if path.is_file():
            path.unlink()
    shutil.copytree(kept, root, dirs_exist_ok=True)


def while_saving(root: Path, seconds: float):
    """Waits until something is being saved, and a little longer."""

    def moment(process: int) -> None:
        wait_until(process, lambda: bool(unfinished(root)), 100)
        after(seconds)(process)

    return moment


def commands(folder: Path, launcher: Launcher, only: Sequence[str]) -> list[Command]:
    """All commands, with the models that they read and replace."""

    def run(*words: object) -> None:
        log = folder / "made.log"
        launcher.start([str(word) for line in words for word in str(line).split()], log)
        if launcher.end() != 0:
            raise RuntimeError(log.read_text()[-2000:])

    made = folder / "made"
    made.mkdir()
    (folder / "a.txt").write_text("the cat sat on the mat and the dog ran to it. " * 300)
    (folder / "b.txt").write_text("one two three four five six seven, and so on it goes. " * 300)
    for name, rows in (("records", RECORDS), ("pairs", PAIRS), ("labeled", LABELED)):
        (folder / f"{name}.json").write_text(json.dumps(rows))
    for name, size in (("a", 280), ("b", 300)):
        data = ("--data", folder / f"{name}.txt", "--out", made / name)
        run(TRAIN, "--vocab-size", size, *data)
    run("export --format hf --model", made / "a", "--out", made / "a-hf")
    run("export --format gguf --dtype f16 --model", made / "a", "--out", made / "a.gguf")
    run("export --format keras --model", made / "a", "--out", made / "a.keras")

    found = []

    def add(name: str, line: str, out: str, old: str) -> None:
        root = folder / name.replace(" ", "-")
        root.mkdir()
        target = root / out

        def make(path: Path) -> None:
            source = made / old
            shutil.copytree(source, path) if source.is_dir() else shutil.copyfile(source, path)

        words = tuple(word.format(folder=folder, made=made, out=target) for word in line.split())
        if not only or any(name.startswith(each) for each in only):
            found.append(Command(name, words, target, make))

    more = "--vocab-size 280 --data {folder}/a.txt"
    add("train", f"{TRAIN} {more} --checkpoint-every 1 --out {{out}} --overwrite", "m", "b")
    for method in METHODS:
        rank = "--rank 2 " * (method in ("lora", "qlora", "dpo"))
        data = {"dpo": "pairs", "classify": "labeled"}.get(method, "records")
        add(
            f"finetune {method}",
            f"finetune --base {{made}}/a --data {{folder}}/{data}.json --method {method} {rank}"
            f"{TUNE} --out {{out}} --overwrite",
            "m",
            "b",
        )
    for name, source in (("hf", "a-hf"), ("gguf", "a.gguf"), ("keras", "a.keras")):
        more = " --tokenizer {made}/a/tokenizer.json" if name == "keras" else ""
        add(f"import {name}", f"import {{made}}/{source}{more} --out {{out}} --overwrite", "m", "b")
    for name, out, old in (
        ("hf", "m", "a-hf"),
        ("gguf", "m.gguf", "a.keras"),
        ("keras", "m.keras", "a.keras"),
        ("h5", "m.h5", "a.keras"),
    ):
        line = f"export --format {name} --model {{made}}/b --out {{out}} --overwrite"
        add(f"export {name}", line, out, old)
    for name, old in (("int8", "a"), ("int4", "a")):
        line = f"generate x --max-new-tokens 1 --seed 1 --quantize {name} --model {{out}}"
        add(f"quantize {name}", line, "m", old)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="*", default=(), help="commands whose names begin so")
    arguments = parser.parse_args()
    names = ("kills", "saving", "old", "new", "mixed", "left")
    print(f"{'command':<20}" + "".join(f"{name:>8}" for name in names))
    rng, total = random.Random(arguments.seed), Outcome()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        with Launcher() as launcher:
            chosen = commands(folder, launcher, arguments.only)
            for number, command in enumerate(chosen):
                left = (arguments.kills - total.kills) / (len(chosen) - number)
                log = folder / f"{number}.log"
                outcome = campaign(launcher, command, round(left), rng, log)
                show(command.name, outcome)
                for item in vars(total):
                    setattr(total, item, getattr(total, item) + getattr(outcome, item))
        total.left += [str(path) for path in unfinished(folder)]
    show("all", total)
    for what in (*total.mixed, *total.left):
        print(what)
    return 1 if total.mixed or total.left else 0


def show(name: str, outcome: Outcome) -> None:
    """A row of the table."""
    counts = (outcome.kills, outcome.saving, outcome.old, outcome.new)
    counts += (len(outcome.mixed), len(outcome.left))
    print(f"{name:<20}" + "".join(f"{count:>8}" for count in counts), flush=True)


if __name__ == "__main__":
    sys.exit(main())
