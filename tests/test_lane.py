"""The quick lane leaves out what tests/slow.txt names, and nothing that is gone is named there."""

import re

from tests.conftest import ROOT, SLOW, SLOW_FILE


def test_names_of_slow_tests():
    tests = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        tests |= {f"{path.name}::{name}" for name in re.findall(r"^ *def (test_\w+)", text, re.M)}
    gone = sorted(SLOW - tests)
    assert not gone, f"{SLOW_FILE} names tests that are gone: take them out: {gone}"


def test_each_room_has_quick_tests():
    for room in (path for path in (ROOT / "tests").iterdir() if list(path.glob("test_*.py"))):
        names = {
            f"{path.name}::{name}"
            for path in room.glob("test_*.py")
            for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M)
        }
        assert len(names - SLOW) > len(names) / 4, room
