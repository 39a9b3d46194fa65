"""`minigpt inspect`: what it prints and writes, in numbers that the engine gives too."""

import itertools
import json
import os
import re
import shutil

import numpy as np
import pytest

import minigpt_tf as mg
from minigpt_tf.__main__ import main
from minigpt_tf.metrics import log_softmax, softmax
from tests.cli.test_train import error_of

TEXT = "who was ramanujan"


@pytest.fixture
def shown(trained_folder, tmp_path, capsys):
    """Runs the verb on the trained model; what it prints."""

    def run(*words, model=trained_folder):
        assert main(["inspect", *words, "--model", str(model)]) == 0
        return capsys.readouterr().out

    return run


def data_of(page):
    """The data in a page."""
    text = page.read_text(encoding="utf-8")
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*)</script>', text)[1]
    )


def test_the_page_is_written_and_announced(shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = shown(TEXT)
    assert re.search(
        r"^3 tokens, loss \d\.\d{4} nats per token, perplexity [\d,.]+$", printed, re.M
    )
    assert re.search(r"^wrote inspect.html \(\d+ kB\): open it in a browser$", printed, re.M)
    assert [token["text"] for token in data_of(tmp_path / "inspect.html")["tokens"]] == TEXT.split()
    shown("he was", "--out", "inspect.html")  # its own page may be replaced
    assert len(data_of(tmp_path / "inspect.html")["tokens"]) == 2


def test_json_has_the_engine_s_numbers(shown, trained_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = json.loads(shown(TEXT, "--json"))
    assert not list(tmp_path.iterdir())
    generator = mg.load(trained_folder)
    ids = generator.tokenizer.encode(TEXT)
    logits = generator.engine.all_logits(ids)
    p, log_p = softmax(logits.astype(np.float64)), log_softmax(logits)
    assert [token["id"] for token in found["tokens"]] == ids.tolist()
    for t, token in enumerate(found["tokens"][1:]):
        assert token["probability"] == pytest.approx(p[t, ids[t + 1]], abs=1e-4)
        assert token["surprise"] == pytest.approx(-log_p[t, ids[t + 1]], abs=1e-4)
        best = np.argsort(-p[t], kind="stable")[:5]
        assert [row["id"] for row in token["alternatives"]] == best.tolist()
    best = np.argsort(-p[-1], kind="stable")[:5]
    np.testing.assert_allclose(
        [row["probability"] for row in found["next"]], p[-1, best], atol=1e-4
    )
    assert found["next"][0]["text"] == generator.tokenizer.decode([int(best[0])])
    losses = -log_p[[0, 1], ids[1:]]
    steps = found["loss_steps"]
    assert found["loss"] == steps["loss"] == pytest.approx(losses.mean(), abs=1e-4)
    assert found["perplexity"] == pytest.approx(np.exp(losses.mean()), rel=1e-3)
    np.testing.assert_allclose(steps["target_logits"], logits[[0, 1], ids[1:]], atol=1e-4)
    np.testing.assert_allclose(steps["logits"], logits[:-1, :3], atol=1e-4)
    np.testing.assert_allclose(steps["probabilities"], p[:-1, :3], atol=1e-4)
    attention = mg.attention(trained_folder, TEXT)
    for layer, head, query in np.ndindex(2, 2, 3):
        row = found["attention"][layer][head][query]
        np.testing.assert_allclose(row, attention[layer, head, query, : query + 1], atol=1e-6)


def test_the_nearest_passages_are_in_the_training_text(shown, trained_folder):
    found = json.loads(shown("he was an indian mathematician who walked", "--json"))
    words = mg.load_folder(trained_folder).description["data"]
    assert found["train_tokens"] == words["train_tokens"]
    best = found["nearest"][0]
    assert best["shared"] == "was an indian mathematician who"
    assert best["before"].endswith(" ") and best["after"].startswith(" ")
    assert best["bits"] == max(row["bits"] for row in found["nearest"])


def test_without_its_training_text_the_passages_are_left_out(shown, folder_copy, capsys):
    file = folder_copy / "config.json"
    description = json.loads(file.read_text())
    description["data"]["sources"] = ["/nowhere/gone.txt"]
    file.write_text(json.dumps(description))
    assert main(["inspect", TEXT, "--json", "--model", str(folder_copy)]) == 0
    output = capsys.readouterr()
    assert "nearest" not in json.loads(output.out)
    assert "the nearest passages are left out" in output.err
    del description["data"]  # as of an import: nothing to be missed
    file.write_text(json.dumps(description))
    assert main(["inspect", TEXT, "--json", "--model", str(folder_copy)]) == 0
    output = capsys.readouterr()
    assert "nearest" not in json.loads(output.out) and "passages" not in output.err


def test_the_model_continues_if_asked(shown, trained_folder):
    words = ["--json", "--max-new-tokens", "4", "--greedy"]
    found = json.loads(shown(TEXT, *words))
    assert found["prompt_tokens"] == 3
    wanted = mg.load(trained_folder).generate(TEXT, max_new_tokens=4, greedy=True).ids
    assert [token["id"] for token in found["tokens"]][3:] == wanted


def test_a_message_is_read_as_the_template_writes_it(folder_copy, capsys):
    template = "{% for m in messages %}who is {{ m.content }} {% endfor %}he was"
    (folder_copy / "chat_template.jinja").write_text(template)
    words = ["inspect", "hardy", "--chat", "--json", "--model", str(folder_copy)]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert [token["text"] for token in found["tokens"]] == ["who", "is", "hardy", "he", "was"]
    assert main([*words, "--max-new-tokens", "2", "--greedy"]) == 0
    continued = json.loads(capsys.readouterr().out)["tokens"]
    best = found["next"][0]
    assert len(continued) == 7 and continued[5]["id"] == best["id"]
    said = error_of(["inspect", "hardy " * 20, "--chat", "--json", *words[-2:]], capsys)
    assert "the model's context 16: leave out" in said


def test_a_continuation_ends_where_the_context_does(shown):
    found = json.loads(shown(TEXT, "--json", "--max-new-tokens", "99"))
    assert len(found["tokens"]) == 16


def test_unknown_words_are_named(shown, capsys, trained_folder):
    assert main(["inspect", "who was zebra", "--json", "--model", str(trained_folder)]) == 0
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert found["tokens"][2]["text"] == "<OOV>"
    assert found["notices"] == ["not in the model's vocabulary: 'zebra'"]
    assert "'zebra'" in output.err


def test_the_neighbors_of_a_word(shown, tmp_path, trained_folder):
    page = tmp_path / "map.html"
    printed = shown("hardy", "--embeddings", "--out", str(page)).splitlines()
    contents = mg.load_folder(trained_folder)
    model = mg.load(trained_folder).keras_model()
    table = model.get_layer("token_embedding").get_weights()[0][: contents.tokenizer.known_size]
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    (word,) = contents.tokenizer.encode("hardy")
    cosines = unit @ unit[word]
    cosines[[0, word]] = -1  # padding stands for nothing
    best = np.argsort(-cosines)[:10]
    wanted = [f"{cosines[i]:.4f}  {contents.tokenizer.decode([int(i)])!r}" for i in best]
    assert printed[:-1] == wanted and printed[-1].startswith(f"wrote {page}")
    data = data_of(page)
    assert data["texts"][data["chosen"]] == "hardy"
    found = json.loads(shown("--embeddings", "--json"))
    assert found["nearest"] is None and len(found["places"]) == len(found["ids"])


def test_the_history_of_two_runs(trained_folder, folder_copy, tmp_path, capsys):
    page = tmp_path / "runs.html"
    words = ["inspect", "--history", str(trained_folder), str(folder_copy)]
    assert main([*words, "--out", str(page)]) == 0
    assert "steps" in capsys.readouterr().out
    runs = data_of(page)["runs"]
    assert [run["name"] for run in runs] == ["tiny", "copy"]
    rows = runs[0]["rows"]
    assert [row["step"] for row in rows] == [3, 6] and all(row["gradient_norm"] > 0 for row in rows)
    assert [sample["step"] for sample in runs[0]["samples"]] == [3, 6]
    assert runs[0]["samples"][0]["text"].startswith("a taxi once stopped")
    assert main(["inspect", "--history", "--json", "--model", str(trained_folder)]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == runs[:1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([""], "the text is empty"),
        (["zebra"], "the model knows nothing of the text ('zebra')"),
        (["he was " * 20], "the text has 40 tokens, and the model's context 16"),
        ([], "there is no TEXT"),
        (["who", "--temperature", "1"], "add --max-new-tokens"),
        (["who", "--max-new-tokens", "-1"], "max_new_tokens=-1"),
        (["who", "--chat"], "has no chat template"),
        (["who", "--history"], "--history shows runs: drop TEXT"),
        (["--embeddings", "--chat"], "--chat is for a TEXT"),
        (["--embeddings", "zebra"], "'zebra' is not in the model's vocabulary"),
        (["--embeddings", "who was"], "is several tokens of this model ('who', 'was')"),
        (["--history", "a", "--model", "b"], "--history names the runs: drop --model"),
        (["--history", "a", "b"], "a: no such model folder"),
        (["who", "--model", "nowhere"], "nowhere: no such model folder"),
        (["who", "--out", "no/such/page.html"], "there is no folder no/such"),
        (["who", "--out", "."], "is a folder: name a file"),
    ],
)
def test_bad_input_is_one_line(words, said, trained_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = [] if {"--model", "b"} & set(words) else ["--model", str(trained_folder)]
    assert said in error_of(["inspect", *model, *words], capsys)
    assert not list(tmp_path.iterdir())


def test_a_file_of_somebody_else_is_not_replaced(trained_folder, tmp_path, capsys):
    file = tmp_path / "notes.html"
    file.write_text("mine")
    words = ["inspect", TEXT, "--model", str(trained_folder), "--out", str(file)]
    assert "was not written by minigpt inspect" in error_of(words, capsys)
    assert file.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(trained_folder, tmp_path, capsys):
    tmp_path.chmod(0o500)
    words = ["inspect", TEXT, "--model", str(trained_folder), "--out", str(tmp_path / "a.html")]
    assert "cannot be written" in error_of(words, capsys)


def test_a_full_disk_is_one_line(trained_folder, capsys, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    words = ["inspect", TEXT, "--model", str(trained_folder), "--out", str(tmp_path / "a.html")]
    assert "a.html: cannot be written: No space left on device" in error_of(words, capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.h5", "config.json", "tokenizer.pkl"])
def test_a_damaged_model_is_one_line(name, folder_copy, capsys):
    (folder_copy / name).write_bytes(b"\x00damaged")
    said = error_of(["inspect", TEXT, "--json", "--model", str(folder_copy)], capsys)
    assert name in said


def test_a_model_without_a_history_is_one_line(folder_copy, capsys):
    words = ["inspect", "--history", "--json", "--model", str(folder_copy)]
    (folder_copy / "history.csv").write_bytes(b"\xff\xfe")
    assert "cannot be read" in error_of(words, capsys)
    (folder_copy / "history.csv").write_text("step,loss\n")
    assert "is empty or damaged" in error_of(words, capsys)
    (folder_copy / "history.csv").unlink()
    assert "has no history.csv: only what was trained" in error_of(words, capsys)
    shutil.rmtree(folder_copy)
    assert "no such model folder" in error_of(words, capsys)


def test_a_run_that_is_under_way_is_shown(folder_copy, capsys):
    for name in ("config.json", "model.h5"):  # the last to be written
        (folder_copy / name).unlink()
    assert main(["inspect", "--history", "--json", "--model", str(folder_copy)]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"][0]["rows"]) == 2
    shutil.rmtree(folder_copy / "checkpoint")
    words = ["inspect", "--history", "--json", "--model", str(folder_copy)]
    assert "config.json is missing" in error_of(words, capsys)


def test_old_histories_and_runs_without_samples_are_shown(folder_copy, capsys):
    (folder_copy / "history.csv").write_text(
        "step,epoch,loss,best,mine\n5,0.5,2.5,True,7\n9,1,inf,False,8\n"
    )
    (folder_copy / "samples.txt").unlink()
    assert main(["inspect", "--history", "--json", "--model", str(folder_copy)]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert [row["loss"] for row in run["rows"]] == [2.5, None]
    assert run["rows"][0]["gradient_norm"] is None and run["rows"][0]["accuracy"] is None
    assert run["metrics"] == ["mine"] and run["samples"] == []


def test_a_long_history_is_drawn_with_its_highest_and_lowest_values(folder_copy, tmp_path):
    file = folder_copy / "history.csv"
    head, *rows = file.read_text().splitlines()
    loss = head.split(",").index("loss")
    cells = rows[-1].split(",")
    lines = []
    for step in range(1, 30_001):
        cells[0], cells[loss] = str(step), str(5 + step % 7 + 90 * (step == 12_345))
        lines.append(",".join(cells))
    file.write_text("\n".join([head, *lines]) + "\n")
    page = tmp_path / "runs.html"
    assert main(["inspect", "--history", str(folder_copy), "--out", str(page)]) == 0
    (run,) = data_of(page)["runs"]
    losses = {row["step"]: row["loss"] for row in run["rows"]}
    assert len(losses) < 4_000 and run["evaluations"] == 30_000
    assert losses[12_345] == 99 and {1, 30_000} <= set(losses) and min(losses.values()) == 5
    assert max(b - a for a, b in itertools.pairwise(sorted(losses))) <= 75
