"""The verb `ask`."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ANSWER_TOKENS, EngineConfig, RecordsConfig, SamplingConfig
from ..config.presets import asking_preset
from ..console import ConsoleListener, one_line, table_lines, terminal_width, wrap
from ..events import NoticeLog
from .options import cli_options, given_options
from .retrieving import add_records_arguments, load_library

if TYPE_CHECKING:  # --help should not wait for the engine
    from ..evaluation.questions.comparison import Comparison

DESCRIPTION = (
    "Ask several models the same questions, each through its own template, and show the answers "
    "side by side; the models that they were fine-tuned from are asked along."
)

WIDEST_NAME = 24
"""Columns of the models' names; a longer one is folded."""

LONGEST = 1200
"""Characters of a question or an input that are shown."""

NARROWEST = 60
"""Columns that are used at least, however narrow the terminal is."""

VERDICTS = {True: "right", False: "wrong", None: ""}
ELLIPSIS = " [...]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The models, the questions, and how the answers are sampled and shown.

    Args:
        parser: The verb\'s; options are added to it.
    """
    parser.add_argument(
        "--models", nargs="+", action="extend", required=True, metavar="DIR", help="model folders"
    )
    parser.add_argument(
        "--queries",
        type=Path,
        required=True,
        metavar="FILE",
        help="questions: .txt with one on each line; .json .jsonl .csv .tsv with question (or "
        "instruction and input, or prompt) and, perhaps, the fact that a right answer contains",
    )
    parser.add_argument(
        "--encoding",
        default=RecordsConfig.encoding,
        metavar="TEXT",
        help=f"encoding of --queries ({RecordsConfig.encoding})",
    )
    parser.add_argument(
        "--no-base",
        action="store_true",
        help="ask the named models alone, not those that they were fine-tuned from",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the JSON object there, too")
    add_records_arguments(parser)
    cli_options(parser, EngineConfig, preset_decides=False)
    title = f"answers (unset: the most likely token each time, at most {ANSWER_TOKENS})"
    cli_options(parser.add_argument_group(title), SamplingConfig, preset_decides=True)


def run(arguments: argparse.Namespace) -> int:
    """Prints the answers; progress and what else there is to say go to stderr.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.
    """
    sampling = asking_preset(**given_options(arguments, SamplingConfig))
    engine = EngineConfig(**given_options(arguments, EngineConfig))
    from ..evaluation.questions.answer_file import as_json, check_output, write_answers
    from ..evaluation.questions.comparison import choose_models, compare
    from ..evaluation.questions.queries import read_queries

    queries = read_queries(arguments.queries, arguments.encoding)
    if arguments.out:
        check_output(arguments.out, queries.where)
    listener = ConsoleListener(sys.stderr)
    log = NoticeLog(listener)  # for --json
    for note in queries.notes:
        log.notice(f"{queries.where}: {note}")
    try:
        models = choose_models(arguments.models, with_bases=not arguments.no_base, listener=log)
        library = load_library(arguments, Path(arguments.models[0]), log)
        comparison = compare(models, queries, sampling, engine, library=library, listener=log)
    finally:
        listener.clear()
    described = {**as_json(comparison), "notices": log.notices}
    try:
        if arguments.json:
            print(json.dumps(described))
        else:
            for line in table(comparison, terminal_width(sys.stdout)):
                print(line)
    finally:  # the answers took long: they are in one place if they cannot be in the other
        if arguments.out:
            write_answers(arguments.out, described)
    if arguments.out and not arguments.json:
        print(f"wrote {arguments.out}")
    return 0


def table(comparison: "Comparison", width: int) -> Iterator[str]:
    """The lines of a block for each query, and of a summary.

    Args:
        comparison: The answers.
        width: Columns that the lines may take; at least `NARROWEST` are used.

    Returns:
        The lines.
    """
    width = max(width, NARROWEST)
    for place in range(len(comparison.queries.queries)):
        yield from _block(comparison, place, width)
        yield ""
    yield from _summary(comparison, width)
    made = comparison.answers
    if not all(answers.ended(i) for answers in made for i in range(len(answers.generations))):
        tokens = comparison.sampling.max_new_tokens
        note = (
            f"{ELLIPSIS.strip()}: not ended after {tokens:,} tokens, or where the context was full"
        )
        yield from wrap(note, width)


def _block(comparison: "Comparison", place: int, width: int) -> Iterator[str]:
    """One query and the answers to it."""
    query = comparison.queries.queries[place]
    yield from _paragraph(f"{comparison.queries.place(query)}:", query.question, 0, width)
    if query.input:
        yield from _paragraph("input:", query.input, 2, width)
    if query.fact is not None:
        yield from _paragraph("fact:", query.fact, 2, width)
    if comparison.found is not None and comparison.found[place]:
        best = comparison.found[place][0].entry
        yield from _paragraph(f"{one_line(best.source)}:", best.text, 2, width)
    rows = []
    for model, name in enumerate(_names(comparison)):
        verdict = [] if query.fact is None else [VERDICTS[comparison.right(model, place)]]
        rows.append([name, *verdict, _answer(comparison, model, place)])
    yield from table_lines(rows, width=width, left=3, indent=2, widest=WIDEST_NAME)


def _paragraph(head: str, text: str, indent: int, width: int) -> list[str]:
    """A text of the file behind what it is, without its middle if it is very long."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]}{ELLIPSIS} {text[-LONGEST // 2 :]}"
    return table_lines([[head, text]], width=width, left=2, indent=indent, gap=1)


def _names(comparison: "Comparison") -> list[str]:
    """What the models are called; a model that another was made from is marked as its base."""
    bases = {answers.model.base for answers in comparison.answers}
    return [
        _label(comparison, model) + (" (base)" if model in bases else "")
        for model in range(len(comparison.answers))
    ]


def _label(comparison: "Comparison", model: int) -> str:
    return one_line(comparison.answers[model].model.label)


def _answer(comparison: "Comparison", model: int, place: int) -> str:
    """An answer as it is shown, without blank lines."""
    same = comparison.same_as(model, place)
    if same is not None:
        return f"(the same answer as {_label(comparison, same)})"
    answers = comparison.answers[model]
    lines = [line.rstrip() for line in answers.text(place).splitlines() if line.strip()]
    text = "\n".join(lines) or "(no answer)"
    return text if answers.ended(place) else text + ELLIPSIS


def _summary(comparison: "Comparison", width: int) -> list[str]:
    """A row for each model."""
    queries, facts = len(comparison.queries.queries), comparison.queries.facts
    tuned = any(answers.model.base is not None for answers in comparison.answers)
    header = ["model"]
    if facts:
        header.append("facts right")
    if tuned:
        header.append("same as its base")
    rows = []
    for model, answers in enumerate(comparison.answers):
        row = [_names(comparison)[model]]
        if facts:
            row.append(f"{comparison.facts_right(model)} of {facts}")
        if tuned:
            same = sum(comparison.as_base(model, place) is True for place in range(queries))
            row.append("-" if answers.model.base is None else f"{same} of {queries}")
        rows.append([*row, f"{sum(map(answers.ended, range(queries)))} of {queries}"])
    return table_lines(rows, width=width, header=[*header, "ended by itself"])
