"""Paths of people: links in circles, pipes, devices."""

import os
import subprocess
import sys
import threading

import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.storage import paths
from minigpt_tf.storage.paths import read_stream, real_path
from tests.conftest import ROOT

MOST = 1 << 20


def test_a_link_to_itself_has_a_path(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "there").symlink_to("file")
    assert real_path(tmp_path / "loop") == tmp_path.resolve() / "loop"
    assert real_path(tmp_path / "there") == tmp_path.resolve() / "file"


def test_files_and_pipes_are_read_and_what_has_no_end_is_refused(tmp_path, monkeypatch):
    file, pipe = tmp_path / "a.txt", tmp_path / "pipe"
    file.write_bytes(b"one\ntwo")
    os.mkfifo(pipe)
    assert read_stream(file, MOST) == b"one\ntwo"
    writer = threading.Timer(0.3, lambda: pipe.write_bytes(b"three"))
    writer.start()
    assert read_stream(pipe, MOST) == b"three"
    writer.join()
    assert read_stream("/dev/null", MOST) == b""
    with pytest.raises(DataError, match="/dev/zero: has more than 1 MiB"):
        read_stream("/dev/zero", MOST)
    with pytest.raises(DataError, match=r"none: cannot be read: No such file"):
        read_stream(tmp_path / "none", MOST)
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_stream(tmp_path, MOST)
    monkeypatch.setattr(paths, "SECONDS_TO_WRITER", 0.2)
    with pytest.raises(DataError, match="is a pipe to which no process writes"):
        read_stream(pipe, MOST)


def test_a_slow_writer_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "SECONDS_TO_WRITER", 0.1)
    here, there = os.pipe()
    threading.Timer(0.5, lambda: (os.write(there, b"late"), os.close(there))).start()
    assert read_stream(f"/dev/fd/{here}", MOST) == b"late"
    os.close(here)


def test_prompts_come_from_the_output_of_a_command(trained_folder):
    words = f"{sys.executable} -m minigpt_tf generate --model {trained_folder} --greedy --json"
    words += " --max-new-tokens 1 --prompts <(echo 'he was')"
    done = subprocess.run(["bash", "-c", words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and '"prompt": "he was"' in done.stdout
