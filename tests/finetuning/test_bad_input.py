"""What cannot be done is said in one line, before anything is written."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

from minigpt_tf.__main__ import main
from minigpt_tf.cli import finetune as command_module
from minigpt_tf.events import Listener
from minigpt_tf.finetuning.supervised import SupervisedJob
from minigpt_tf.inference.adapter import load_adapter
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.storage.model_folder import ADAPTER_NAME
from minigpt_tf.text.chat_template import ChatTemplate
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.conftest import ROOT, tiny_config
from tests.interop.folders import family_config, make_folder

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ROWS = [{"instruction": f"Say the number {w}", "output": f"It is {w}."} for w in NUMBERS]
PAIRS = [{"prompt": f"Say {w}", "chosen": f"It is {w}.", "rejected": "No."} for w in NUMBERS]
RUN = ("--steps", "2", "--batch-size", "2", "--dtype", "float32", "--sample-tokens", "2")


def write_jsonl(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Bases and records, sound and unsound. Tests must not change them."""
    folder = tmp_path_factory.mktemp("bad")
    tokenizer = train_tokenizer("bpe", [json.dumps(ROWS)], 300)
    sizes = {"vocab_size": tokenizer.vocab_size, "context_length": 128}
    make_folder(folder / "base", family_config("llama", **sizes), tokenizer)
    make_folder(folder / "gpt2", family_config("gpt2", **sizes), tokenizer)
    make_folder(
        folder / "short", family_config("llama", **sizes | {"context_length": 16}), tokenizer
    )
    words = train_tokenizer("word", [json.dumps(ROWS)], 300)
    lecture = tiny_config("lecture", vocab_size=words.vocab_size, context_length=64)
    make_folder(folder / "word", lecture, words)
    write_jsonl(folder / "rows.jsonl", ROWS)
    write_jsonl(folder / "pairs.jsonl", PAIRS)
    write_jsonl(folder / "mixed.jsonl", ROWS[:3] + PAIRS[:3])
    write_jsonl(folder / "other.jsonl", [{"instruction": "a", "answer": "b"}])
    write_jsonl(folder / "long.jsonl", [{"instruction": "x", "output": "It is five. " * 200}] * 2)
    write_jsonl(folder / "same.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "b "}] * 2)
    (folder / "empty.jsonl").write_text("")
    (folder / "m.gguf").write_bytes(b"GGUF" + bytes(40))
    (folder / "hf").mkdir()
    (folder / "hf" / "config.json").write_text('{"model_type": "llama"}')
    (folder / "hf" / "model.safetensors").write_bytes(b"x")
    shutil.copytree(folder / "base", folder / "nan")
    with h5py.File(folder / "nan" / "model.h5", "r+") as file:
        datasets = []
        file.visit(lambda name: datasets.append(name) if name.endswith("up/kernel") else None)
        file[datasets[0]][0, 0] = np.nan
    shutil.copytree(folder / "base", folder / "int8")
    model = keras.models.load_model(folder / "base" / "model.h5", compile=False)
    model.quantize("int8")
    model.save(folder / "int8" / "model.h5")
    return folder


def words_of(files, out, *more, base="base", data="rows.jsonl"):
    place = ["--base", str(files / base), "--data", str(files / data), "--out", str(out)]
    return ["finetune", *place, *RUN, *more]


def refusal(capsys, words):
    """The one line that the command says where it refuses."""
    try:
        status = main(words)
    except SystemExit as end:  # of argparse
        status = end.code
    said = capsys.readouterr().err.strip()
    assert status == 2 and said.startswith("error: ") and "\n" not in said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("data", "more", "reason"),
    [
        ("empty.jsonl", (), "empty.jsonl: is empty"),
        ("mixed.jsonl", (), "line 4 is a record of the kind preference"),
        ("other.jsonl", (), "has 'instruction', 'answer', where these are needed"),
        ("long.jsonl", (), "its answer alone does not fit into the context of 128 tokens"),
        ("same.jsonl", ("--method", "dpo"), "'chosen' and 'rejected' are the same"),
        ("none.jsonl", (), "no such file"),
        ("rows.jsonl", ("--sheet", "a"), "--sheet is for files ending in .xlsx: drop it"),
        ("rows.jsonl", ("--quoting", "never"), "--quoting is for files ending in .csv .tsv .txt"),
    ],
)
def test_records(files, tmp_path, capsys, data, more, reason):
    out = tmp_path / "out"
    assert reason in refusal(capsys, words_of(files, out, *more, data=data))
    assert not out.exists()


