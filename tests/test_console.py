"""What is shown while the text is read: a line that rewrites itself, or a line now and then."""

import io

import pytest

from minigpt_tf import console
from minigpt_tf.console import ConsoleListener


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
    return clock


def test_a_terminal_shows_a_bar_with_the_time_left(clock):
    listener = ConsoleListener(Terminal())
    for done in range(0, 101, 10):
        listener.preparation("encoding", done, 100)
        clock.now += 1.5
    shown = listener.stream.getvalue().split("\r")
    assert "[======              ] encoding  30%  ETA 0:10" in shown
    assert shown[-1] == "" and shown[-2].isspace()  # it is gone at the end


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
    assert terminal.getvalue() == "\rlearning the vocabulary ..."
    listener.notice("something")
    assert terminal.getvalue().endswith("\r" + " " * 27 + "\rnote: something\n")
