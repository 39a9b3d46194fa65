"""Nothing that is printed steers a terminal; a pipe gets what was printed."""

import io
import os
import pty
import subprocess
import sys

import pytest

from minigpt_tf.terminal import TerminalStream, guarded, unguarded, without_controls
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("safe\rdone", r"safe\rdone"),
        ("a\r\nb\tc\u00a0d", "a\nb\tc\u00a0d"),
        ("\u202eexe.txt\u2066", r"\u202eexe.txt\u2066"),
        ("\x9b31m\x7f\u2028", r"\x9b31m\x7f\u2028"),
        ("שלום\u200f 👩\u200d🔬 می\u200cخواهم", "שלום\u200f 👩\u200d🔬 می\u200cخواهم"),
        ("\ud83d", r"\ud83d"),
    ],
)
def test_controls_are_written_out(text, shown):
    assert without_controls(text) == shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_stream_to_a_terminal_is_guarded_and_a_file_is_not():
    file, terminal = io.StringIO(), Terminal()
    assert guarded(file) is file is unguarded(file)
    stream = guarded(terminal)
    assert isinstance(stream, TerminalStream) and guarded(stream) is stream
    assert unguarded(stream) is terminal
    stream.writelines(["a\x1b", "b"])
    print("c\x08", file=stream)
    assert terminal.getvalue() == "a\\x1bb" + "c\\x08\n" and stream.isatty()


def shown_by_terminal(words, folder):
    """What a terminal gets of a command, as bytes."""
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "minigpt_tf", *words],
        **{"stdin": there, "stdout": there, "stderr": there, "cwd": folder},
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"},
    )
    os.close(there)
    found = b""
    while True:
        try:
            block = os.read(here, 4096)
        except OSError:  # the terminal's other side was closed
            break
        if not block:
            break
        found += block
    os.close(here)
    assert process.wait() == 0, found
    return found


def test_a_model_cannot_steer_the_terminal(tmp_path):
    from minigpt_tf import build_gpt_model, save_model_folder
    from minigpt_tf.text.tokenizers import train_tokenizer

    tokenizer = train_tokenizer("char", ["\x1b\x07\x9b\u202eab"], 20)
    model = build_gpt_model(
        tokenizer.vocab_size, 8, embed_dim=8, num_heads=2, ff_dim=8, num_layers=1
    )
    folder = save_model_folder(model, tokenizer, tmp_path / "model\x1b[2J")
    words = ["generate", "\x1b\x07\x9b\u202e", "--model", folder.name, "--max-new-tokens", "20"]
    words += ["--temperature", "5", "--seed", "1"]
    for more in ([], ["--no-stream"]):
        shown = shown_by_terminal([*words, *more], tmp_path)
        assert shown.startswith(rb"\x1b\x07\x9b\u202e")
        assert not {0x1B, 7} & set(shown) and "\x9b".encode() not in shown
    piped = subprocess.run(
        [sys.executable, "-m", "minigpt_tf", *words],
        **{"capture_output": True, "cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}},
    )
    assert piped.stdout.startswith("\x1b\x07\x9b\u202e".encode())  # a pipe gets the bytes