@pytest.mark.parametrize(
    ("base", "more", "reason"),
    [
        ("nothing", (), "no such model folder"),
        ("m.gguf", (), "(minigpt import "),
        ("hf", (), "another tool, and is not a model folder: make a model folder of it first"),
        ("rows.jsonl", (), "is a file, not a model folder"),
        ("base/model.h5", (), "is a file of a model folder: name the folder"),
        ("nan", (), "feed_forward_up/kernel holds values that are not finite"),
        ("int8", (), "a model that Keras quantized"),
        ("int8", ("--method", "full"), "a model that Keras quantized"),
        ("short", (), "Alpaca's template: takes "),
        ("base", ("--max-length", "8"), "give a greater --max-length"),
    ],
)
def test_bases(files, tmp_path, capsys, base, more, reason):
    out = tmp_path / "out"
    assert reason in refusal(capsys, words_of(files, out, *more, base=base))
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (("--method", "full", "--base-bits", "4"), "of a quantized base are integers"),
        (("--val-split", "0.6", "--test-split", "0.5"), "leave nothing to train on"),
        (("--steps", "0"), "steps=0"),
        (("--rank", "0"), "rank=0"),
        (("--rank", "64"), "rank=64: query has 32 inputs and 32 outputs: choose at most 32"),
        (("--rank", "2000000000"), "choose at most 32"),
        (("--alpha", "0"), "alpha=0.0: must be a positive number"),
        (("--alpha", "nan"), "alpha=nan"),
        (("--alpha", "-1"), "alpha=-1.0"),
        (("--lora-dropout", "1"), "lora_dropout=1.0"),
        (("--beta", "0", "--method", "dpo"), "beta=0.0"),
        (("--targets", "nothing"), "choose of query, key, value, attention_output"),
        (("--warmup-steps", "9"), "warmup_steps=9: must be fewer than the 2 steps"),
        (("--method", "magic"), "invalid choice"),
    ],
)
def test_options(files, tmp_path, capsys, more, reason):
    out = tmp_path / "out"
    assert reason in refusal(capsys, words_of(files, out, *more))
    assert not out.exists()


def test_a_target_that_the_base_has_not_is_answered_with_those_it_has(files, tmp_path, capsys):
    words = words_of(files, tmp_path / "out", "--targets", "feed_forward_gate", base="gpt2")
    said = refusal(capsys, words)
    assert "the base has no such layer, but query, key, value, attention_output, feed_" in said


def test_the_base_is_never_written_to(files, tmp_path, capsys):
    base = shutil.copytree(files / "base", tmp_path / "base")
    before = {file.name: file.read_bytes() for file in base.iterdir()}
    for out in (base, base / "inner", tmp_path / "x" / ".." / "base"):
        words = words_of(files, out, "--overwrite")
        words[words.index("--base") + 1] = str(base)
        assert "choose another --out" in refusal(capsys, words)
    assert {file.name: file.read_bytes() for file in base.iterdir()} == before


