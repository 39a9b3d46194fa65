"""The verb `evaluate`."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import DataConfig, EngineConfig, EvaluationConfig
from ..console import ConsoleListener
from ..errors import ConfigError, DataError
from ..events import Listener, NoticeLog
from ..inference.folder import ModelFolder, load_folder
from ..storage.model_folder import newest_folder
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The models, the text and how both are looked at."""
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
    """Prints the figures; progress and what else there is to say go to stderr."""
    config = EvaluationConfig(**given_options(arguments, EvaluationConfig))
    engine_config = EngineConfig(**given_options(arguments, EngineConfig))
    DataConfig(encoding=arguments.encoding)
    if config.backend == "keras" and engine_config.quantize != "none":
        raise ConfigError("--quantize is the engine's: drop --backend keras")
    if arguments.data and arguments.split:
        raise ConfigError("--split names a part of the training text: drop it, or drop --data")
    from ..evaluation.measurement import measure, window_of
    from ..evaluation.report import check_picture, write_picture

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
            _note_what_is_lost(contents, passages, log)
    finally:
        listener.clear()
    if len({m.passage.text for m in measurements}) > 1:
        log.notice("the models were scored on different texts: their figures do not compare")
    _print(measurements, log.notices, arguments)
    if arguments.picture:  # last: the figures took long, and are not lost if it cannot be written
        write_picture(arguments.picture, measurements)
        if not arguments.json:
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


def _note_what_is_lost(
    contents: ModelFolder, passages: "list[Passage]", listener: Listener
) -> None:
    """Says what of the text the figures do not cover."""
    kind = contents.tokenizer.kind
    for passage in passages:
        if kind == "word":
            share = passage.unknown / max(1, len(passage.ids))
            counted = "words have no case and no punctuation: bits per byte counts the words and "
            counted += "the spaces between them"
            if contents.tokenizer.char_level:
                counted = "characters may have no case: bits per byte counts them as it has them"
            listener.notice(f"{contents.path}: its {counted} ({share:.1%} of them unknown)")
        elif kind == "char" and passage.unknown:
            listener.notice(
                f"{contents.path}: {passage.unknown:,} characters of {passage.name} are not in its "
                "vocabulary and were left out"
            )


def _print(
    measurements: "list[Measurement]", notices: list[str], arguments: argparse.Namespace
) -> None:
    from ..evaluation.report import lines, ranked, table

    if arguments.json:
        results = [measurement.as_json() for measurement in ranked(measurements)]
        print(json.dumps({"results": results, "notices": notices}, allow_nan=False))
        return
    if len(measurements) == 1:
        for name, value in lines(measurements[0]):
            print(f"{name:>15}: {value}")
    else:
        for line in table(measurements):
            print(line)
