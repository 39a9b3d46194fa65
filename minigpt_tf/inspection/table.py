"""A model's layers as a table, as Keras's `summary` shows them, from its configuration alone."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..console import one_line, print_framed
from ..interop.keras_files.architecture import Layer, Path
from .shapes import Shape, connections, output_shapes

UNITS = ("B", "KB", "MB", "GB", "TB", "PB")

INDENT = "   "

WIDTH, BRANCHED_WIDTH = 88, 108
"""Columns of the table, without and with a column of connections."""

CLASS_COLOR, NUMBER_COLOR = "color(33)", "color(34)"
"""As in Keras's summary."""


@dataclass(frozen=True)
class Row:
    """A layer's line."""

    name: str
    class_name: str
    shape: Shape | None
    """None if it is not known."""
    parameters: int
    connected: list[str]


@dataclass(frozen=True)
class Summary:
    """What the table and the lines below it say."""

    name: str
    rows: list[Row]
    parameters: int
    frozen: int
    """Parameters that training leaves alone."""
    nbytes: int
    frozen_bytes: int
    branched: bool
    """Whether the layers are not a simple chain, so that it matters what each is connected to."""


def summarize(
    model: Layer, weights: Mapping[Path, Sequence[Any]], *, expand: bool = False
) -> Summary:
    """The table of a model.

    Args:
        model: The tree of its layers.
        weights: Of each layer; only `shape` and `dtype` of a weight are looked at.
        expand: Whether the layers inside nested models get lines of their own.

    Returns:
        The table, to be printed by `print_summary`.
    """
    counts: dict[Path, int] = {}
    total = frozen = nbytes = frozen_bytes = 0
    fixed = _frozen(model)
    for path, found in weights.items():
        for index, weight in enumerate(found):
            size = math.prod(weight.shape)
            length = size * getattr(weight.dtype, "itemsize", 4)
            total, nbytes = total + size, nbytes + length
            if index >= fixed.get(path, len(found)):
                frozen, frozen_bytes = frozen + size, frozen_bytes + length
            for depth in range(len(path) + 1):
                counts[path[:depth]] = counts.get(path[:depth], 0) + size
    rows = list(_rows(model, counts, expand, 0))
    if model.layers is None:  # a class of its own: all that is known are its weights
        rows = [Row("/".join(path), "?", None, counts[path], []) for path in weights]
    branched = any(len(row.connected) > 1 for row in rows if not row.name.startswith(INDENT))
    return Summary(model.name, rows, total, frozen, nbytes, frozen_bytes, branched)


def _rows(model: Layer, counts: dict[Path, int], expand: bool, depth: int) -> Iterator[Row]:
    shapes, connected = output_shapes(model), connections(model)
    prefix = f"{INDENT * depth}└ " if depth else ""
    for layer in model.layers or ():
        yield Row(
            f"{prefix}{layer.name}",
            layer.class_name,
            shapes.get(layer.name),
            counts.get(layer.path, 0),
            connected.get(layer.name, []),
        )
        if expand and layer.layers is not None:
            yield from _rows(layer, counts, expand, depth + 1)


def _frozen(model: Layer) -> dict[Path, int]:
    """From which of its weights on a layer's are not trained, where some are not."""
    found: dict[Path, int] = {}
    waiting = [(model, False)]
    while waiting:
        layer, frozen = waiting.pop()
        frozen = frozen or not layer.trainable
        if layer.layers is not None:
            waiting += [(inner, frozen) for inner in layer.layers]
        elif frozen:
            found[layer.path] = 0
        elif layer.kind == "BatchNormalization":  # its running mean and variance
            scales = [layer.config.get(name) is not False for name in ("scale", "center")]
            found[layer.path] = sum(scales)
    return found


def print_summary(summary: Summary) -> None:
    """Prints the table to standard output, in colors on a terminal.

    Args:
        summary: What `summarize` or `summary_of_config` made.
    """
    header = [("Layer (type)", 45), ("Output Shape", 30), ("Param #", 22)]
    if summary.branched:
        header.append(("Connected to", 35))
    rows = []
    for row in summary.rows:
        name = [(f"{one_line(row.name)} (", ""), (one_line(row.class_name), CLASS_COLOR), (")", "")]
        cells = [name, [(_shape(row.shape), "")], [(f"{row.parameters:,}", NUMBER_COLOR)]]
        if summary.branched:
            cells.append([(one_line(", ".join(row.connected)) or "-", "")])
        rows.append(cells)
    trained, trained_bytes = (
        summary.parameters - summary.frozen,
        summary.nbytes - summary.frozen_bytes,
    )
    notes = [
        [(f" {what} params: ", "bold"), (f"{count:,}", NUMBER_COLOR), (f" ({_size(nbytes)})", "")]
        for what, count, nbytes in (
            ("Total", summary.parameters, summary.nbytes),
            ("Trainable", trained, trained_bytes),
            ("Non-trainable", summary.frozen, summary.frozen_bytes),
        )
    ]
    title = f'Model: "{one_line(summary.name)}"'
    print_framed(title, header, rows, notes, BRANCHED_WIDTH if summary.branched else WIDTH)


def _shape(shape: Shape | None) -> str:
    if shape is None:
        return "?"
    return f"({', '.join(str(size) for size in shape)}{',' if len(shape) == 1 else ''})"


def _size(nbytes: float) -> str:
    """Bytes as Keras's summary writes them."""
    power = 0
    while nbytes >= 1024 and power < len(UNITS) - 1:
        nbytes, power = nbytes / 1024, power + 1
    return f"{nbytes:.2f} {UNITS[power]}"
