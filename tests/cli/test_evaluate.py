"""`minigpt evaluate` as a person types it: figures, tables, pictures, and what bad input gets."""

import json
import math
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.config.presets import data_preset, training_preset
from minigpt_tf.evaluation.measurement import Measurement
from minigpt_tf.evaluation.passages import Passage
from minigpt_tf.evaluation.picture import ranked
from minigpt_tf.evaluation.scoring import Score, score
from minigpt_tf.files.documents import read_documents
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.training.plan import make_plan
from tests.conftest import ROOT, SAMPLE, tiny_config

FAST = ["--samples", "2", "--sample-tokens", "12"]


@pytest.fixture(scope="module")
def characters(tmp_path_factory):
    """A model of characters, barely trained, on a copy of the sample text in the same folder."""
    from minigpt_tf.training.trainer import train

    folder = tmp_path_factory.mktemp("characters")
    text = folder / "text.txt"
    shutil.copy(SAMPLE, text)
    model = tiny_config("shakespeare", context_length=16)
    training = training_preset("shakespeare", steps=2, batch_size=4, dtype="float32")
    return train(make_plan([text], model, data_preset("shakespeare"), training), folder / "m").out


def error_of(arguments, capsys):
    """The one line that a bad command prints."""
    assert main(["evaluate", *map(str, arguments)]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ") and output.err.count("\n") == 1 and not output.out
    return output.err


def json_of(arguments, capsys):
    assert main(["evaluate", "--json", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_the_stored_validation_part(trained_folder, capsys):
    (found,) = json_of(["--model", trained_folder, *FAST], capsys)["results"]
    contents = load_folder(trained_folder)
    tokens = contents.description["data"]["val_tokens"]
    ids = contents.tokenizer.encode(read_documents(SAMPLE).texts[0])[-tokens:]
    expected = score(Engine.load(contents)[0], ids, context_length=16)
    assert found["part"] == "validation" and found["tokens"] == tokens - 1 == 88
    assert found["loss"] == pytest.approx(expected.loss, abs=1e-6)
    assert found["loss"] == pytest.approx(contents.description["metrics"]["val_loss"], abs=1e-4)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    words = contents.tokenizer.decode(ids.tolist())
    size = len(words.encode()) - len(words.split()[0].encode())
    assert found["bytes"] == size
    assert found["bits_per_byte"] == pytest.approx(found["loss"] * 88 / math.log(2) / size)
    assert found["samples"]["tokens"] == 24 and found["samples"]["samples"] == 2


def test_keras_agrees_and_seeds_repeat(characters, capsys):
    command = ["--model", characters, "--split", "both", "--stride", "5", *FAST]
    first, again, keras = (
        json_of([*command, *more], capsys)["results"] for more in ([], [], ["--backend", "keras"])
    )
    assert [r["part"] for r in first] and {r["part"] for r in first} == {"train", "validation"}
    for a, b, c in zip(first, again, keras, strict=True):
        assert a["loss"] == pytest.approx(c["loss"], abs=1e-4) and c["backend"] == "keras"
        assert a["loss"] == b["loss"] and a["samples"] == b["samples"] == c["samples"]
    other = json_of([*command, "--seed", "5"], capsys)["results"]
    assert other[0]["samples"] != first[0]["samples"]


def test_a_file_of_ones_own(characters, tmp_path, capsys):
    file = tmp_path / "mine.txt"
    file.write_text("he was at Cambridge\r\nЖЖЖ", encoding="utf-8")
    described = json_of(["--model", characters, "--data", file, *FAST], capsys)
    (found,) = described["results"]
    assert found["tokens"] == 19 and found["bytes"] == 19  # the first character is given
    assert found["unknown_tokens"] == 3
    assert "3 characters of mine.txt are not in its vocabulary" in described["notices"][0]
    assert found["samples"]["copied_ngrams"] is not None  # the training text is still there


def test_several_models_in_a_table_and_a_picture(characters, trained_folder, tmp_path, capsys):
    pytest.importorskip("PIL")
    from PIL import Image

    picture = tmp_path / "models.png"
    command = ["evaluate", "--model", trained_folder, characters, "--picture", picture, *FAST]
    command += ["--data", SAMPLE]
    assert main(list(map(str, command))) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:3] == ["model", "parameters", "tokens"] and len(printed) == 4
    rows = {line.split()[0]: line.split() for line in printed[1:3]}
    assert set(rows) == {"m", "tiny"}
    bits = [float(line.split()[5]) for line in printed[1:3]]
    assert bits == sorted(bits) and printed[3] == f"wrote {picture}"
    with Image.open(picture) as image:
        colours = image.convert("RGB").getcolors(1 << 20)
    assert image.size[0] > 600 and len(colours) > 10
    assert [file.name for file in tmp_path.iterdir()] == ["models.png"]


def test_models_that_know_little_of_the_words_come_last():
    def measured(name, bits, unknown=0):
        passage = Passage("a.txt", "a.txt", np.arange(100), unknown)
        score = Score(1.0, 99, None if bits is None else int(99 * 8 / bits))
        return Measurement(name, passage, 1, 8, 8, "engine", "none", score, None, 0.0)

    found = [measured("unsized", None), measured("guesses", 0.5, 60), measured("b", 3.0, 1)]
    order = [row.model for row in ranked([*found, measured("a", 2.0)])]
    assert order == ["a", "b", "guesses", "unsized"]


def test_one_model_in_lines(trained_folder, capsys):
    assert main(["evaluate", "--model", str(trained_folder), *FAST]) == 0
    output = capsys.readouterr()
    for part in ("loss: ", "perplexity: ", "bits per byte: ", "distinct-n: 1: ", "loop rate: "):
        assert part in output.out
    assert "its words have no case and no punctuation" in output.err


def test_some_batches_and_no_samples(trained_folder, capsys):
    described = json_of(["--model", trained_folder, "--samples", "0", "--batches", "2"], capsys)
    (found,) = described["results"]
    assert found["samples"] is None and found["tokens"] == 2 * 16


def test_samples_are_what_the_engine_generates(trained_folder):
    from minigpt_tf.config import EvaluationConfig, SamplingConfig
    from minigpt_tf.evaluation.samples import generate_samples, report_samples
    from minigpt_tf.inference.generate import TextGenerator

    generator = TextGenerator.load(trained_folder)
    config = EvaluationConfig(samples=3, sample_tokens=9, prompt_tokens=0, seed=4)
    ids = np.arange(2, 200)
    texts = generate_samples(generator, ids, config)
    sampling = SamplingConfig(max_new_tokens=9, seed=4)
    expected = generator.generate_batch([""], sampling, 3)
    started = len(generator.start_ids)
    assert texts == [generation.ids[started:] for generation in expected] and len(texts) == 3
    prompted = EvaluationConfig(samples=2, sample_tokens=9, prompt_tokens=4, temperature=0.0)
    (text, _) = generate_samples(generator, ids, prompted)
    assert any(greedy(generator, range(s, s + 4), 9) == text for s in range(2, 197))
    report = report_samples(generator, ids, prompted, np.array(text))
    assert report.longest_copied == 9 and report.copied_ngrams >= 0.5
    assert report.longest_copied_text == generator.tokenizer.decode(text)
    unknown = report_samples(generator, ids, prompted, None)
    assert unknown.longest_copied is unknown.copied_ngrams is unknown.longest_copied_text is None


def greedy(generator, ids, length):
    """Greedy ids after the given ones, by the engine alone."""
    logits, said = generator.engine.prefill(list(ids)), []
    for _ in range(length):
        logits[generator.tokenizer.suppressed_ids(generator.engine.config.vocab_size)] = -np.inf
        said.append(int(logits.argmax()))
        logits = generator.engine.decode_step(said[-1])
    return said


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--batches", "0"], "batches=0: must be at least 1"),
        (["--window", "0"], "window=0: must be at least 1"),
        (["--window", "-4"], "window=-4: must be at least 1"),
        (["--stride", "-1"], "stride=-1: must be at least 1"),
        (["--stride", "17"], "stride=17: must be from 1 to the window of 16 tokens"),
        (["--stride", "9", "--window", "8"], "stride=9: must be from 1 to the window of 8"),
        (["--samples", "-1"], "samples=-1: must be at least 0"),
        (["--backend", "keras", "--quantize", "int8"], "--quantize is the engine's"),
        (["--data", "x", "--split", "train"], "--split names a part of the training text"),
        (["--data", "x.txt"], "x.txt: no such file or folder"),
        (["--encoding", "klingon"], "no such encoding"),
        (["--picture", "p.exe"], "p.exe: pictures end in .png, .svg, .pdf"),
        (["--picture", "none/p.png"], "there is no folder none"),
        (["--model", "nowhere"], "nowhere: no such model folder"),
    ],
)
def test_bad_options(words, reason, trained_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert reason in error_of(["--model", trained_folder, *words], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "contains no text"),
        (b" \n ", "contains no text"),
        (b"h", "1 tokens are too few"),
        ("ЖЖ".encode(), "0 tokens are too few"),
        (bytes(range(256)), "mine.txt"),
    ],
)
def test_bad_files(content, reason, characters, tmp_path, capsys):
    file = tmp_path / "mine.txt"
    file.write_bytes(content)
    assert reason in error_of(["--model", characters, "--data", file], capsys)


