"""The cache: entries that are whole or not there, whatever happens to the process or the disk."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from minigpt_tf.config import CACHE_DAYS
from minigpt_tf.errors import DataError
from minigpt_tf.storage.cache import cache_folder, open_entry
from minigpt_tf.storage.scratch import scratch_folder
from tests.conftest import ROOT, SAMPLE


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The cache folder of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


def kept(content, key="key", made=None, problem=""):
    """The content of the entry; it is `content` only where there was none."""
    with open_entry({"key": key}) as entry:
        assert entry.problem == problem
        if entry.facts is None:
            (entry.folder / "file").write_text(content)
            if made is not None:
                made.append(content)
            assert entry.finish({"length": len(content)}) == entry.facts
        text = (entry.folder / "file").read_text()
        assert entry.facts == {"length": len(text)}
        return text


def entry_of(root):
    (entry,) = root.iterdir()
    return entry


def test_an_entry_is_made_once_for_a_key(root):
    made = []
    assert kept("one", made=made) == kept("two", made=made) == "one"
    assert kept("three", key="other", made=made) == "three"
    assert made == ["one", "three"] and len(list(root.iterdir())) == 2
    assert entry_of(root.parent) == root and root.name == "minigpt_tf"


def test_a_home_without_the_variable_has_its_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == tmp_path / ".cache" / "minigpt_tf"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("file", lambda content: content[:-1]),
        ("file", lambda content: b"0" + content[1:]),
        ("entry.json", lambda content: content[:-10]),
        ("entry.json", lambda content: b""),
        ("entry.json", lambda content: b"[]"),
        ("entry.json", lambda content: content.replace(b'"length": 3', b'"length": 4')),
    ],
)
def test_a_damaged_entry_is_made_anew(name, damage, root):
    kept("one")
    file = entry_of(root) / name
    content = damage(file.read_bytes())
    assert content != file.read_bytes()
    file.write_bytes(content)
    assert kept("two") == "two" == kept("three")
    assert len(list(root.iterdir())) == 1


def test_an_entry_without_a_file_is_made_anew(root):
    for name in ("file", "entry.json"):
        kept("one")
        (entry_of(root) / name).unlink()
        assert kept("two") == "two"


def test_where_nothing_can_be_kept_it_is_made_and_said(root, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    root.parent.mkdir()
    root.write_text("a file in the place of the folder")
    problem = f"{root}: cannot be written to (File exists), so nothing is kept there"
    assert kept("one", problem=problem) == "one"
    assert kept("two", problem=problem) == "two"
    assert root.is_file() and not list((tmp_path / "temporary").iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_cache_that_may_not_be_read_is_not_used(root):
    kept("one")
    root.chmod(0)
    problem = f"{root}: cannot be written to (Permission denied), so nothing is kept there"
    assert kept("two", problem=problem) == "two"
    root.chmod(0o700)


def test_an_error_leaves_nothing(root):
    with pytest.raises(DataError, match="the text is damaged"), open_entry({}) as entry:
        (entry.folder / "file").write_text("half")
        raise DataError("the text is damaged")
    assert not list(root.iterdir())


def test_what_was_long_not_used_is_removed(root):
    def age(path, days):
        moment = time.time() - days * 24 * 60 * 60
        os.utime(path, (moment, moment))

    kept("old", key="old")
    age(entry_of(root), CACHE_DAYS + 1)
    kept("used", key="used")  # removes the old one
    assert kept("new", key="old") == "new"
    for entry in root.iterdir():
        age(entry, CACHE_DAYS + 1)
    kept("", key="used")  # it is not old now
    for name, days in [(".making-killed", 0), ("foreign", 99)]:
        (root / name).mkdir()
        age(root / name, days)
    with scratch_folder(root, ".making-") as now:
        kept("third", key="third")
        assert kept("", key="used") == "used" and kept("again", key="old") == "again"
        hidden = {path.name for path in root.iterdir() if len(path.name) < 64}
        assert hidden == {now.name, "foreign"}


SLOW = """
import sys, time
from minigpt_tf.storage.cache import open_entry
with open_entry({"key": "key"}) as entry:
    (entry.folder / "file").write_text("half")
    print("begun", flush=True)
    sys.stdin.readline()
    (entry.folder / "file").write_text(sys.argv[1])
    entry.finish({"length": len(sys.argv[1])})
    print((entry.folder / "file").read_text())
"""


def slow(word):
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, word],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_process_leaves_nothing_that_counts(root):
    with slow("killed") as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGKILL)
    assert kept("whole") == "whole" == kept("other")
    assert len(list(root.iterdir())) == 1


def test_two_processes_that_make_one_entry_do_not_disturb_each_other(root):
    with slow("first") as first, slow("second") as second:
        for process in (first, second):
            assert process.stdout.readline() == "begun\n"
        assert first.communicate("\n")[0] == "first\n"
        assert second.communicate("\n")[0] == "first\n"  # the entry that was there by then
    assert kept("other") == "first" and len(list(root.iterdir())) == 1


SMALL_DISK = """
import resource, sys
from minigpt_tf.__main__ import main
size = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # no file may grow beyond it
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("size", [100, 3000])
def test_a_full_disk_is_an_error_in_a_line(size, root, tmp_path):
    """It fills with the tokenizer, and with the ids."""
    text = tmp_path / "long.txt"
    text.write_text(SAMPLE.read_text(encoding="utf-8") * 3)
    arguments = ["train", "--data", str(text), "--out", str(tmp_path / "m"), "--tokenizer", "char"]
    done = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, str(size), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {root}: cannot be written to (File too large): make")
    assert "XDG_CACHE_HOME" in done.stderr
    entries = list(root.iterdir())
    assert len(entries) == (1 if size == 3000 else 0)
    for entry in entries:  # the tokenizer, whole
        assert json.loads((entry / "entry.json").read_text())["facts"] == {}
