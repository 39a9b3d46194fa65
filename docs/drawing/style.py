"""How all pictures look: on white, so that they are readable on a dark page too."""

import io
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

PICTURES = Path(__file__).resolve().parents[1] / "pictures"
BLUE, ORANGE, GREEN, RED, GRAY = "#2b6cb0", "#dd6b20", "#2f855a", "#c53030", "#718096"
PALE = {BLUE: "#bee3f8", ORANGE: "#feebc8", GREEN: "#c6f6d5", RED: "#fed7d7", GRAY: "#e2e8f0"}
INK, MONO = "#1a202c", "DejaVu Sans Mono"
CELL = 0.602
"""Width of a character of MONO, as a fraction of its size."""


def new_figure(width: float, height: float, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of so many inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, **options)
    for one in [axes] if columns == 1 else axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Figure, name: str) -> Path:
    """Writes docs/pictures/`name`."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=130, format="png")
    path = PICTURES / name
    Image.open(drawn).convert("RGB").quantize(128).save(path, optimize=True)
    return path


class Canvas:
    """A drawing of text and boxes, in units of one character of 11 points."""

    SIZE = 11

    def __init__(self, columns: float, rows: float) -> None:
        self._cell = self.SIZE * CELL / 72
        figure = Figure(figsize=(columns * self._cell, rows * self._cell * 2), facecolor="white")
        FigureCanvasAgg(figure)
        self.figure, self.axes = figure, figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, columns), ylim=(rows, 0))
        self.axes.set_axis_off()

    def text(self, x: float, y: float, text: str, color: str = INK, **options: Any) -> None:
        """Text whose left end is at x, or its middle with ha="center"."""
        options = {"family": MONO, "size": self.SIZE, "va": "center"} | options
        self.axes.text(x, y, text, color=color, parse_math=False, **options)

    def box(self, x: float, y: float, text: str, color: str, **options: Any) -> float:
        """Text in a box of a pale color; the x right of it."""
        width = len(text) + 0.8
        self.area(x, y, width, 0.9, color)
        self.text(x + 0.4, y, text, **options)
        return x + width + 0.25

    def area(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """A box around the height y."""
        shape = FancyBboxPatch(
            (x, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.15",
            mutation_aspect=0.5,
            facecolor=PALE[color],
            edgecolor=color,
            linewidth=0.8,
        )
        self.axes.add_patch(shape)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], color: str = GRAY):
        """An arrow from one point to another."""
        style = {"arrowstyle": "->", "color": color, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
        self.axes.annotate("", end, start, arrowprops=style)