def test_places_that_cannot_be_written_to(files, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert "is a file, not a folder" in refusal(capsys, words_of(files, tmp_path / "file"))
    assert "cannot be written to" in refusal(capsys, words_of(files, tmp_path / "file" / "x"))
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("calls", [0, 1])
def test_a_full_disk(files, tmp_path, capsys, monkeypatch, calls):
    """Full from the start nothing is begun; full later on the run can be gone on with."""
    sound, room = os.posix_fallocate, iter(range(calls))

    def allocate(*arguments):
        if next(room, None) is None:
            raise OSError(28, "No space left on device")
        return sound(*arguments)

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    out = tmp_path / "out"
    assert "No space left on device" in refusal(capsys, words_of(files, out))
    if not calls:
        assert not out.exists()
        return
    monkeypatch.undo()
    assert not (out / "model.h5").exists() and not list(out.rglob(".saving-*"))
    assert main(words_of(files, out, "--resume")) == 0
    assert load_folder(out).path == out


def test_a_run_that_diverges_at_once_leaves_nothing(files, tmp_path, capsys):
    out = tmp_path / "out"
    words = words_of(files, out, "--method", "full", "--learning-rate", "1e30")
    assert "learning rate 1e+30 is too high" in refusal(capsys, words)
    assert not out.exists()


def test_small_sets_and_word_models_are_trained(files, tmp_path, capsys):
    more = ("--batch-size", "64", "--val-split", "0.99", "--steps", "1")
    assert main(words_of(files, tmp_path / "out", *more, base="word")) == 0
    said = capsys.readouterr().out
    assert "split: 1 training, 9 validation" in said
    assert "the model has no token for it" in said
    assert load_folder(tmp_path / "out").tokenizer.kind == "word"


@pytest.mark.parametrize("place", ["build", "validate"])
def test_memory_that_runs_out_is_told_with_what_needs_less(
    files, tmp_path, capsys, monkeypatch, place
):
    import tensorflow as tf

    def exhausted(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "failed to allocate")

    name = {"build": "__init__", "validate": "validate"}[place]
    monkeypatch.setattr(SupervisedJob, name, exhausted)
    said = refusal(capsys, words_of(files, tmp_path / "out", "--method", "full"))
    assert re.search(r"out of memory: the run needs about 0\.[678] GiB: ", said)
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_resumed_must_be_the_same(files, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(words_of(files, out)) == 0
    capsys.readouterr()
    more = tmp_path / "more.jsonl"
    write_jsonl(more, [*ROWS, {"instruction": "Say zero", "output": "It is zero."}])
    words = words_of(files, out, "--resume")
    assert "rank was 8, now 4" in refusal(capsys, [*words, "--rank", "4"])
    assert "rows_fingerprint was" in refusal(capsys, [*words, "--data", str(more)])
    assert "base was" in refusal(capsys, [*words, "--base", str(files / "gpt2")])
    file = out / "checkpoint" / "run.json"
    old = file.read_text()  # as 0.1 wrote it
    for name, before in (("truncation", "cut"), ("eval_fraction", "eval_share")):
        assert f'"{name}"' in old
        old = old.replace(f'"{name}"', f'"{before}"')
    file.write_text(old)
    assert main(words_of(files, out, "--resume", "--steps", "3")) == 0
    missing = words_of(files, tmp_path / "new", "--resume")
    assert "there is no checkpoint/ to resume from" in refusal(capsys, missing)


class Interrupting(Listener):
    """Sends Ctrl-C after some steps."""

    def progress(self, progress):
        if progress.step == 20:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_run_that_was_killed_goes_on(files, tmp_path, monkeypatch):
    """A kill while a state is written, then Ctrl-C: --resume comes to the same adapter."""
    steps = ("--steps", "30", "--checkpoint-every", "1", "--eval-every", "30", "--val-split", "0")
    out, whole = tmp_path / "out", tmp_path / "whole"
    words = words_of(files, out, *steps)
    command = [sys.executable, "-m", "minigpt_tf", *words]
    run = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    _wait_for_a_state_that_is_half_there(run, out)
    run.kill()
    assert "Traceback" not in run.communicate(timeout=120)[1].decode()
    assert not (out / "model.h5").exists()
    with monkeypatch.context() as patch:
        patch.setattr(command_module, "ConsoleListener", Interrupting)
        patch.setattr(Interrupting, "clear", lambda self: None, raising=False)
        assert main([*words, "--resume"]) == 130
    assert main([*words, "--resume"]) == 0
    assert main(words_of(files, whole, *steps)) == 0
    assert not list(out.rglob(".saving-*"))
    config = load_folder(out).model
    parts, at_once = (load_adapter(f / ADAPTER_NAME, config).factors for f in (out, whole))
    for name, pair in at_once.items():
        assert all(np.array_equal(a, b) for a, b in zip(pair, parts[name], strict=True))


def _wait_for_a_state_that_is_half_there(run, out):
    """Until one state is whole and another is being written."""
    states = out / "checkpoint"
    deadline = time.monotonic() + 120
    while run.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):  # it was renamed while it was listed
            if list(states.glob("state-*.npz")) and list(states.glob(".saving-*/*")):
                return
    raise AssertionError(f"no state was seen: {run.poll()}")


def test_a_template_that_refuses_a_question_does_so_before_training(files, tmp_path, capsys):
    base = load_folder(files / "base")
    source = (
        "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    make_folder(tmp_path / "strict", base.model, base.tokenizer, template=ChatTemplate(source))
    rows = [
        {
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": f"Say {word}"},
                {"role": "assistant", "content": f"It is {word}."},
            ]
        }
        for word in NUMBERS
    ]
    write_jsonl(tmp_path / "talks.jsonl", rows)
    out = tmp_path / "out"
    words = words_of(tmp_path, out, base="strict", data="talks.jsonl")
    assert "no system" in refusal(capsys, [*words, "--sample-queries", "who?"])
    assert not out.exists()
    assert main(words) == 0  # the records' own questions are asked with their system message
    assert "step 2" in (out / "samples.txt").read_text()


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_of_a_run_that_saved_nothing(files, tmp_path, capsys, there):
    out = tmp_path / "a" / "b"
    if there:
        out.mkdir(parents=True)
    words = words_of(files, out, "--learning-rate", "1e30", "--eval-every", "9", "--steps", "8")
    assert "nothing was saved" in refusal(capsys, words)
    assert sorted(tmp_path.rglob("*")) == ([out.parent, out] if there else [])


def test_a_batch_beyond_all_memory_is_told_at_once(files, tmp_path, capsys):
    words = words_of(files, tmp_path / "out", "--batch-size", "2147483647")
    assert "--accumulate 2147483647" in refusal(capsys, words)


def test_muon_trains_all_weights(files, tmp_path):
    more = ("--method", "full", "--optimizer", "muon")
    assert main(words_of(files, tmp_path / "out", *more)) == 0


def test_the_folder_of_a_run_is_enough_to_resume_it(files, tmp_path, capsys):
    """Base, records and settings stand in its checkpoint; what is given must agree."""
    out, same = tmp_path / "out", tmp_path / "same"
    settings = ("--sample-queries", "Say two", "--rank", "4", "--learning-rate", "0.002")
    assert main(words_of(files, out, *settings)) == 0
    shutil.copytree(out, same)
    assert main(words_of(files, same, *settings, "--resume", "--steps", "4")) == 0
    resume = ["finetune", "--resume", "--out", str(out)]
    assert "rank was 4, now 8" in refusal(capsys, [*resume, "--rank", "8"])
    assert main([*resume, "--steps", "4"]) == 0
    learned, expected = (load_file(folder / "adapter.safetensors") for folder in (out, same))
    assert learned.keys() == expected.keys()
    assert all(np.array_equal(learned[name], expected[name]) for name in expected)
    file = out / "checkpoint" / "run.json"
    run = json.loads(file.read_text())
    for name, value, reason in (
        ("base", None, "it does not name its base"),
        ("base", "no\0where", "no such model folder"),
        ("tuning", {"method": []}, "the wrong type"),
        ("records", 3, "expected the settings of RecordsConfig"),
    ):
        file.write_text(json.dumps(run | {name: value}))
        assert reason in refusal(capsys, resume)
    assert "--base is missing" in refusal(capsys, ["finetune", "--resume"])
