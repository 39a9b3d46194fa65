"""The reader of the output has gone, as with `| head -1`: what took long is kept all the same."""

import io
import json
import sys

import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.console import announce
from minigpt_tf.storage.json_files import read_object
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.conftest import SAMPLE
from tests.interop.folders import family_config, make_folder

GONE = 141
SIZES = "--vocab-size 500 --context-length 16 --num-layers 1 --num-heads 2 --embed-dim 16"
RUN = "--steps 4 --batch-size 4 --eval-every 2 --dtype float32 --sample-tokens 2"


class Left(io.StringIO):
    """A pipe whose reader goes after some lines."""

    def __init__(self, lines: int = 0) -> None:
        super().__init__()
        self.lines = lines

    def write(self, text: str) -> int:
        if self.getvalue().count("\n") >= self.lines:
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(text)


def left(words, monkeypatch, lines=0):
    """The status of a command whose output nobody reads any more."""
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", Left(lines))
        return main(list(map(str, words)))


def states(out):
    return sorted(file.stem for file in (out / "checkpoint").glob("state-*"))


@pytest.mark.parametrize("lines", [0, 1])
def test_a_run_is_saved_at_its_first_evaluation_and_resumes(lines, tmp_path, monkeypatch):
    out = tmp_path / "m"
    words = ["train", "--data", SAMPLE, "--out", out, *f"{SIZES} {RUN}".split()]
    assert left(words, monkeypatch, lines) == GONE
    assert states(out) == ["state-00000002"] and (out / "model.h5").exists()
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert states(out)[-1] == "state-00000004"


def test_fine_tuning_is_saved_too(tmp_path, monkeypatch):
    rows = [{"instruction": f"who is {i}", "output": f"he was {i}."} for i in range(12)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    tokenizer = train_tokenizer("bpe", [json.dumps(rows)], 280)
    config = family_config("llama", vocab_size=tokenizer.vocab_size, context_length=128)
    make_folder(tmp_path / "base", config, tokenizer)
    words = ["finetune", "--base", tmp_path / "base", "--data", tmp_path / "rows.json"]
    assert left([*words, "--out", tmp_path / "m", *RUN.split()], monkeypatch) == GONE
    assert states(tmp_path / "m") == ["state-00000002"]


def test_files_that_were_asked_for_are_written(trained_folder, tmp_path, monkeypatch):
    (tmp_path / "queries.txt").write_text("who is hardy\n")
    words = ["ask", "--models", trained_folder, "--queries", tmp_path / "queries.txt"]
    assert left([*words, "--out", tmp_path / "answers.json"], monkeypatch) == GONE
    assert read_object(tmp_path / "answers.json")["queries"]
    words = ["evaluate", "--model", trained_folder, "--samples", "0"]
    assert left([*words, "--picture", tmp_path / "a.png"], monkeypatch) == GONE
    assert (tmp_path / "a.png").stat().st_size


def test_only_a_reader_that_has_gone_is_ignored(monkeypatch):
    monkeypatch.setattr("sys.stdout", Left(1))
    announce(["read", "not read", "nor this"])
    assert sys.stdout.getvalue() == "read\n"


def test_a_full_disk_is_not_ignored(monkeypatch):
    def full(text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sys.stdout.write", full)
    with pytest.raises(OSError, match="No space left"):
        announce(["no room"])
