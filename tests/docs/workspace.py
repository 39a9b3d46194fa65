"""Where snippets run: a folder that looks like a clone, and the models that they need."""

import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Snippet, all_snippets

COMMANDS = {"python": "", "minigpt": " -m minigpt_tf"}
"""What stands for a program -> what the interpreter of the tests gets first."""
LINKED = ("data", "train.py", "generate.py", "benchmarks", "notebooks", "docs", "tests")
SECONDS = 3600
"""For one snippet, on a busy machine."""
RECITES, TRAIN = "ramanujan", "python train.py --data data/ramanujan.txt"
"""The model of the quick start, and what makes it; for other models that has --out."""
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
        if snippet.language == "python":
            return self._shelf.session(self.folder, snippet).run(snippet.code)
        done = run_in(self.folder, ["bash", "-euo", "pipefail", "-c", snippet.code])
        assert done.returncode == 0, f"{snippet.code}\n{done.stdout}\n{done.stderr}"
        return done.stdout


class Session:
    """A Python in a workspace in which blocks that continue each other run: see session.py."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.done = folder, ()
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "docs" / "session.py")],
            cwd=folder,
            env=environment_in(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def run(self, code: str) -> str:
        """What the code prints. Fails if it fails."""
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        reply = self._process.stdout.readline() if ready else ""
        if not reply:
            self.close()
            self._errors.seek(0)
            pytest.fail(f"{code}\nPython ended, or took {SECONDS} s\n{self._errors.read()[-3000:]}")
        failed, printed, errors = json.loads(reply)
        assert not failed, f"{code}\n{printed}\n{errors}"
        self.done = (*self.done, code)
        return printed

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


class Shelf:
    """Models that pages need: taken from models/ of the clone, or each made once."""

    def __init__(self, folder: Path, may_train: bool) -> None:
        self.folder, self._may_train = folder, may_train
        self._workspace: Workspace | None = None
        self._session: Session | None = None

    def session(self, folder: Path, snippet: Snippet) -> Session:
        """A Python in which the blocks that the snippet continues have run, and nothing else.

        There is one at a time: pages come one after the other, and a Keras takes half a gigabyte.
        """
        old = self._session
        if old and snippet.earlier and (old.folder, old.done) == (folder, snippet.earlier):
            return old
        self.close()
        self._session = Session(folder)
        for code in snippet.earlier:
            self._session.run(code)
        return self._session

    def close(self) -> None:
        """Ends the Python that is open."""
        if self._session:
            self._session.close()
            self._session = None

    def copy(self, name: str, to: Path) -> None:
        """Puts models/`name` there. Skips if it cannot be made here."""
        model = ROOT / "models" / name
        if not (model / "config.json").exists():
            model = self.folder / "models" / name
        if not model.exists():
            self._make(name)
        shutil.copytree(model, to, copy_function=_link)

    def _make(self, name: str) -> None:
        """Makes it as a page says."""
        words = re.compile(
            f"{re.escape(TRAIN)}$" if name == RECITES else rf"--out models/{name}(\s|$)"
        )
        found = (s for s in all_snippets() if words.search(s.code.strip()) and not s.not_run)
        snippet = next(found, None)
        assert snippet, f"no page makes models/{name}"
        if not (self._may_train or snippet.quick):
            pytest.skip(f"no models/{name} in the clone: make it, or use --all-snippets")
        if self._workspace is None:
            self._workspace = Workspace(self.folder, self)
        self._workspace.run(snippet)


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
    """Runs a command in a workspace."""
    return subprocess.run(
        words,
        cwd=folder,
        env=environment_in(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def environment_in(folder: Path) -> dict[str, str]:
    """Variables with which the programs of a workspace are found first."""
    path = f"{folder / '.bin'}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