def test_a_training_text_that_is_gone_or_changed(characters, tmp_path, capsys):
    text = characters.parent / "text.txt"
    content = text.read_bytes()
    try:
        text.write_bytes(content + b"more")
        assert "has changed since" in error_of(["--model", characters], capsys)
        text.unlink()
        assert "text.txt, which is not there" in error_of(["--model", characters], capsys)
        described = json_of(["--model", characters, "--data", SAMPLE, *FAST], capsys)
        assert described["results"][0]["samples"]["copied_ngrams"] is None
        assert "copies are not looked for" in described["notices"][0]
    finally:
        text.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.pop("data"), "has no record of a training text: give --data FILE"),
        (lambda d: d["data"].update(sources=[]), "has no record of a training text"),
        (lambda d: d["data"].update(sources=[3]), "has no record of a training text"),
        (lambda d: d["data"].pop("stride"), "DataConfig lacks stride"),
        (lambda d: d["data"].update(val_split="x"), "val_split='x' has the wrong type"),
    ],
)
def test_a_model_without_a_sound_record(change, reason, folder_copy, capsys):
    file = folder_copy / "config.json"
    description = json.loads(file.read_text(encoding="utf-8"))
    change(description)
    file.write_text(json.dumps(description), encoding="utf-8")
    assert reason in error_of(["--model", folder_copy], capsys)


