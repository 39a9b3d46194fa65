"""`generate` as a person types it: prompts from everywhere, samples, JSON."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from minigpt_tf.__main__ import main
from tests.conftest import ROOT

GREEDY = ["--greedy", "--max-new-tokens", "4"]


def output_of(arguments, capsys):
    assert main(arguments) == 0
    return capsys.readouterr().out


class Pipe(io.StringIO):
    """Standard input that is not a terminal."""

    def __init__(self, text):
        super().__init__(text)
        self.buffer = io.BytesIO(text.encode())


@pytest.fixture
def generate(trained_folder):
    return ["generate", "--model", str(trained_folder), *GREEDY]


def test_a_prompt_may_come_from_anywhere(generate, tmp_path, capsys, monkeypatch):
    expected = output_of([*generate, "he was"], capsys)
    assert expected.startswith("he was ")
    for arguments in ([*generate, "-"], generate, [*generate, "--prompts", "-"]):
        monkeypatch.setattr(sys, "stdin", Pipe("he was\n"))
        assert output_of(arguments, capsys) == expected
    file = tmp_path / "prompts.txt"
    file.write_text("he was\n\n  \nthe river\n", encoding="utf-8")
    both = output_of([*generate, "--prompts", str(file)], capsys)
    assert both == expected + output_of([*generate, "the river"], capsys)


def test_json_of_several_answers(generate, tmp_path, capsys):
    file = tmp_path / "prompts.txt"
    file.write_text("he was\nzaphod\n", encoding="utf-8")
    words = [*generate, "--prompts", str(file), "--num-samples", "2", "--json"]
    described = json.loads(output_of(words, capsys))
    assert [r["prompt"] for r in described["results"]] == ["he was"] * 2 + ["zaphod"] * 2
    for result in described["results"]:
        assert result["completion_tokens"] == len(result["ids"]) == len(result["logprobs"]) == 4
        assert result["finish_reason"] == "length" and result["tokens_per_second"] > 0
    assert "not in the model's vocabulary: 'zaphod'" in described["results"][2]["notices"]


def test_samples_differ_and_a_seed_fixes_them(generate, capsys):
    words = [*generate[:3], "he was", "--num-samples", "3", "--seed", "4", "--temperature", "2"]
    first = output_of(words, capsys)
    assert first == output_of(words, capsys)
    assert len(set(first.splitlines())) == 3


def test_sampling_options_reach_the_sampler(generate, capsys):
    free = json.loads(output_of([*generate, "he was", "--json"], capsys))
    first = free["ids"][0]
    biased = [*generate, "he was", "--json", "--logit-bias", f"{first}=-100", "--logit-bias", "7=0"]
    assert json.loads(output_of(biased, capsys))["ids"][0] != first
    word = free["text"].split()[1]
    stopped = json.loads(output_of([*generate, "he was", "--json", "--stop", word], capsys))
    assert stopped["finish_reason"] == "stop" and word not in stopped["text"]
    full = [*generate, "he was", "--json", "--context-full", "stop", "--max-new-tokens", "99"]
    assert json.loads(output_of(full, capsys))["finish_reason"] == "context"


def test_int8_answers_and_keeps_its_file(folder_copy, capsys):
    words = ["generate", "he was", "--model", str(folder_copy), *GREEDY, "--quantize", "int8"]
    first = output_of([*words, "--threads", "1"], capsys)
    assert (folder_copy / "model.int8.h5").is_file()
    assert output_of(words, capsys) == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompts", "nowhere.txt"], "nowhere.txt: cannot be read: No such file"),
        (["--prompts", os.devnull], "contains no prompt"),
        (["--prompts", "-", "he was"], "PROMPT and --prompts: give one of them"),
        (["he was", "--num-samples", "0"], "num_samples=0: must be at least 1"),
        (["he was", "--logit-bias", "5"], "expected a token id and a number, such as 262=-5"),
        (["he was", "--logit-bias", "99999=1"], "99999 is outside the vocabulary of 500"),
        (["he was", "--stop", ""], "stop: an empty text"),
        (["he was", "--threads", "0"], "threads=0"),
        (["he was", "--quantize", "int3"], "invalid choice: 'int3'"),
    ],
)
def test_impossible_requests_get_one_line(options, message, generate, capsys):
    try:
        status = main([*generate[:3], *options])
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    assert status == 2 and message in captured.err and captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_without_a_prompt_in_a_terminal_it_says_what_to_do(generate, capsys, monkeypatch):
    terminal = Pipe("")
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    assert main(generate) == 2
    assert "there is no PROMPT" in capsys.readouterr().err


LOADED = """
import sys
from minigpt_tf.__main__ import main
assert main(["generate", "he was " * 10, "--model", sys.argv[1], "--max-new-tokens", "9"]) == 0
slow = {"numba", "llvmlite", "h5py", "tokenizers", "tensorflow", "keras", "jinja2", "psutil"}
print(sorted(slow & set(sys.modules)), file=sys.stderr)
"""


def test_a_later_start_imports_nothing_slow(trained_folder, tmp_path):
    command = [sys.executable, "-c", LOADED, str(trained_folder)]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for loaded in ("['llvmlite', 'numba']", "[]"):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.stderr.splitlines()[-1] == loaded
        assert done.stdout.startswith("he was")


@pytest.mark.parametrize("seconds", [1.0, 1.5, 2.0, 3.0])
def test_ctrl_c_ends_a_run_that_compiles(seconds, trained_folder, tmp_path):
    words = [sys.executable, "generate.py", "he was", "--model", str(trained_folder)]
    process = subprocess.Popen(
        [*words, "--max-new-tokens", "1000000"],
        cwd=ROOT,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in err


@pytest.mark.parametrize(
    "command",
    [
        "generate.py - <&-",
        "generate.py --prompts - <&-",
        "generate.py 'he was' >&-",
        "generate.py 'he was' 2>&-",
        "-m minigpt_tf chat <&-",
        "-m minigpt_tf chat >&-",
    ],
)
def test_closed_streams_cause_no_traceback(command, trained_folder):
    words, _, streams = command.rpartition(" ")
    model = f"--model {trained_folder} --max-new-tokens 3"
    done = subprocess.run(
        f"{sys.executable} {words} {model} {streams}",
        shell=True,
        cwd=ROOT,
        input="he was\n",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr and done.returncode in (0, 2)
