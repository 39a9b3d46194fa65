"""notebooks/inside.ipynb and finetune.ipynb run, and what is stored in them is clean."""

import copy
import os
import re

import pytest

from tests.conftest import ROOT
from tests.notebooks.kernel import execute

FOLDER = ROOT / "notebooks"
SETTINGS = {"inside": {"MINIGPT_STEPS": "100"}, "finetune": {"MINIGPT_STEPS": "60"}}
SETTINGS["finetune"]["MINIGPT_EPOCHS"] = "2"
"""Less training than what is stored had."""


@pytest.fixture(scope="module", params=SETTINGS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def stored(name):
    nbformat = pytest.importorskip("nbformat", reason="nbformat: install the extra test")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    return notebook


@pytest.fixture(scope="module")
def executed(name, stored, tmp_path_factory):
    """The notebook after a short run; its files are in a temporary folder."""
    notebook, before = copy.deepcopy(stored), set(os.listdir(FOLDER))
    execute(notebook, FOLDER, TMPDIR=str(tmp_path_factory.mktemp(name)), **SETTINGS[name])
    assert set(os.listdir(FOLDER)) == before
    return notebook


def printed_by(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


def pictures_of(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_the_stored_notebook_is_clean(name, stored):
    counts = []
    for cell in stored.cells:
        assert len(cell.source) > 20
        if cell.cell_type == "code":
            counts.append(cell.execution_count)
            assert not cell.metadata
            assert all(output.output_type != "error" for output in cell.outputs)
            assert all(output.get("name") != "stderr" for output in cell.outputs)
    assert counts == list(range(1, len(counts) + 1))
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert len(text) < 150_000
    assert not re.search(r"/(tmp|home|root|work|Users)/", text)


def test_the_first_cell_is_that_of_the_course(stored):
    nbformat = pytest.importorskip("nbformat")
    course = nbformat.read(FOLDER / "gpt.ipynb", as_version=nbformat.NO_CONVERT)
    assert [cell.source for cell in stored.cells[1:3]] == [
        cell.source for cell in course.cells[1:3]
    ]


def test_links_lead_somewhere(stored):
    text = "\n".join(cell.source for cell in stored.cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\(([^)#]+)", text)
    assert targets and all((FOLDER / target).exists() for target in targets)


def test_it_runs_and_shows_the_same_pictures(name, stored, executed):
    assert pictures_of(executed) == pictures_of(stored) == {"inside": 3, "finetune": 1}[name]


def test_what_it_prints(name, stored, executed):
    for notebook in (stored, executed):
        printed = printed_by(notebook)
        if name == "inside":
            assert "923,648 parameters" in printed
            assert "rows sum to 1: True" in printed and "nothing looks right: True" in printed
            assert "the same as Keras's: True" in printed and "(2, 4, 9, 9)" in printed
            known, shuffled = map(float, re.findall(r"  loss +([\d.]+)", printed))
            assert known < shuffled
        else:
            assert re.search(r"^\d+ of 20 facts right$", printed, re.MULTILINE)
    if name == "finetune":
        assert int(re.search(r"(\d+) of 20 facts right", printed_by(stored))[1]) >= 5
