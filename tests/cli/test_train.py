"""`train` and `generate` as a person types them: what is printed, and what bad input gets."""

import json
import shutil
import subprocess
import sys

import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.config.presets import data_preset, training_preset
from minigpt_tf.training.plan import make_plan
from tests.conftest import ROOT, SAMPLE, Recorder, tiny_config

SIZES = (
    "--context-length 16 --vocab-size 500 --embed-dim 16 --num-layers 1 --num-heads 2 --head-dim 8"
)
QUICK = f"{SIZES} --ff-dim 32 --steps 4 --batch-size 4 --eval-every 2 --dtype float32".split()


def error_of(arguments, capsys):
    """The one line that a bad command prints."""
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ") and output.err.count("\n") == 1
    return output.err


def test_train_then_generate(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--data", str(SAMPLE), *QUICK]) == 0
    printed = capsys.readouterr().out
    for part in (
        "characters: 5,164",
        "tokens: 924 (word): 835 training, 89 validation",
        "4 steps of 4 windows",
        "num_heads=2",
        "learning_rate=0.001",
        "step 4  epoch 0.02",
        "validation loss",
        "perplexity",
        "wrote models/ramanujan/: config.json, history.csv, loss.png, model.h5",
        "minigpt generate 'A taxi once stopped' --model models/ramanujan",
    ):
        assert part in printed
    assert main(["generate", "who is Zaphod", "--greedy", "--max-new-tokens", "3"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("who is Zaphod ") and len(output.out.split()) == 6
    assert output.err == "note: not in the model's vocabulary: 'zaphod'\n"
    assert main(["generate", "who is", "--greedy", "--max-new-tokens", "3", "--no-stream"]) == 0
    assert len(capsys.readouterr().out.split()) == 5
    assert (
        main(["generate", "who is Zaphod", "--json", "--seed", "1", "--max-new-tokens", "5"]) == 0
    )
    output = capsys.readouterr()
    answer = json.loads(output.out)
    assert answer["completion_tokens"] == len(answer["ids"]) == 5 and answer["prompt_tokens"] == 3
    assert answer["notices"] == ["not in the model's vocabulary: 'zaphod'"] and output.err == ""

    assert main(["train", "--resume", "--out", "models/ramanujan", "--steps", "6"]) == 0
    assert "step 6" in capsys.readouterr().out
    again = ["train", "--data", str(SAMPLE), *QUICK]
    assert "models/ramanujan exists: --overwrite replaces it" in error_of(again, capsys)
    changed = [*again, "--resume", "--learning-rate", "0.5"]
    assert "learning_rate was 0.001, now 0.5" in error_of(changed, capsys)
    (tmp_path / "other.txt").write_text("some other text " * 100)
    other = [
        "train",
        "--resume",
        "--out",
        "models/ramanujan",
        "--data",
        "other.txt",
        "--steps",
        "8",
    ]
    assert "the text or its tokens are not the same" in error_of(other, capsys)


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("shakespeare", "--num-layers 1 --embed-dim 16 --steps 2 --batch-size 2"),
        ("modern", "--num-layers 1 --embed-dim 32 --vocab-size 300 --context-length 16 --steps 2"),
        ("gpt2", "--num-layers 1 --embed-dim 24 --context-length 16 --steps 2 --stride 3"),
        ("lecture", "--tokenizer char --num-layers 1 --embed-dim 16 --context-length 16 --steps 2"),
        ("shakespeare", "--tokenizer bpe --num-layers 1 --embed-dim 16 --steps 2 --val-split 0"),
    ],
)
def test_every_preset_trains_and_answers(preset, options, tmp_path, capsys, gpt2_files):
    out = tmp_path / "m"
    command = [
        "train",
        "--data",
        str(SAMPLE),
        "--preset",
        preset,
        "--out",
        str(out),
        *options.split(),
    ]
    assert main(command) == 0
    assert main(["generate", "Ramanujan was", "--model", str(out), "--seed", "1"]) == 0
    assert "\nRamanujan was" in capsys.readouterr().out


def bad(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return str(path)


BAD_DATA = {
    "missing": (lambda t: str(t / "nowhere.txt"), "nowhere.txt: no such file or folder"),
    "empty": (lambda t: bad(t, "a.txt", b""), "a.txt: contains no text"),
    "binary": (lambda t: bad(t, "a.txt", bytes(range(256)) * 9), "looks like binary data"),
    "encoding": (
        lambda t: bad(t, "a.txt", "naïve café, déjà vu".encode("cp1252") * 9),
        "is not UTF-8",
    ),
    "short": (lambda t: bad(t, "a.txt", b"three short words"), "the text is too short: "),
    "kind": (lambda t: bad(t, "a.exe", b"MZ"), "files ending in .exe are not read"),
    "nothing": (lambda t: str(t), "no text found"),
    "punctuation": (lambda t: bad(t, "a.txt", b"?!?! " * 99), "too short: 0 tokens"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_text_gets_one_line(case, tmp_path, capsys):
    make, message = BAD_DATA[case]
    data, out = make(tmp_path), tmp_path / "models" / "m"
    assert message in error_of(["train", "--data", data, "--out", str(out)], capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--num-heads 0", "num_heads=0: must be at least 1"),
        ("--preset gpt2 --num-heads 7", "embed_dim=768 does not divide into num_heads=7"),
        ("--context-length 5000", "a context of 5000 needs at least 5001"),
        ("--context-length 0", "context_length=0"),
        ("--vocab-size 1", "vocab_size=1"),
        ("--vocab-size 2", "words need at least 3"),
        ("--tokenizer bpe --vocab-size 20", "needs at least 257"),
        ("--tokenizer char --vocab-size 20", "--vocab-size does nothing with --tokenizer char"),
        ("--vocab-size 99999999999", "must be at most 2147483647"),
        ("--tokenizer bpe --vocab-size 2000000000", "GiB, this machine has"),
        ("--num-layers 9999999", "num_layers=9999999: must be at most 10000"),
        ("--num-layers 9999", "GiB, this machine has"),
        ("--warmup-steps 9999", "must be fewer than the 230 steps"),
        ("--stride 99999999999999999999", "must be at most 2147483647"),
        ("--stride 101", "stride=101: must be from 1 to the window of 100 tokens"),
        ("--preset gpt2 --context-length 256 --stride 1024", "to the window of 256 tokens"),
        ("--stride 5 --stride-fraction 0.5", "exclude each other: give one"),
        ("--clip-norm inf", "clip_norm=inf: must be a finite number"),
        ("--encoding undefined", "no such encoding"),
        ("--batch-size 99999999", "GiB, this machine has"),
        ("--val-split 1", "val_split=1.0"),
        ("--val-split 0.001", "val_split=0.001 leaves"),
        ("--batch-size 0", "batch_size=0"),
        ("--epochs 0", "epochs=0"),
        ("--epochs 1 --steps 1", "--epochs and --steps exclude each other"),
        ("--dropout 1.5", "dropout=1.5"),
        ("--learning-rate nan", "learning_rate=nan"),
        ("--encoding klingon", "no such encoding"),
        ("--resume", "there is no checkpoint/ to resume from"),
        ("--resume --overwrite", "exclude each other"),
    ],
)
def test_impossible_settings_get_one_line(options, message, tmp_path, capsys, gpt2_files):
    out = tmp_path / "m"
    command = ["train", "--data", str(SAMPLE), "--out", str(out), *options.split()]
    assert message in error_of(command, capsys)
    assert not out.exists()


def test_a_short_text_shrinks_a_context_that_was_not_asked_for(tmp_path, capsys):
    text = bad(tmp_path, "a.txt", b"one two three four five six seven " * 8)
    command = ["train", "--data", text, "--out", str(tmp_path / "m"), "--steps", "1"]
    assert main([*command, "--num-layers", "1", "--embed-dim", "16"]) == 0
    assert (
        "shorter than the context of 100 tokens: the context is now 25" in capsys.readouterr().out
    )


def test_generate_refuses_what_cannot_be(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no model in models/ yet" in error_of(["generate", "hello"], capsys)
    assert "no such model folder" in error_of(["generate", "hello", "--model", "nowhere"], capsys)
    assert "top_p=2.0" in error_of(["generate", "hello", "--top-p", "2"], capsys)


def test_an_unknown_verb_is_refused(capsys):
    assert "'sing' is not a verb: choose train, generate" in error_of(["sing"], capsys)


def test_usage_errors_get_one_line_too(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--epochs", "many"])
    message = capsys.readouterr().err
    assert caught.value.code == 2 and message.startswith("error: ") and message.count("\n") == 1
    assert "invalid int value: 'many'" in message


def test_the_operating_systems_errors_get_one_line(capsys, tmp_path):
    long = str(tmp_path / ("x" * 300))
    assert "File name too long" in error_of(["train", "--data", long], capsys)
    assert "File name too long" in error_of(["generate", "hello", "--model", long], capsys)


def test_a_strangers_folder_is_never_overwritten(tmp_path, capsys):
    (tmp_path / "out" / "checkpoint").mkdir(parents=True)
    (tmp_path / "out" / "checkpoint" / "thesis.txt").write_text("precious")
    command = ["train", "--data", str(SAMPLE), "--out", str(tmp_path / "out"), "--overwrite"]
    assert "exists and is not a model folder" in error_of(command, capsys)
    assert (tmp_path / "out" / "checkpoint" / "thesis.txt").read_text() == "precious"


def test_a_resumed_run_remembers_what_was_changed(tmp_path, capsys):
    out = str(tmp_path / "m")
    assert main(["train", "--data", str(SAMPLE), "--out", out, *QUICK]) == 0
    changed = ["train", "--resume", "--out", out, "--steps", "6", "--eval-every", "3"]
    assert main(changed) == 0
    capsys.readouterr()
    assert main(["train", "--resume", "--out", out]) == 0
    assert "6 steps of 4 windows" in capsys.readouterr().out
    back = ["train", "--resume", "--out", out, "--steps", "2"]
    assert "has done 6 steps already, more than the 2 asked for" in error_of(back, capsys)
    assert "--resume needs --out" in error_of(["train", "--resume"], capsys)


def test_text_that_no_encoding_holds_does_no_harm(tmp_path, capsys):
    text = bad(tmp_path, "a.json", json.dumps(["ab \ud800 c"] * 200).encode())
    command = ["train", "--data", text, "--out", str(tmp_path / "m"), "--tokenizer", "char", *QUICK]
    command = [word for word in command if word not in ("--vocab-size", "500")]
    assert main([*command, "--sample-prompt", "a\udcff"]) == 0
    assert main(["generate", "\udcff", "--model", str(tmp_path / "m"), "--seed", "1"]) == 0
    assert "\ufffd" in capsys.readouterr().out


def test_the_scripts_run_and_a_closed_pipe_is_no_error(trained_folder):
    command = (
        f"{sys.executable} generate.py 'he was' --model {trained_folder} --max-new-tokens 2000"
    )
    done = subprocess.run(
        f"{command} | head -c 20", shell=True, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.startswith("he was ") and done.stderr == ""


def test_overwriting_with_another_tokenizer_leaves_no_old_one(trained_folder, tmp_path, capsys):
    out = shutil.copytree(trained_folder, tmp_path / "m")
    options = "--tokenizer bpe --vocab-size 300 --context-length 8 --num-layers 1 --embed-dim 16"
    command = ["train", "--data", str(SAMPLE), "--out", str(out), "--overwrite", "--steps", "1"]
    command += options.split()
    assert main(command) == 0
    assert (out / "tokenizer.json").exists() and not (out / "tokenizer.pkl").exists()


def test_a_cache_folder_that_cannot_be_used_is_told_once(tmp_path, monkeypatch):
    (tmp_path / "minigpt_tf").write_text("a file in its place")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    recorder = Recorder()
    settings = data_preset(), training_preset(steps=1)
    plan = make_plan([SAMPLE], tiny_config("lecture"), *settings, listener=recorder)
    assert len(plan.corpus.train_ids) > 800
    assert len(recorder.notices) == 1
    assert "cannot be written to (File exists)" in recorder.notices[0]
