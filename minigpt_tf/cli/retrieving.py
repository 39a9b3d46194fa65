"""The options --records of `ask`, `chat` and `serve`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.retrieval import RetrievalConfig
from ..errors import ConfigError
from ..events import Listener
from .options import cli_options, given_options

if TYPE_CHECKING:  # --help should not wait for NumPy
    from ..retrieval.library import Library


def add_records_arguments(parser: argparse.ArgumentParser, more: str = "") -> None:
    """The records to answer from.

    Args:
        parser: The verb's; options are added to it.
        more: What the help says behind the rest.
    """
    group = parser.add_argument_group("answers from records")
    group.add_argument(
        "--records",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="answer from these files: records (.csv .xlsx .jsonl ...), documents (.txt .md .pdf "
        ".docx .html) or folders of documents. The entries that fit a question best are put before "
        f"it; a file that changes is read again{more}",
    )
    cli_options(group, RetrievalConfig, preset_decides=False)


def retrieval_config(arguments: argparse.Namespace) -> RetrievalConfig | None:
    """How entries are found.

    Args:
        arguments: With the options of `add_records_arguments`.

    Returns:
        The settings; None without --records.

    Raises:
        ConfigError: An option of the records is given without them, or out of range.
    """
    given = given_options(arguments, RetrievalConfig)
    if not arguments.records:
        if given:
            option = next(iter(given)).replace("_", "-")
            raise ConfigError(f"--{option}: needs --records: name the files, or drop it")
        return None
    return RetrievalConfig(**given)


def load_library(
    arguments: argparse.Namespace, folder: Path, listener: Listener
) -> "Library | None":
    """The records that were asked for.

    Args:
        arguments: With the options of `add_records_arguments`.
        folder: The model folder, in which what was read is kept.
        listener: Receives a notice for each thing that was left out.

    Returns:
        The library; None without --records.

    Raises:
        ConfigError: An option of the records is given without them.
        DataError: A file cannot be read, or there is nothing in any.
    """
    config = retrieval_config(arguments)
    if config is None:
        return None
    from ..retrieval.library import Library

    library = Library(arguments.records, config, folder=folder)
    for note in library.notes:
        listener.notice(note)
    return library
