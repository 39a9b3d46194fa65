"""How runs went: what history.csv and samples.txt of model folders say, as plain data."""

import csv
import math
import re
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import ModelFolderError
from ..storage.model_folder import HISTORY_NAME, SAMPLES_NAME, has_checkpoint, read_description

SAMPLE = re.compile(r"^--- step (\d+), prompt (.*)$", re.MULTILINE)
NUMBERS = (
    *("step", "epoch", "seconds", "learning_rate", "loss", "accuracy", "val_loss"),
    *("val_perplexity", "tokens_per_second", "gradient_norm"),
)
"""Columns that every run has; one without a value is None."""

STRETCHES = 400
"""A longer history is drawn in so many stretches of evaluations: about one for two pixels."""
DRAWN_SAMPLES = 200


def read_runs(paths: list[Path]) -> dict[str, Any]:
    """The histories of some runs.

    Args:
        paths: Their model folders.

    Returns:
        For each run its name, how many evaluations it had, a row for each, and the samples.

    Raises:
        ModelFolderError: A folder is missing, or has no history, or a damaged one.
    """
    runs = []
    for path in paths:
        if not (path.is_dir() and has_checkpoint(path)):  # a run that is under way has no model yet
            read_description(path)
        rows = _rows(path / HISTORY_NAME)
        metrics = sorted(set(rows[0]) - set(NUMBERS))
        samples = _samples(path / SAMPLES_NAME)
        name = path.resolve().name
        run = {"name": name, "evaluations": len(rows), "rows": rows, "metrics": metrics}
        runs.append({**run, "samples": samples})
    if len({run["name"] for run in runs}) < len(runs):
        for run, path in zip(runs, paths, strict=True):
            run["name"] = str(path)
    return {"version": __version__, "runs": runs}


def drawn(data: dict[str, Any]) -> dict[str, Any]:
    """Runs as a page draws them: of long histories what can be told apart.

    Args:
        data: Of `read_runs`.

    Returns:
        The same with fewer rows: the first and the last of each of 400 stretches, and those with
        its lowest and highest value of every column; and with 200 samples, evenly spread.
    """
    runs = []
    for run in data["runs"]:
        rows, samples = run["rows"], run["samples"]
        kept = [rows[i] for i in _telling(rows)]
        every = math.ceil(len(samples) / DRAWN_SAMPLES) or 1
        spread = samples[::-every][::-1]  # the last is always there
        runs.append({**run, "rows": kept, "samples": spread})
    return {**data, "runs": runs}


def _telling(rows: list[dict[str, float | None]]) -> list[int]:
    """Places of the rows that a picture of them needs, in order."""
    length = len(rows) / STRETCHES
    if length <= 2 * len(rows[0]):
        return list(range(len(rows)))
    kept: set[int] = set()
    for number in range(STRETCHES):
        stretch = range(int(number * length), int((number + 1) * length))
        kept |= {stretch[0], stretch[-1]}
        for name in rows[0]:
            values = [(value, i) for i in stretch if (value := rows[i].get(name)) is not None]
            kept |= {min(values)[1], max(values)[1]} if values else set()
    return sorted(kept)


def _rows(file: Path) -> list[dict[str, float | None]]:
    """The numbers of history.csv. Raises ModelFolderError."""
    if not file.is_file():
        raise ModelFolderError(
            f"{file.parent}: has no {HISTORY_NAME}: only what was trained or fine-tuned here has a "
            "history"
        )
    try:
        with open(file, encoding="utf-8", newline="") as content:
            found = [_numbers(row) for row in csv.DictReader(content)]
    except (OSError, UnicodeError, csv.Error) as error:
        raise ModelFolderError(f"{file}: cannot be read: {error}") from None
    if not found or any(row["step"] is None for row in found):
        raise ModelFolderError(f"{file}: is empty or damaged: it has no rows with a step")
    return found


def _numbers(row: dict[str, Any]) -> dict[str, float | None]:
    """The columns of a row that are numbers; the usual ones always."""
    numbers: dict[str, float | None] = dict.fromkeys(NUMBERS)
    for name, text in row.items():
        if name in (None, "best"):
            continue
        try:
            value = float(text)
        except (TypeError, ValueError):
            continue
        numbers[str(name)] = value if math.isfinite(value) else None
    return numbers


def _samples(file: Path) -> list[dict[str, Any]]:
    """What the model wrote at each evaluation; nothing where the file is missing."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return []
    heads = list(SAMPLE.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return [
        {"step": int(head[1]), "prompt": head[2], "text": text[head.end() : end].strip("\n")}
        for head, end in zip(heads, ends, strict=True)
    ]
