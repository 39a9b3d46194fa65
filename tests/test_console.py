"""What a person sees: progress, tables, and text that cannot steer the terminal."""

import io
import re
import subprocess
import sys

import pytest

from minigpt_tf import console
from minigpt_tf.console import (
    UNLIMITED,
    ConsoleListener,
    one_line,
    print_framed,
    printable,
    table_lines,
    wrap,
)
from minigpt_tf.events import Progress
from tests.conftest import ROOT


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    monkeypatch.setenv("TERM", "xterm")
    return clock


def without_codes(shown):
    """What a terminal shows, without colors and movements of the cursor."""
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)


def test_a_terminal_shows_a_bar_with_the_time_left(clock):
    listener = ConsoleListener(Terminal())
    for done in range(0, 101, 10):
        listener.preparation("encoding", done, 100)
        clock.now += 1.5
    shown = listener.stream.getvalue()
    line = next(line for line in without_codes(shown).split("\r") if "30%" in line)
    assert line.endswith(" encoding  30%  ETA 0:10") and line.index("encoding") == 21
    assert shown.endswith("\r\x1b[1A\x1b[2K")  # the line is gone at the end
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # and the cursor is there


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_shows_all_of_a_step(width, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    listener = ConsoleListener(Terminal())
    clock.now += 1
    listener.progress(Progress(1234, 10_000, 0.5, 3.25, 0.125, 12_345.6, 4000))
    shown = without_codes(listener.stream.getvalue())
    words = "step 1,234/10,000 epoch 0.50 loss 3.250 accuracy 12.5% 12,346 tokens/s ETA 1:06:40"
    assert re.sub("[\u2500-\u257f]", "", shown).split() == words.split()
    assert max(map(len, shown.splitlines())) <= width


def test_what_is_done_at_once_shows_nothing(clock):
    for stream in (Terminal(), io.StringIO()):
        listener = ConsoleListener(stream)
        for done in (0, 50, 100):
            listener.preparation("encoding", done, 100)
        assert stream.getvalue() == ""


def test_a_file_gets_a_line_now_and_then(clock):
    listener = ConsoleListener(io.StringIO())
    listener.preparation("reading the text", 1, 1000)
    for done in range(0, 101, 10):
        listener.preparation("encoding", done, 100)
        clock.now += 6
    lines = listener.stream.getvalue().splitlines()
    assert lines == [
        "[====                ] encoding  20%  ETA 0:48",
        "[========            ] encoding  40%  ETA 0:36",
        "[============        ] encoding  60%  ETA 0:24",
        "[================    ] encoding  80%  ETA 0:12",
    ]


def test_work_of_unknown_length_is_named_and_taken_away(clock):
    terminal = Terminal()
    listener = ConsoleListener(terminal)
    listener.preparation("learning the vocabulary", 0, 0)
    assert "learning the vocabulary ..." in terminal.getvalue()
    listener.notice("something")
    assert terminal.getvalue().endswith("\x1b[2Knote: something\n")


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(term, clock, monkeypatch):
    monkeypatch.setenv("TERM", term)
    listener = ConsoleListener(Terminal())
    clock.now += 11
    listener.preparation("encoding", 1, 4)
    assert listener.stream.getvalue() == "[=====               ] encoding  25%  ETA 0:00\n"


def test_text_of_a_file_cannot_steer_the_terminal():
    assert printable("a\u00a0b\x00\n\tc\u200d\r\nd\x1b[2J") == "a b\\x00\n c\u200d\nd\\x1b[2J"
    assert one_line("a\r\n\x07b", 24) == "a \\x07b"
    assert one_line("x" * 25, 24) == "x" * 23 + "…" and one_line("x" * 24, 24) == "x" * 24
    assert one_line("\r\n" * 300, 5) == "    …"
    listener = ConsoleListener(io.StringIO())
    listener.notice("one\ntwo\x1b[31m")
    assert listener.stream.getvalue() == "note: one two\\x1b[31m\n"


def test_text_is_wrapped_by_columns_and_not_by_characters():
    assert wrap("one two  three\nfour", 8) == ["one two", "three", "four"]
    assert wrap("ab日本語", 5) == ["ab日", "本語"] and wrap("a bbbbbb", 4) == ["a", "bbbb", "bb"]


ROWS = [["模型", "1,234,567", "0.5"], ["a-model-with-a-very-long-name", "7", "12.25"]]
HEADER = ["model", "parameters", "loss"]


def test_a_table_by_hand():
    assert table_lines(ROWS, width=80, header=HEADER, indent=2) == [
        "  model                          parameters   loss",
        "  模型                            1,234,567    0.5",
        "  a-model-with-a-very-long-name           7  12.25",
    ]
    assert table_lines(ROWS, width=35, header=HEADER) == [
        "model             parameters   loss",
        "模型               1,234,567    0.5",
        "a-model-with-a-v           7  12.25",
        "ery-long-name",
    ]
    counts = [["one", "1", "2", "3"], ["two", "4", "5", "6"]]
    assert table_lines(counts, width=26, header=["model", "parameters", "loss", "bits"]) == [
        "model       one  two",
        "parameters    1    4",
        "loss          2    5",
        "bits          3    6",
    ]
    assert table_lines(ROWS, width=25, header=HEADER) == [
        "模型",
        "  parameters:  1,234,567",
        "  loss:        0.5",
        "a-model-with-a-very-long-",
        "name",
        "  parameters:  7",
        "  loss:        12.25",
    ]


@pytest.mark.parametrize("width", [24, 30, 40, 60, 80, UNLIMITED])
def test_no_cell_is_cut_at_any_width(width):
    lines = table_lines(ROWS, width=width, header=HEADER)
    text = "".join("".join(lines).split())
    for cell in ("模型", "1,234,567", "12.25"):
        assert cell in text
    assert "…" not in text and text.count("-") == 6
    assert all(len(line) + sum(c > "\u3000" for c in line) <= width for line in lines)


def test_what_is_printed_to_a_pipe_has_no_colors(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    long = "a_layer_with_a_name_that_is_longer_than_any_terminal_" * 3
    print_framed("t", [("Layer", 1), ("Param #", 1)], [[[(long, "bold")], [("5", "")]]], [], 88)
    shown = capsys.readouterr().out
    assert long in shown and "\x1b" not in shown


def test_rich_is_imported_for_what_is_laid_out_alone(trained_folder):
    """Neither --help nor the first token waits for it."""
    code = """
import sys
import minigpt_tf
from minigpt_tf.__main__ import main
main(["--help"])
for verb in ("generate", "train", "finetune", "evaluate", "ask", "classify", "summary"):
    try:
        main([verb, "--help"])
    except SystemExit:
        pass
assert main(["generate", "he was", "--model", sys.argv[1]]) == 0
assert main(["evaluate", "--samples", "0", "--json", "--model", sys.argv[1]]) == 0
found = [name for name in sys.modules if name.partition(".")[0] == "rich"]
assert not found, found
assert main(["summary", "--model", sys.argv[1]]) == 0
assert "rich.table" in sys.modules
"""
    command = [sys.executable, "-c", code, str(trained_folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
