"""The record of a run on disk: history.csv, loss.png and samples.txt."""

import csv
import dataclasses
import io
from pathlib import Path

from ..events import Evaluation
from ..storage.model_folder import HISTORY_NAME, LOSS_NAME, SAMPLES_NAME

OTHERS = {"sample", "metrics", "loss_per"}
COLUMNS = [field.name for field in dataclasses.fields(Evaluation) if field.name not in OTHERS]


def write_history(folder: Path, history: list[Evaluation], prompt: str) -> None:
    """Writes history.csv, with a column for each further metric, and samples.txt.

    Args:
        folder: Where to.
        history: A row for each evaluation.
        prompt: The prompt of the samples.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    metrics = list(dict.fromkeys(name for evaluation in history for name in evaluation.metrics))
    writer.writerow(COLUMNS + metrics)
    for evaluation in history:
        values = [getattr(evaluation, column) for column in COLUMNS]
        values += [evaluation.metrics.get(name) for name in metrics]
        writer.writerow("" if v is None else f"{v:.6g}" if type(v) is float else v for v in values)
    (folder / HISTORY_NAME).write_text(table.getvalue(), encoding="utf-8")
    samples = [f"--- step {e.step}, prompt {prompt!r}\n{e.sample}\n" for e in history]
    (folder / SAMPLES_NAME).write_text("\n".join(samples), encoding="utf-8")


def write_loss_picture(folder: Path, history: list[Evaluation]) -> None:
    """Writes loss.png: training and validation loss over the steps.

    Args:
        folder: Where to.
        history: A point for each evaluation.
    """
    (folder / LOSS_NAME).write_bytes(loss_picture(history))


def loss_picture(history: list[Evaluation]) -> bytes:
    """The picture of `write_loss_picture`, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [evaluation.step for evaluation in history]
    axes.plot(steps, [evaluation.loss for evaluation in history], marker=".", label="training")
    val_losses = [e.val_loss for e in history if e.val_loss is not None]
    if val_losses:  # of every evaluation, or of none
        axes.plot(steps, val_losses, marker=".", label="validation")
    per = history[-1].loss_per if history else Evaluation.loss_per
    axes.set(xlabel="step", ylabel=f"loss (nats per {per})", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    return picture.getvalue()
