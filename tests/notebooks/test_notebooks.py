"""notebooks/gpt.ipynb runs from the first cell to the last, and what is stored in it is clean."""

import copy
import os
import re
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, SAMPLE
from tests.notebooks.kernel import execute

NOTEBOOK = ROOT / "notebooks" / "gpt.ipynb"
EVERY = 3
"""Which part of the windows is trained on here: with all of them an epoch takes a minute."""


@pytest.fixture(scope="module")
def stored():
    nbformat = pytest.importorskip("nbformat", reason="nbformat: install the extra test")
    notebook = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    return notebook


def code_of(notebook, words):
    """The one code cell with these words in it."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (found,) = (cell for cell in cells if words in cell.source)
    return found


def printed_by(cell):
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def pictures_of(cell):
    return [output for output in cell.outputs if "image/png" in output.get("data", {})]


@pytest.fixture(scope="module")
def executed(stored, tmp_path_factory):
    """The notebook after one epoch; its files are in a temporary folder."""
    notebook = copy.deepcopy(stored)
    code_of(notebook, "create_dataset(sequence").source += f"\nx, y = x[::{EVERY}], y[::{EVERY}]"
    before = set(os.listdir(NOTEBOOK.parent))
    temporary = tmp_path_factory.mktemp("notebook")
    execute(notebook, NOTEBOOK.parent, MINIGPT_EPOCHS="1", TMPDIR=str(temporary))
    assert set(os.listdir(NOTEBOOK.parent)) == before
    return notebook


def test_the_stored_notebook_is_clean(stored):
    for cell in stored.cells:
        assert len(cell.source) > 20
        if cell.cell_type == "code":
            assert cell.metadata.keys() <= {"tags"}
            assert all(output.output_type != "error" for output in cell.outputs)
            assert all(output.get("name") != "stderr" for output in cell.outputs)
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 300_000
    assert not re.search(r"/(tmp|home|root|work|Users)/", text)
    assert int(re.search(r'"MINIGPT_EPOCHS", "(\d+)"', code_of(stored, "EPOCHS =").source)[1]) == 10


def test_the_stored_notebook_shows_what_it_gave(stored):
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    losses = losses_of(printed_by(code_of(stored, "model.fit(")))
    assert len(losses) > 1 and losses[-1] < losses[0]
    assert "hardy" in printed_by(code_of(stored, "def answer("))


def losses_of(text):
    return [float(loss) for loss in re.findall(r" - loss: ([\d.]+)", text)]


@pytest.mark.parametrize("place", ["root", "notebooks", "colab"])
def test_the_text_is_found(stored, place, tmp_path, monkeypatch):
    (tmp_path / "course").symlink_to(ROOT, target_is_directory=True)
    monkeypatch.chdir({"root": ROOT, "notebooks": NOTEBOOK.parent, "colab": tmp_path}[place])
    names = {"Path": Path}
    exec(code_of(stored, "ramanujan.txt").source, names)
    assert names["text"] == SAMPLE.read_text(encoding="utf-8")


def test_nothing_is_installed_outside_colab(executed):
    assert code_of(executed, "pip install").outputs == []


def test_tokens_and_windows(executed):
    words = SAMPLE.read_text(encoding="utf-8").lower()
    words = re.sub(r"[.,?]", "", words).split()
    assert f"{len(words)} tokens" in printed_by(code_of(executed, "fit_on_texts"))
    shape, *pairs = printed_by(code_of(executed, "create_dataset(sequence")).splitlines()
    assert shape == f"x {(len(words) - 100, 100)}  y {(len(words) - 100, 100)}"
    assert [pair.split(" -> ") for pair in map(str.strip, pairs)] == [
        [words[i], words[i + 1]] for i in range(8)
    ]


def test_the_positions_and_the_curves_are_drawn(executed):
    assert len(pictures_of(code_of(executed, "plt.imshow"))) == 1
    assert len(pictures_of(code_of(executed, "plt.subplots"))) == 1


@pytest.mark.parametrize(
    ("words", "parameters"), [("block.summary(", 2_630_144), ("model.summary(", 13_085_576)]
)
def test_summaries_show_the_lectures_parameters(words, parameters, executed):
    cell = code_of(executed, words)
    text = "".join(output.data["text/plain"] for output in cell.outputs if "data" in output)
    text = re.sub(r"\x1b\[[\d;]*m", "", text + printed_by(cell))
    assert f"Total params: {parameters:,} " in text


def test_it_learns_more_than_the_frequencies(executed):
    words = re.sub(r"[.,?]", "", SAMPLE.read_text(encoding="utf-8").lower()).split()
    counts = np.unique(words, return_counts=True)[1] / len(words)
    (loss,) = losses_of(printed_by(code_of(executed, "model.fit(")))
    assert loss < -(counts * np.log(counts)).sum()  # where start_from_frequencies lets it start


@pytest.mark.parametrize("words", ["model.save(", "subprocess.run("])
def test_the_loaded_model_is_equal(words, executed):
    assert printed_by(code_of(executed, words)) == "largest difference: 0.0\n"


def test_the_lectures_loop_answers(executed):
    known = set(re.sub(r"[.,?]", "", SAMPLE.read_text(encoding="utf-8").lower()).split())
    answers = printed_by(code_of(executed, "def answer(")).split("\n\n")[:2]
    for answer, prompt in zip(
        answers, ("who is srinivasa ramanujan ", "who is hardy "), strict=True
    ):
        assert answer.startswith(prompt)
        continued = answer.removeprefix(prompt).split()
        assert len(continued) == 30
        assert len(known.intersection(continued)) > 10  # after an epoch a few may be unknown


def test_the_tool_answers(executed):
    assert re.match(r"who is Hardy \w+", printed_by(code_of(executed, "mg.generate_text(")))
    files = printed_by(code_of(executed, "mg.save_model_folder(")).split()
    assert files == ["config.json", "model.h5", "tokenizer.pkl"]
    assert re.match(r"who is Janaki \w+", printed_by(code_of(executed, "-m minigpt_tf generate")))
    *text, parameters = printed_by(code_of(executed, "mg.load(")).splitlines()
    assert re.match(r"where was Ramanujan born \w+", text[0])
    assert parameters == "13,085,576 parameters"
