"""The models of the tutorial, made as its chapters say, in build/pictures/."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "pictures"
BASES = {"triage": "base", "hr": "base", "finance": "base"}
"""Fine-tuned model -> what it starts from."""
TRAIN = "python train.py --data data/ramanujan.txt\n"
"""Makes the lecture's model, models/ramanujan."""
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@functools.cache
def tutorial_model(name: str) -> Path:
    """The folder of models/`name`. Makes it if it is not there."""
    folder = FOLDER / "models" / name
    if (folder / "config.json").exists():
        return folder
    FOLDER.mkdir(parents=True, exist_ok=True)
    for linked in ("data", "train.py"):
        if not (FOLDER / linked).exists():
            (FOLDER / linked).symlink_to(ROOT / linked)
    if name in BASES:
        tutorial_model(BASES[name])
    if name == "triage":
        run('open("questions.jsonl", "w")')
    run(f"--out models/{name}\n" if name != "ramanujan" else TRAIN)
    return folder


def run(words: str) -> str:
    """Runs the block of a chapter, or of a guide, that has these words in it; what it prints."""
    docs = ROOT / "docs"
    pages = [*sorted((docs / "tutorial").glob("*.md")), docs / "guide" / "train.md"]
    blocks = [match for page in pages for match in BLOCK.finditer(page.read_text("utf-8"))]
    language, code = next(match.groups() for match in blocks if words in match[2])
    if language == "python":
        command = [sys.executable, "-c", code]
    else:
        for program, stands_for in (("python", ""), ("minigpt", " -m minigpt_tf")):
            code = re.sub(rf"^{program} ", f'"{sys.executable}"{stands_for} ', code, flags=re.M)
        command = ["bash", "-euc", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "92"}
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{code}\n{done.stderr[-2000:]}")
    return done.stdout
