"""The last line of defense: whatever ends a verb is one line, and a status."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.cli import doctor
from minigpt_tf.cli.explaining import explain
from minigpt_tf.errors import DataError
from tests.conftest import ROOT


class InternalError(Exception):
    """Named as TensorFlow's."""


InternalError.__module__ = "tensorflow.python.framework.errors_impl"


def failing(monkeypatch, error):
    def run(arguments):
        raise error

    monkeypatch.setattr(doctor, "run", run)
    return main(["doctor"])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("a.txt: is \x1b[1m\nempty"), r"a.txt: is \x1b[1m empty"),
        (OSError(28, "No space left on device", "b\x07.h5"), r"b\x07.h5: No space left on device"),
        (IsADirectoryError(21, "Is a directory"), "Is a directory"),
        (OSError("odd"), "odd"),
        (DataError("\udcc3\udca9.txt: \udcff \ud83d"), r"\udcc3\udca9.txt: \udcff \ud83d"),
        (DataError("\udcc3\udca9.txt: \udcff"), r"é.txt: \xff"),
        (MemoryError(), "there is not enough memory for this"),
        (RuntimeError("can't start new thread"), "there is not enough memory for this"),
        (
            MemoryError("Unable to allocate 9.1 TiB for an array with shape (9,)"),
            "there is not enough memory for this: 9.1 TiB more would be needed",
        ),
        (RecursionError("maximum"), "something that was read is nested too deeply"),
        (ModuleNotFoundError("No module named 'numpy'", name="numpy.core"), "numpy cannot be"),
    ],
)
def test_what_a_person_can_mend_is_one_line(monkeypatch, capsys, error, line):
    assert failing(monkeypatch, error) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {line}") and said.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        ValueError("embedded null byte"),
        SystemError("error return without exception set"),
        UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"),
        KeyError("loss"),
        ZeroDivisionError(),
        InternalError("XLA failed\n" + "at 0x7f\n" * 500),
    ],
)
def test_a_fault_of_ours_comes_with_a_file_to_send(monkeypatch, capsys, tmp_path, error):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert failing(monkeypatch, error) == 70
    said = capsys.readouterr().err
    assert said.startswith(f"error: unexpected {type(error).__name__}") and said.count("\n") == 1
    assert len(said) < 700 and "Traceback" not in said
    report = Path(re.search(r"with the file (\S+)", said)[1]).read_text()
    assert "Traceback" in report and "command: 'doctor'" in report and "def run" not in said
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert failing(monkeypatch, error) == 70
    assert "with what --debug shows" in capsys.readouterr().err


def test_the_debug_option_shows_where_it_failed(monkeypatch):
    monkeypatch.setattr(doctor, "run", lambda arguments: {}["x"])
    with pytest.raises(KeyError):
        main(["doctor", "--debug"])


def test_a_reader_that_has_gone_and_ctrl_c_have_their_own_status(monkeypatch, capsys):
    assert failing(monkeypatch, KeyboardInterrupt()) == 130
    assert "interrupted" in capsys.readouterr().err


def command(code, folder, **environment):
    """Runs Python code in a process of its own, as a person's."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", **environment},
    )


MAIN = "import sys; sys.argv[1:] = {words}; from minigpt_tf.__main__ import main; sys.exit(main())"


@pytest.mark.parametrize(
    ("module", "content", "words", "said"),
    [
        ("numpy", "raise ImportError('DLL load failed')", ["generate", "a"], "DLL load failed"),
        ("numpy", "raise AttributeError('_ARRAY_API not found')", ["summary"], "_ARRAY_API"),
        ("netron", "raise SystemError('bad ABI')", ["view"], "bad ABI"),
    ],
)
def test_a_broken_library_is_named(tmp_path, module, content, words, said):
    (tmp_path / f"{module}.py").write_text(content)
    done = command(MAIN.format(words=words), tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"error: {module} cannot be imported" in done.stderr and said in done.stderr


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["generate", "--help"], ["summary", "--preset", "lecture"]]
)
def test_a_full_disk_below_the_output_is_said(words):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "minigpt_tf", *words],
            **{"stdout": full, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT},
        )
    assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")


def test_what_fails_in_a_thread_or_at_exit_has_no_traceback(tmp_path):
    code = """
import atexit, threading
import minigpt_tf.cli.doctor as doctor
def fail(): raise DataError("in a thread")
from minigpt_tf.errors import DataError
def run(arguments):
    atexit.register(lambda: 1 / 0)
    thread = threading.Thread(target=fail); thread.start(); thread.join()
    return 0
doctor.run = run
"""
    done = command(code + MAIN.format(words=["doctor"]), tmp_path)
    assert (done.returncode, done.stderr) == (0, "error: in a thread\n")


def test_characters_that_a_terminal_lacks_are_replaced(tmp_path):
    code = "import minigpt_tf.cli.doctor as d; d.run = lambda _: print('\\u00e9\\u4e2d') or 0\n"
    environment = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = command(code + MAIN.format(words=["doctor"]), tmp_path, **environment)
    assert (done.returncode, done.stdout) == (0, "??\n")


def test_the_words_of_options_are_checked_before_argparse_fails(capsys):
    for word in ("--logit-bias=--", "--stop=--"):
        with pytest.raises(SystemExit) as end:
            main(["generate", "a", word])
        assert end.value.code == 2 and "two dashes are not a value" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["generate", "a", "--\x1b[31m"])
    assert end.value.code == 2 and r"--\x1b[31m" in capsys.readouterr().err


def test_long_messages_are_shortened():
    line, status = explain(DataError("word " * 10_000), [])
    assert len(line) == 1000 and line.endswith("…") and status == 2
