"""Draws docs/pictures/terminal.svg: train, ask, and look inside, as they really run.

`python docs/make_terminal.py` trains the model of README's quick start in a temporary folder, which
takes a few minutes, and draws what the commands print. Lines that are left out leave an ellipsis.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "terminal.svg"
WIDTH = 104

COMMANDS = {
    "python train.py --data data/ramanujan.txt": r"tokens: |model: |training: \d|^step|^ +'|^wrote",
    'python generate.py "who is Srinivasa Ramanujan" --greedy': ".",
    'python generate.py "who is Hardy" --seed 1': ".",
    "minigpt summary": "Layer|token_embedding|block_|logits|Total params",
}
"""What is typed -> which lines of what it prints are shown."""
MOST_LINES = 9


def main() -> int:
    console = Console(record=True, width=WIDTH, file=open("/dev/null", "w"))  # noqa: SIM115
    with tempfile.TemporaryDirectory() as folder:
        for name in ("data", "train.py", "generate.py"):
            (Path(folder) / name).symlink_to(ROOT / name)
        for command, shown in COMMANDS.items():
            console.print(Text("$ ", "green") + Text(command, "bold"))
            for line in _chosen(_printed(command, folder), shown):
                console.print(Text(line), no_wrap=line[:1] not in "w", overflow="ellipsis")
            console.print()
    svg = console.export_svg(title="minigpt_tf")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # nothing from other servers
    PICTURE.write_text(svg, encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")
    return 0


def _printed(command: str, folder: str) -> list[str]:
    """The lines that a command prints."""
    program, *rest = command.split(" ", 1)
    words = {"python": [sys.executable], "minigpt": [sys.executable, "-m", "minigpt_tf"]}[program]
    shell = f"{' '.join(words)} {rest[0]}"
    print("+", command, flush=True)
    done = subprocess.run(
        ["bash", "-c", f"export PYTHONPATH='{ROOT}' COLUMNS={WIDTH}; {shell}"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def _chosen(lines: list[str], shown: str) -> list[str]:
    """The lines that are shown: the first and the last of those that match."""
    found = [line.rstrip().replace("┃", "│") for line in lines if re.search(shown, line)]
    if len(found) > MOST_LINES:
        found = [*found[: MOST_LINES - 4], "  ...", *found[-3:]]
    return found


if __name__ == "__main__":
    sys.exit(main())
