"""The verb `models`: which models there are."""

import argparse
import json
import sys
from pathlib import Path

from ..config import MODELS_DIRECTORY
from ..console import one_line, table_lines, terminal_width, wrap
from ..inspection.models import ListedModel, list_models
from ..machine import memory_size, shown_size

DESCRIPTION = "List the models that lie in models/: what each is, and what it was made from."

HEADER = ("model", "made by", "base", "family", "template", "parameters", "context", "size")
TEXTS = 5
"""So many of these columns are texts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the models are.

    Args:
        parser: The verb's; options are added to it.
    """
    parser.add_argument(
        "--models-dir",
        type=Path,
        default=Path(MODELS_DIRECTORY),
        metavar="DIR",
        help=f"the folder of model folders (default: {MODELS_DIRECTORY})",
    )
    parser.add_argument(
        "--known",
        action="store_true",
        help="list small open bases worth taking instead, and what their fine-tuning needs",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the table.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.
    """
    if arguments.known:
        return _print_known(arguments.json)
    found = list_models(arguments.models_dir)
    if arguments.json:
        print(json.dumps({"models": [model.as_json() for model in found]}))
        return 0
    if not found:
        print(f"{arguments.models_dir}/ contains no model: minigpt train --data FILE makes one")
        return 0
    sound = [_row(model) for model in found if model.config is not None]
    if sound:
        width = terminal_width(sys.stdout)
        for line in table_lines(sound, width=width, header=HEADER, left=TEXTS):
            print(line)
    for model in found:
        if model.fault:
            print(f"{one_line(model.path.name)}: {one_line(model.fault)}")
    return 0


def _print_known(as_json: bool) -> int:
    """Bases, with what a fine-tuning of them needs, and whether this machine has it."""
    from ..interop.known_models import AS_OF, ROW, as_rows

    rows, memory = list(as_rows()), memory_size()
    if as_json:
        print(json.dumps({"as_of": AS_OF, "row_tokens": ROW, "memory": memory, "models": rows}))
        return 0
    header = ("base", "license", "fits", "parameters", "LoRA")
    cells = [
        [
            row["id"],
            row["license"],
            "yes" if memory is None or row["lora_bytes"] < memory else "-",
            f"{row['parameters'] / 1e6:,.0f}M",
            shown_size(row["lora_bytes"]),
        ]
        for row in rows
    ]
    width = terminal_width(sys.stdout)
    for line in table_lines(cells, width=width, header=header, left=3):
        print(line)
    note = (
        f"as of {AS_OF}; LoRA: memory with the default settings and records of {ROW} tokens, "
        f"estimated; fits: into this machine. To take one: {rows[0]['import']}"
    )
    for line in wrap(note, width):
        print(line)
    return 0


def _row(model: ListedModel) -> list[str]:
    """A model's cells."""
    config = model.config
    assert config is not None
    return [
        one_line(model.path.name),
        one_line(model.method),
        one_line(model.base) or "-",
        one_line(model.family) or "-",
        "yes" if model.template else "-",
        f"{config.parameter_count:,}",
        f"{config.context_length:,}",
        shown_size(model.size),
    ]
