"""The verb `evaluate`."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import DataConfig, EngineConfig, EvaluationConfig
from ..console import UNLIMITED, ConsoleListener, table_lines, terminal_width
from ..errors import ConfigError, DataError
from ..evaluation.picture import check_picture, formatted, names, ranked, write_picture
from ..events import Listener, NoticeLog
from ..inference.folder import ModelFolder, load_folder
from ..storage.model_folder import newest_folder
from ..text.tokenizers import WordTokenizer
from .options import cli_options, given_options

if TYPE_CHECKING:  # --help should not wait for the engine
    import numpy as np

    from ..evaluation.measurement import Measurement
    from ..evaluation.passages import Passage

DESCRIPTION = (
    "Measure models: loss, perplexity and bits per byte on a text; repetition, and copies of the "
    "training text, in what they generate."
)
SPLITS = ("validation", "train", "both")

COLUMNS = ("model", "parameters", "tokens", "loss", "perplexity", "bits per byte")
SAMPLE_COLUMNS = ("distinct-2", "loop rate", "longest copied", "copied 8-grams")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The models, the text and how both are looked at.

    Args:
        parser: The verb\'s; options are added to it.
    """
    parser.add_argument(
        "--model",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="model folders, several to compare them (unset: the newest in models/)",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="FILE",
        help="text to score: files, folders or http(s) URLs (unset: the text that the model "
        "was trained on)",
    )
    parser.add_argument(
        "--split", choices=SPLITS, help=f"part of that text, without --data ({SPLITS[0]})"
    )
    parser.add_argument(
        "--encoding",
        default=DataConfig.encoding,
        metavar="TEXT",
        help=f"encoding of --data ({DataConfig.encoding})",
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the comparison")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    cli_options(parser, EvaluationConfig, preset_decides=False)
    cli_options(parser, EngineConfig, preset_decides=False)


def run(arguments: argparse.Namespace) -> int:
    """Prints the figures; progress and what else there is to say go to stderr.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.
    """
    config = EvaluationConfig(**given_options(arguments, EvaluationConfig))
    engine_config = EngineConfig(**given_options(arguments, EngineConfig))
    DataConfig(encoding=arguments.encoding)
    if config.backend == "keras" and engine_config.quantize != "none":
        raise ConfigError("--quantize is the engine's: drop --backend keras")
    if arguments.data and arguments.split:
        raise ConfigError("--split names a part of the training text: drop it, or drop --data")
    from ..evaluation.measurement import measure, window_of

    if arguments.picture:
        check_picture(arguments.picture)
    folders = [load_folder(path) for path in arguments.model or [newest_folder()]]
    for contents in folders:
        window_of(contents, config)  # refused before anything takes long
    listener = ConsoleListener(sys.stderr)
    log = NoticeLog(listener)  # for --json
    measurements: list[Measurement] = []
    try:
        for contents in folders:
            passages, train_ids = _texts(contents, arguments, config, log)
            measurements += measure(contents, passages, train_ids, config, engine_config, log)
            _note_what_is_dropped(contents, passages, log)
    finally:
        listener.clear()
    if len({m.passage.text for m in measurements}) > 1:
        log.notice("the models were scored on different texts: their figures do not compare")
    try:
        _print(measurements, log.notices, arguments)
    finally:  # the figures took long: they are in one place if they cannot be in the other
        if arguments.picture:
            write_picture(arguments.picture, measurements)
    if arguments.picture and not arguments.json:
        print(f"wrote {arguments.picture}")
    return 0


def _texts(
    contents: ModelFolder,
    arguments: argparse.Namespace,
    config: EvaluationConfig,
    listener: Listener,
) -> "tuple[list[Passage], np.ndarray | None]":
    """What the model is to be scored on, and the ids of its training text, None if not known."""
    from ..evaluation.passages import file_passage, stored_corpus, stored_passages

    if not arguments.data:
        corpus = stored_corpus(contents, listener)
        split = arguments.split or SPLITS[0]
        return stored_passages(contents, corpus, split), corpus.train_ids
    passages = [file_passage(contents, arguments.data, arguments.encoding, listener)]
    if not config.samples:
        return passages, None
    try:
        return passages, stored_corpus(contents, listener).train_ids
    except DataError:
        listener.notice(
            f"{contents.path}: copies are not looked for, since its training text is not known, "
            "not there, or no longer the same"
        )
        return passages, None


def _note_what_is_dropped(
    contents: ModelFolder, passages: "list[Passage]", listener: Listener
) -> None:
    """Says what of the text the figures do not cover."""
    tokenizer = contents.tokenizer
    kind = tokenizer.kind
    for passage in passages:
        if kind == "word":
            unknown = passage.unknown / max(1, len(passage.ids))
            counted = "words have no case and no punctuation: bits per byte counts the words and "
            counted += "the spaces between them"
            if isinstance(tokenizer, WordTokenizer) and tokenizer.char_level:
                counted = "characters may have no case: bits per byte counts them as it has them"
            listener.notice(f"{contents.path}: its {counted} ({unknown:.1%} of them unknown)")
        elif kind == "char" and passage.unknown:
            listener.notice(
                f"{contents.path}: {passage.unknown:,} characters of {passage.name} are not in its "
                "vocabulary and were left out"
            )


def _print(
    measurements: "list[Measurement]", notices: list[str], arguments: argparse.Namespace
) -> None:
    if arguments.json:
        results = [measurement.as_json() for measurement in ranked(measurements)]
        print(json.dumps({"results": results, "notices": notices}, allow_nan=False))
        return
    if len(measurements) == 1:
        for name, value in _lines(measurements[0]):
            print(f"{name:>15}: {value}")
    else:
        for line in table(measurements, terminal_width(sys.stdout, pipe=UNLIMITED)):
            print(line)


def _lines(measurement: "Measurement") -> Iterator[tuple[str, str]]:
    """(name, value) pairs of one measurement."""
    found, samples = measurement.score, measurement.samples
    yield "model", f"{measurement.model} ({measurement.parameters:,} parameters)"
    yield (
        "text",
        f"{measurement.passage.name}: {found.tokens:,} tokens scored, {found.bytes:,} bytes",
    )
    yield "windows", f"{measurement.window} tokens, stride {measurement.stride}"
    yield "loss", f"{found.loss:.4f} nats per token"
    yield "perplexity", f"{found.perplexity:,.2f}"
    yield "bits per byte", formatted(found.bits_per_byte, ".4f")
    if samples is None:
        return
    yield "generated", f"{samples.samples} texts, {samples.tokens:,} tokens"
    values = ", ".join(f"{n}: {formatted(value, '.3f')}" for n, value in samples.distinct.items())
    yield "distinct-n", values
    yield "loop rate", formatted(samples.loop_rate, ".1%")
    yield "copied 8-grams", formatted(samples.copied_ngrams, ".1%")
    longest = formatted(samples.longest_copied, "d")
    if samples.longest_copied:
        longest += f" tokens: {samples.longest_copied_text!r:.200}"
    yield "longest copy", longest


def _cells(measurement: "Measurement", name: str) -> list[str]:
    found, samples = measurement.score, measurement.samples
    cells = [
        name,
        f"{measurement.parameters:,}",
        f"{found.tokens:,}",
        f"{found.loss:.4f}",
        f"{found.perplexity:,.2f}" if found.perplexity < 1e9 else f"{found.perplexity:.3g}",
        formatted(found.bits_per_byte, ".4f"),
    ]
    if samples is not None:
        cells.append(formatted(samples.distinct[2], ".3f"))
        cells.append(formatted(samples.loop_rate, ".1%"))
        cells.append(formatted(samples.longest_copied, "d"))
        cells.append(formatted(samples.copied_ngrams, ".1%"))
    return cells


def table(measurements: "Sequence[Measurement]", width: int) -> list[str]:
    """The lines of a table with a row for each measurement, the lowest bits per byte first.

    Args:
        measurements: Of several models, or of one on several texts.
        width: Columns that the lines may take.

    Returns:
        The lines.
    """
    ordered = ranked(measurements)
    sampled = any(row.samples is not None for row in ordered)
    header = [*COLUMNS, *(SAMPLE_COLUMNS if sampled else ())]
    rows = [_cells(row, name) for row, name in zip(ordered, names(ordered), strict=True)]
    return table_lines(rows, width=width, header=header)