def test_a_model_without_a_validation_part(folder_copy, capsys):
    plan = make_plan(
        [SAMPLE],
        tiny_config("lecture", context_length=16, vocab_size=500),
        data_preset(val_split=0.0),
        training_preset(),
        tokenizer=load_folder(folder_copy).tokenizer,
    )
    file = folder_copy / "config.json"
    description = json.loads(file.read_text(encoding="utf-8"))
    description["data"] |= {"val_split": 0.0, "fingerprint": plan.corpus.fingerprint}
    file.write_text(json.dumps(description), encoding="utf-8")
    assert "without a validation split" in error_of(["--model", folder_copy], capsys)
    (found,) = json_of(["--model", folder_copy, "--split", "train", *FAST], capsys)["results"]
    assert found["tokens"] == len(plan.corpus.train_ids) - 1


def test_a_picture_that_cannot_be_written_leaves_the_old_one(characters, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "p.png").write_text("the old one")
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    folder.chmod(0o500)
    error_of(["--model", characters, "--picture", folder / "p.png", *FAST], capsys)
    assert (folder / "p.png").read_text() == "the old one"


def test_figures_are_printed_also_where_the_picture_cannot_be_written(
    trained_folder, tmp_path, capsys, monkeypatch
):
    def full(path, content):
        """In place of Path.write_bytes."""
        raise OSError(28, "No space left on device")

    picture = tmp_path / "p.png"
    command = ["--model", trained_folder, "--samples", "0", "--picture", picture]
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    assert main(["evaluate", *map(str, command)]) == 2
    printed = capsys.readouterr()
    assert "perplexity" in printed.out and "wrote" not in printed.out
    said = f"error: {picture}: cannot be written: No space left on device: choose another"
    assert said in printed.err
    assert not list(tmp_path.iterdir())


def test_neither_tensorflow_nor_matplotlib_is_needed(trained_folder):
    code = """
import sys
from minigpt_tf.__main__ import main
assert main(["evaluate", "--json", "--samples", "1", "--model", sys.argv[1]]) == 0
print({"tensorflow", "keras", "matplotlib"} & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(trained_folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr.endswith("set()\n"), done.stderr
    assert json.loads(done.stdout)["results"][0]["tokens"] == 88
