"""The verb `ask`."""

import argparse
import json
import shutil
import sys
from pathlib import Path

from ..config import ANSWER_TOKENS, EngineConfig, RecordsConfig, SamplingConfig
from ..config.presets import asking_preset
from ..console import ConsoleListener
from ..events import NoticeLog
from .options import cli_options, given_options

DESCRIPTION = (
    "Ask several models the same questions, each through its own template, and show the answers "
    "side by side; the models that they were fine-tuned from are asked along."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The models, the questions, and how the answers are sampled and shown."""
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
    cli_options(parser, EngineConfig, preset_decides=False)
    title = f"answers (unset: the likeliest token each time, at most {ANSWER_TOKENS})"
    cli_options(parser.add_argument_group(title), SamplingConfig, preset_decides=True)


class _PrintableConsole(ConsoleListener):
    """Names of folders may contain characters that steer a terminal."""

    def notice(self, text: str) -> None:
        from ..text.columns import printable

        super().notice(printable(text).replace("\n", " "))


def run(arguments: argparse.Namespace) -> int:
    """Prints the answers; progress and what else there is to say go to stderr."""
    sampling = asking_preset(**given_options(arguments, SamplingConfig))
    engine = EngineConfig(**given_options(arguments, EngineConfig))
    from ..evaluation.questions.comparison import choose_models, compare
    from ..evaluation.questions.queries import read_queries
    from ..evaluation.questions.report import as_json, check_output, table, write_answers

    queries = read_queries(arguments.queries, arguments.encoding)
    if arguments.out:
        check_output(arguments.out, queries.where)
    listener = _PrintableConsole(sys.stderr)
    log = NoticeLog(listener)  # for --json
    try:
        models = choose_models(arguments.models, with_bases=not arguments.no_base, listener=log)
        comparison = compare(models, queries, sampling, engine, listener=log)
    finally:
        listener.clear()
    described = {**as_json(comparison), "notices": log.notices}
    if arguments.json:
        print(json.dumps(described))
    else:
        for line in table(comparison, shutil.get_terminal_size().columns):
            print(line)
    if arguments.out:  # last: the answers took long, and are not lost if it cannot be written
        write_answers(arguments.out, described)
        if not arguments.json:
            print(f"wrote {arguments.out}")
    return 0
