"""What a run shows in a notebook, and that elsewhere it shows nothing unless it is asked to."""

import base64
import io
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from minigpt_tf.training.notebook import in_notebook
from minigpt_tf.training.trainer import train
from tests.conftest import ROOT, tiny_plan
from tests.notebooks.kernel import execute

QUESTION = "from minigpt_tf.training.notebook import in_notebook; print(in_notebook())"


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        (None, False),  # IPython is imported, as by a library, and does not run
        (SimpleNamespace(kernel=object()), True),  # Jupyter, Colab and VS Code: a ZMQ shell
        (SimpleNamespace(kernel=None), False),  # such a shell without its kernel
        (SimpleNamespace(), False),  # IPython in a terminal
    ],
)
def test_a_notebook_is_where_the_shell_has_a_kernel(shell, expected, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert in_notebook() is expected


def test_without_ipython_there_is_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert in_notebook() is False


def test_ipython_in_a_terminal_is_no_notebook(tmp_path):
    pytest.importorskip("IPython", reason="IPython: install the extra test")
    command = [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "-c", QUESTION]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A notebook that trains twice, its messages, and the folder with both models."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat: install the extra test")
    folder = tmp_path_factory.mktemp("notebook")
    cells = [
        f"{QUESTION}\n"
        "import minigpt_tf as mg\n"
        "from minigpt_tf.training.notebook import NotebookListener\n"
        "from tests.conftest import tiny_plan\n"
        "NotebookListener.SECONDS_BETWEEN_UPDATES = 0\n"  # every step is shown, on any machine
        "plan = tiny_plan()",
        "shown = mg.train(plan, 'shown')",
        "silent = mg.train(plan, 'silent', verbose=False)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    messages = execute(notebook, folder, TF_CPP_MIN_LOG_LEVEL="3")
    return notebook, messages, folder


def shown_by(cell):
    """What a cell shows, but for what TensorFlow's C++ writes when it starts."""
    return [output for output in cell.outputs if output.get("name") != "stderr"]


def test_a_kernel_is_a_notebook(trained):
    (output,) = shown_by(trained[0].cells[0])
    assert output.text.strip() == "True"


def test_a_notebook_shows_progress_in_one_output(trained):
    notebook, messages, _ = trained
    progress = shown_by(notebook.cells[1])[0].data["text/plain"]
    assert "step 6/6" in progress
    lines = [message["content"]["data"].get("text/plain", "") for message in of_displays(messages)]
    steps = [line.split("step ")[1][:3] for line in lines if line.startswith("[")]
    assert steps == ["1/6", "2/6", "3/6", "4/6", "5/6", "6/6"]


def of_displays(messages):
    return [m for m in messages if m["msg_type"] in ("display_data", "update_display_data")]


def test_a_notebook_shows_a_line_and_a_sample_for_each_evaluation(trained):
    notebook, _, folder = trained
    text = shown_by(notebook.cells[1])[1].data["text/plain"].splitlines()
    rows = (folder / "shown" / "history.csv").read_text().splitlines()[1:]
    samples = (folder / "shown" / "samples.txt").read_text().split("\n")[1::3]
    assert len(text) == 4 and len(rows) == len(samples) == 2
    for line, sample, row, written in zip(text[::2], text[1::2], rows, samples, strict=True):
        step, loss = row.split(",")[0], float(row.split(",")[4])
        assert f"step {step} " in line and f"loss {loss:.4f}" in line
        assert sample == f"    {written!r}"


def test_a_notebook_shows_the_curve(trained):
    notebook, _, folder = trained
    *_, curve = outputs = shown_by(notebook.cells[1])
    assert len(outputs) == 3
    picture = base64.b64decode(curve.data["image/png"])
    assert picture == (folder / "shown" / "loss.png").read_bytes()
    from matplotlib.image import imread

    pixels = imread(io.BytesIO(picture))[..., :3]
    colors = np.unique((pixels.reshape(-1, 3) * 255).round().astype(int), axis=0).tolist()
    assert [31, 119, 180] in colors and [255, 127, 14] in colors  # both lines are drawn


def test_a_notebook_shows_nothing_that_was_not_wanted(trained):
    notebook, _, folder = trained
    assert shown_by(notebook.cells[2]) == []
    config = json.loads((folder / "silent" / "config.json").read_text())
    assert config["metrics"]["steps"] == 6


def test_elsewhere_a_run_prints_only_if_asked_to(tmp_path, capfd):
    train(tiny_plan(), tmp_path / "silent")
    assert capfd.readouterr().out == ""
    history = train(tiny_plan(), tmp_path / "shown", verbose=True).history
    printed = capfd.readouterr().out.splitlines()
    for evaluation in history:
        (at,) = (i for i, line in enumerate(printed) if f"step {evaluation.step} " in line)
        assert f"  loss {evaluation.loss:.4f}  accuracy {evaluation.accuracy:.1%}" in printed[at]
        assert printed[at + 1] == f"    {evaluation.sample!r}"
