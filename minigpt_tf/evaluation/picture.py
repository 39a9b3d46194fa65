"""Measurements in order, named, and as a picture."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:  # which is slow to import
    from .measurement import Measurement

PICTURES = (".png", ".svg", ".pdf")
NOT_MEASURED = "-"

MOST_UNKNOWN = 0.01
"""Where a greater share of the text is unknown to a model, its bits per byte tell little: the
unknown word is easily guessed."""


def ranked(measurements: "Sequence[Measurement]") -> "list[Measurement]":
    """By bits per byte, the lowest first; behind them those that do not know many of the words,
    whose figure is too low; those without any last, by loss."""

    def key(measurement: "Measurement") -> tuple[bool, bool, float]:
        bits = measurement.score.bits_per_byte
        value = measurement.score.loss if bits is None else bits
        return bits is None, _unknown_share(measurement) > MOST_UNKNOWN, value

    return sorted(measurements, key=key)


def _unknown_share(measurement: "Measurement") -> float:
    passage = measurement.passage
    return passage.unknown / max(1, len(passage.ids))


def formatted(value: float | None, form: str) -> str:
    """A figure as text.

    Args:
        value: The figure, None if it was not measured.
        form: Its format, such as ".3f".

    Returns:
        The text, "-" for None.
    """
    return NOT_MEASURED if value is None else format(value, form)


def names(measurements: "Sequence[Measurement]") -> list[str]:
    """What tells the measurements apart: the folder's name, or all of its path where two have the
    same; and the part of the text, where there are several."""
    folders = {Path(m.model) for m in measurements}
    short = len({folder.name for folder in folders}) == len(folders)
    parts = len({m.passage.name for m in measurements}) > 1
    return [
        (Path(m.model).name if short and Path(m.model).name else m.model)
        + (f" ({m.passage.name})" if parts else "")
        for m in measurements
    ]


def check_picture(file: Path) -> None:
    """Raises ConfigError, before anything is measured, where no picture can be written there."""
    if file.suffix.lower() not in PICTURES:
        raise ConfigError(f"{file}: pictures end in {', '.join(PICTURES)}: choose one of them")
    if not file.parent.is_dir():
        raise ConfigError(f"{file}: there is no folder {file.parent}: make it first")
    if file.is_dir():
        raise ConfigError(f"{file} is a folder: name a file")


def write_picture(file: Path, measurements: "Sequence[Measurement]") -> None:
    """Draws bits per byte, and what the generated texts show, as bars; the best model on top.

    Raises ConfigError where the file cannot be written; what was there is then unchanged.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = ranked(measurements)
    sampled = any(row.samples is not None for row in rows)
    size = (11 if sampled else 6.5, 1.6 + 0.55 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + sampled, squeeze=False, sharey=True)[0]
    _draw_bits(axes[0], rows)
    if sampled:
        _draw_shares(axes[1], rows)
    axes[0].set_yticks(range(len(rows)), names(rows))
    axes[0].invert_yaxis()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format=file.suffix[1:].lower())
    scratch = file.with_name(f".{os.getpid()}-{file.name}")
    try:
        scratch.write_bytes(picture.getbuffer())
        os.replace(scratch, file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{file}: cannot be written: {reason}: choose another") from None
    finally:
        scratch.unlink(missing_ok=True)


def _draw_bits(axes: Any, rows: "Sequence[Measurement]") -> None:
    """Bits per byte as bars."""
    bits = [row.score.bits_per_byte or 0.0 for row in rows]
    bars = axes.barh(range(len(rows)), bits, height=0.6, color="tab:blue")
    labels = [
        f"{formatted(row.score.bits_per_byte, '.3f')}  (loss {row.score.loss:.2f})" for row in rows
    ]
    axes.bar_label(bars, labels, padding=4)
    axes.set(xlabel="bits per byte (less is better)", xlim=(0, 1.45 * max([*bits, 1e-9])))
    axes.grid(axis="x", alpha=0.3)


def _draw_shares(axes: Any, rows: "Sequence[Measurement]") -> None:
    """Shares of the generated texts as groups of bars."""
    shares = {
        "distinct-2": [row.samples and row.samples.distinct[2] for row in rows],
        "loop rate": [row.samples and row.samples.loop_rate for row in rows],
        "copied 8-grams": [row.samples and row.samples.copied_ngrams for row in rows],
    }
    height = 0.8 / len(shares)
    for number, (name, values) in enumerate(shares.items()):
        places = [place + (number - 1) * height for place in range(len(rows))]
        bars = axes.barh(places, [v or 0.0 for v in values], height=0.9 * height, label=name)
        axes.bar_label(bars, [formatted(v, ".0%") for v in values], padding=3, fontsize="small")
    axes.set(xlabel="share, in generated texts", xlim=(0, 1.12), xticks=[0, 0.25, 0.5, 0.75, 1])
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
