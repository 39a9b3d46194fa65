"""Figures and pictures of how well a classifier guesses."""

import json

import numpy as np
import pytest

from minigpt_tf.classification.confusion import Confusion, write_picture
from minigpt_tf.cli.classify import figures_table


def test_figures_by_hand():
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    guess = np.array([0, 0, 1, 0, 1, 0, 0, 1])
    confusion = Confusion.of(["a", "b", "c"], truth, guess)
    assert confusion.counts.tolist() == [[3, 1, 0], [2, 1, 0], [0, 1, 0]]
    assert confusion.accuracy == 0.5
    np.testing.assert_allclose(confusion.precision, [3 / 5, 1 / 3, 0])
    np.testing.assert_allclose(confusion.recall, [3 / 4, 1 / 3, 0])
    np.testing.assert_allclose(confusion.f1, [2 / 3, 1 / 3, 0])
    figures = json.loads(json.dumps(confusion.as_json(), allow_nan=False))
    assert figures["confusion"] == {"a": {"a": 3, "b": 1}, "b": {"a": 2, "b": 1}, "c": {"b": 1}}
    assert figures["classes"]["b"]["texts"] == 3 and figures["macro_f1"] == pytest.approx(1 / 3)
    lines = figures_table(figures, 80)
    assert lines[1].split() == ["a", "4", "60.0%", "75.0%", "66.7%"]
    assert lines[-1].split() == ["mean", "33.3%"]


def test_labels_that_never_occur_do_not_pull_the_mean_down():
    """One that is guessed and never right counts, as in scikit-learn."""
    counts = np.array([[3, 1, 0, 0], [2, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    confusion = Confusion(["a", "b", "never", "guessed"], counts)
    np.testing.assert_allclose(confusion.f1, [2 / 3, 1 / 3, 0, 0])
    assert confusion.macro_f1 == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert Confusion(["a", "b"], np.zeros((2, 2), int)).macro_f1 == 0.0


def test_any_label_can_be_drawn(tmp_path):
    labels = ["$x^$ {\\", "\x1b[31m", "日本語", "", "a" * 300]
    counts = np.arange(25).reshape(5, 5)
    write_picture(tmp_path / "a.png", Confusion(labels, counts), "title")
    write_picture(tmp_path / "b.png", Confusion([str(i) for i in range(90)], np.eye(90)), "title")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("a.png", "b.png"))
    lines = figures_table(Confusion(labels, counts).as_json(), 80)
    assert len(lines) == 7 and max(map(len, lines)) < 80 and "\x1b" not in "".join(lines)


# Files
