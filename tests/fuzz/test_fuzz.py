"""A minute of damaged files and odd command lines; and whether the harness would see a fault."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fuzz.kinds import KINDS, NAMES, make_case, reads, seed_content, written_case

SEEDED = "import sys; from pathlib import Path; from tests.fuzz import child; child.prepare()\n"

JUDGED = """
import minigpt_tf.cli.doctor as doctor
from tests.fuzz.kinds import Case
child.SECONDS = 4
seeds, folder = map(Path, sys.argv[1:])
folder.mkdir()
def run(arguments):
    {action}
doctor.run = run
found = child.run_case(Case("a kind", folder, ["doctor"]), seeds, folder)
print(found.fault, found.detail)
"""

SOUND = """
import json
from tests.fuzz.kinds import Case
seeds, cases = Path(sys.argv[1]), Path(sys.argv[2])
for line in sys.stdin:
    kind, folder, words = json.loads(line)
    found = child.run_case(Case(kind, Path(folder), words), seeds, cases)
    if found.status or found.fault:
        print(kind, words, found, (Path(folder) / "stderr").read_text()[-300:])
"""


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> Path:
    from tests.fuzz.__main__ import make_seeds

    root = tmp_path_factory.mktemp("fuzz")
    return make_seeds(root, root / "cache")


def in_a_worker(code, *words, stdin=""):
    """What Python code prints that has all imported as a worker has."""
    done = subprocess.run(
        [sys.executable, "-c", SEEDED + code, *map(str, words)],
        **{"cwd": ROOT, "input": stdin, "capture_output": True, "text": True},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("action", "fault"),
    [
        ("return 0", ""),
        ("raise ValueError('x')", "traceback"),
        ("import traceback; traceback.print_exc(); raise RuntimeError", "traceback"),
        ("while True: pass", "hang"),
        ("x = bytearray(1700 << 20); return 0", "memory"),
        ("x = bytearray(9 << 30); return 0", "memory"),
        ("import os; os.system('true'); return 0", "code"),
        ("import os; os.execvp('true', ['true'])", "code"),
        ("import subprocess; subprocess.run(['true']); return 0", "code"),
        ("open('/tmp/minigpt-fuzz-canary', 'a'); return 0", "code"),
        ("open(sys.argv[1] + '/secret'); return 0", "code"),
        ("import socket; socket.create_connection(('127.0.0.1', 9), 1)", "code"),
        ("import os; os.abort()", "signal"),
        ("return 5", "status"),
        ("return 2", "words"),
        ("print('error: \\x1b[1m', file=sys.stderr); return 2", "words"),
    ],
)
def test_the_judge_sees_every_fault(tmp_path, action, fault):
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "secret").write_text("secret")
    said = in_a_worker(JUDGED.format(action=action), tmp_path / "seeds", tmp_path / "case")
    assert said.partition(" ")[0] == fault, said


def test_every_command_reads_the_sound_file(seeds, tmp_path):
    """Else what is damaged would be refused for another reason than its damage."""
    import json

    lines, number = [], itertools.count()
    for kind, of in KINDS.items():
        for name, command in itertools.product(of.files, dict.fromkeys(of.commands)):
            if name[:7] == "payload" or not reads(command, name):
                continue
            folder = tmp_path / str(next(number))
            folder.mkdir()
            content = seed_content(seeds, name)
            case = written_case(kind, name, command, content, seeds, folder)
            lines.append(json.dumps([kind, str(folder), case.words]))
    said = in_a_worker(SOUND, seeds, tmp_path, stdin="\n".join(lines))
    assert len(lines) > 60 and not said, said


def test_a_seed_draws_the_same_inputs(seeds, tmp_path):
    def drawn(folder, seed):
        found = []
        for kind in NAMES:
            place = tmp_path / folder / kind
            place.mkdir(parents=True)
            case = make_case(kind, 3, seed, seeds, place)
            files = {f.relative_to(place): f.read_bytes() for f in place.rglob("*") if f.is_file()}
            found.append(([word.replace(folder, "") for word in case.words], files))
        return found

    first = drawn("first", 1)
    assert first == drawn("again", 1) and first != drawn("other", 2)


def test_a_minute_of_damage(tmp_path):
    words = [sys.executable, "-m", "tests.fuzz", "--minutes", "1", "--failing", str(tmp_path)]
    words += ["--seed", os.environ.get("MINIGPT_FUZZ_SEED", "0")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
