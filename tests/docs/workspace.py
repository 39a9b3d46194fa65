"""Where snippets run: a folder that looks like a clone, and the models that they need."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Snippet, all_snippets

COMMANDS = {"python": "", "minigpt": " -m minigpt_tf"}
"""What stands for a program -> what the interpreter of the tests gets first."""
LINKED = ("data", "train.py", "generate.py", "benchmarks", "notebooks", "docs", "tests")
SECONDS = 3600
"""For one snippet, on a busy machine."""
TRAIN = "python train.py --data data/ramanujan.txt"
GGUF = "smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf"


class Workspace:
    """A page's folder. Its snippets run in it one after the other."""

    def __init__(self, folder: Path, shelf: "Shelf") -> None:
        self.folder, self._shelf = folder, shelf
        (folder / "models").mkdir(parents=True)
        for name in LINKED:
            (folder / name).symlink_to(ROOT / name)
        assets = os.environ.get("MINIGPT_ASSETS", ROOT.parent / "shared" / "assets")
        for file in (*Path(assets).glob("*.t[xs]*"), Path(assets) / GGUF):
            if file.is_file():
                (folder / file.name).symlink_to(file)
        make_programs(folder / ".bin")

    def run(self, snippet: Snippet) -> str:
        """What a snippet prints. Fails if it fails."""
        for name in snippet.needs:
            if "." in name:
                if not (self.folder / name).exists():
                    pytest.skip(f"no {name} in MINIGPT_ASSETS")
            elif not (self.folder / "models" / name).exists():
                self._shelf.copy(name, self.folder / "models" / name)
        words = ["bash", "-euo", "pipefail", "-c", snippet.code]
        if snippet.language == "python":
            words = [sys.executable, "-c", "\n".join([*snippet.earlier, snippet.code])]
        done = run_in(self.folder, words)
        assert done.returncode == 0, f"{snippet.code}\n{done.stdout}\n{done.stderr}"
        return done.stdout


class Shelf:
    """Models that pages need: taken from models/ of the clone, or each made once."""

    def __init__(self, folder: Path, may_train: bool) -> None:
        self.folder, self._may_train = folder, may_train
        self._workspace: Workspace | None = None

    def copy(self, name: str, to: Path) -> None:
        """Puts models/`name` there. Skips if it cannot be made here."""
        model = ROOT / "models" / name
        if not (model / "config.json").exists():
            model = self.folder / "models" / name
        if not model.exists():
            if not self._may_train:
                pytest.skip(f"no models/{name} in the clone: train it, or use --all-snippets")
            self._make(name)
        shutil.copytree(model, to, copy_function=_link)

    def _make(self, name: str) -> None:
        if self._workspace is None:
            self._workspace = Workspace(self.folder, self)
        if name == "ramanujan":
            command = TRAIN
        elif name == "smollm2":
            command = f"minigpt import {Path(GGUF).name} --out models/smollm2"
            if not (self.folder / Path(GGUF).name).exists():
                pytest.skip(f"no {GGUF} in MINIGPT_ASSETS, to import models/smollm2 from")
        else:  # a page has the command that makes it
            pattern = re.compile(rf"--out models/{name}\b")
            self._workspace.run(next(s for s in all_snippets() if pattern.search(s.code)))
            return
        done = run_in(self.folder, ["bash", "-c", command])
        assert done.returncode == 0, done.stderr


def _link(source: str, target: str) -> str:
    """A file of a model is replaced, never changed, so that a hard link is a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def make_programs(folder: Path) -> None:
    """`python` and `minigpt` that are those of the tests."""
    folder.mkdir()
    for name, words in COMMANDS.items():
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{words} "$@"\n')
        (folder / name).chmod(0o755)


def run_in(folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a command in a workspace, with its programs found first."""
    path = f"{folder / '.bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    return subprocess.run(
        words,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
