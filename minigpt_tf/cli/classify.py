"""The verb `classify`."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import EngineConfig, RecordsConfig
from ..console import (
    LONGEST_LABEL,
    UNLIMITED,
    ConsoleListener,
    one_line,
    table_lines,
    terminal_width,
)
from ..errors import ConfigError
from .options import cli_options, given_options, plain_text

if TYPE_CHECKING:  # --help should not wait for the engine
    from ..classification.classifier import Classifier, Guess, Trial

DESCRIPTION = (
    "Give texts labels, with a model that minigpt finetune --method classify made; or see how well "
    "it does on labeled texts."
)
READING = ("map", "query", "sheet", "encoding", "quoting")
"""The settings of RecordsConfig that say how a file is read."""

MOST_SHOWN = 5
"""Labels of one text that are printed, the most likely first."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The texts or the file, and the model.

    Args:
        parser: The verb\'s; options are added to it.
    """
    parser.add_argument("texts", nargs="*", type=plain_text, metavar="TEXT", help="text to label")
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="model folder (unset: the newest)"
    )
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="labeled texts (.json .jsonl .csv .tsv .xlsx .txt, or sqlite:///FILE with --query) "
        "instead of TEXT: prints accuracy, precision, recall and F1",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    cli_options(parser, EngineConfig, preset_decides=False)
    cli_options(parser, RecordsConfig, preset_decides=False, only=READING)


def run(arguments: argparse.Namespace) -> int:
    """Prints labels and probabilities, or the figures; what else there is to say, on stderr.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.
    """
    if bool(arguments.texts) == (arguments.data is not None):
        raise ConfigError("give a TEXT, or several, or else a file of labeled texts with --data")
    reading = given_options(arguments, RecordsConfig)
    if reading and arguments.data is None:
        raise ConfigError(f"--{next(iter(reading))} says how --data is read: drop it")
    records = RecordsConfig(**reading)
    config = EngineConfig(**given_options(arguments, EngineConfig))
    from ..classification.classifier import Classifier
    from ..storage.model_folder import newest_folder

    folder = arguments.model or newest_folder()
    classifier = Classifier.load(folder, config)
    notices = [classifier.notice] if classifier.notice else []
    if arguments.data is not None:
        trial = _try_on(classifier, arguments.data, records)
        notices += _trial_notices(trial, classifier)
        _print_trial(trial, folder, notices, arguments.json)
        return 0
    guesses = [classifier.classify(text) for text in arguments.texts]
    notices += [
        f"{guess.text!r:.40} is longer than the {classifier.context_length} tokens that the "
        f"classifier reads: {guess.dropped} were left out"
        for guess in guesses
        if guess.dropped
    ]
    _print_guesses(guesses, folder, notices, arguments.json)
    return 0


def _try_on(classifier: "Classifier", source: str, config: RecordsConfig) -> "Trial":
    listener = ConsoleListener(sys.stderr)
    try:
        return classifier.try_on(source, config, listener)
    finally:
        listener.clear()


def _trial_notices(trial: "Trial", classifier: "Classifier") -> list[str]:
    notices = []
    if trial.dropped:
        first = trial.dropped[0]
        notices.append(
            f"{len(trial.dropped):,} rows were left out, the first is {trial.unit} {first.row}: "
            f"{first.reason}"
        )
    if trial.truncated:
        notices.append(
            f"{trial.truncated:,} texts are longer than the {classifier.context_length} tokens "
            "that the classifier reads, and were truncated"
        )
    return notices


def _print_trial(trial: "Trial", folder: Path, notices: list[str], as_json: bool) -> None:
    figures = trial.as_json()
    if as_json:
        _print_json({"model": str(folder), **figures, "notices": notices})
        return
    _say(notices)
    print(f"{trial.where}: {figures['texts']:,} texts, loss {trial.loss:.4f}, ", end="")
    print(f"{trial.confusion.accuracy:.2%} right")
    for line in figures_table(figures, terminal_width(sys.stdout, pipe=UNLIMITED)):
        print(line)


def figures_table(figures: dict[str, Any], width: int) -> list[str]:
    """A line for each label and one for all.

    Args:
        figures: What `Confusion.as_json` gives.
        width: Columns that the lines may take.

    Returns:
        The lines.
    """
    rows = [
        [
            one_line(label, LONGEST_LABEL),
            f"{of['texts']:,}",
            *(f"{of[name]:.1%}" for name in ("precision", "recall", "f1")),
        ]
        for label, of in figures["classes"].items()
    ]
    rows.append(["mean", "", "", "", f"{figures['macro_f1']:.1%}"])
    header = ("label", "texts", "precision", "recall", "F1")
    return table_lines(rows, width=width, header=header, indent=4)


def split_lines(splits: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, value) pairs of what config.json keeps of every split of the records.

    Args:
        splits: Its "parts".

    Yields:
        The name of a split, and its figures as text.
    """
    for name, split in splits.items():
        found = f"loss {split['loss']:.4f}, {split['accuracy']:.2%} right"
        yield name, f"{split['texts']:,} texts, {found}"


def _print_guesses(
    guesses: "Sequence[Guess]", folder: Path, notices: list[str], as_json: bool
) -> None:
    if as_json:
        results = [
            {"text": guess.text, "label": guess.label, "probabilities": guess.probabilities}
            for guess in guesses
        ]
        _print_json({"model": str(folder), "results": results, "notices": notices})
        return
    _say(notices)
    for guess in guesses:
        best = sorted(guess.probabilities.items(), key=lambda item: -item[1])[:MOST_SHOWN]
        found = "  ".join(f"{one_line(label, LONGEST_LABEL)} {p:.1%}" for label, p in best)
        print(found if len(guesses) == 1 else f"{found}  {guess.text!r:.80}")


def _print_json(described: dict[str, Any]) -> None:
    print(json.dumps(described, allow_nan=False))


def _say(notices: list[str]) -> None:
    for notice in notices:
        print(f"note: {notice}", file=sys.stderr)
