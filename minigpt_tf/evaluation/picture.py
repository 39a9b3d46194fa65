"""Measurements in order, named, and as a picture."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..storage.replacing import replaced_file

if TYPE_CHECKING:  # which is slow to import
    from .measurement import Measurement

PICTURES = (".png", ".svg", ".pdf")
NOT_MEASURED = "-"

MOST_UNKNOWN = 0.01
"""If a greater fraction of the text is unknown to a model, its bits per byte say little: the
unknown word is easily guessed."""


def ranked(measurements: "Sequence[Measurement]") -> "list[Measurement]":
    """Measurements in the order of bits per byte, the lowest first.

    Args:
        measurements: In any order.

    Returns:
        Behind those with bits per byte come models that do not know many of the words, whose
        figure is too low; then those without the figure, by loss.
    """

    def key(measurement: "Measurement") -> tuple[bool, bool, float]:
        bits = measurement.score.bits_per_byte
        value = measurement.score.loss if bits is None else bits
        return bits is None, _unknown_fraction(measurement) > MOST_UNKNOWN, value

    return sorted(measurements, key=key)


def _unknown_fraction(measurement: "Measurement") -> float:
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
    """Short names of measurements.

    Args:
        measurements: Of one model or several.

    Returns:
        The folder's name, or its whole path if two folders have the same name; and the split of the
        text, if there are several.
    """
    folders = {Path(m.model) for m in measurements}
    short = len({folder.name for folder in folders}) == len(folders)
    several = len({m.passage.name for m in measurements}) > 1
    return [
        (Path(m.model).name if short and Path(m.model).name else m.model)
        + (f" ({m.passage.name})" if several else "")
        for m in measurements
    ]


def check_picture(file: Path) -> None:
    """Refuses, before anything is measured, a file that no picture can be written to.

    Args:
        file: Where the picture should go.

    Raises:
        ConfigError: The ending is unknown, the folder does not exist, or it is a folder itself.
    """
    if file.suffix.lower() not in PICTURES:
        raise ConfigError(f"{file}: pictures end in {', '.join(PICTURES)}: choose one of them")
    if not file.parent.is_dir():
        raise ConfigError(f"{file}: there is no folder {file.parent}: make it first")
    if file.is_dir():
        raise ConfigError(f"{file} is a folder: name a file")


def write_picture(file: Path, measurements: "Sequence[Measurement]") -> None:
    """Draws bits per byte, and what the generated texts show, as bars; the best model on top.

    Args:
        file: A .png, .svg or .pdf file.
        measurements: In any order.

    Raises:
        ConfigError: The file cannot be written; what was there is then unchanged.
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
        _draw_fractions(axes[1], rows)
    axes[0].set_yticks(range(len(rows)), names(rows))
    axes[0].invert_yaxis()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format=file.suffix[1:].lower())
    try:
        with replaced_file(file) as scratch:
            scratch.write_bytes(picture.getbuffer())
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{file}: cannot be written: {reason}: choose another") from None


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


def _draw_fractions(axes: Any, rows: "Sequence[Measurement]") -> None:
    """Fractions of the generated texts as groups of bars."""
    samples = [row.samples for row in rows]
    fractions = {
        "distinct-2": [None if s is None else s.distinct[2] for s in samples],
        "loop rate": [None if s is None else s.loop_rate for s in samples],
        "copied 8-grams": [None if s is None else s.copied_ngrams for s in samples],
    }
    height = 0.8 / len(fractions)
    for number, (name, values) in enumerate(fractions.items()):
        places = [place + (number - 1) * height for place in range(len(rows))]
        bars = axes.barh(places, [v or 0.0 for v in values], height=0.9 * height, label=name)
        axes.bar_label(bars, [formatted(v, ".0%") for v in values], padding=3, fontsize="small")
    axes.set(xlabel="fraction of the generated texts", xlim=(0, 1.12))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
