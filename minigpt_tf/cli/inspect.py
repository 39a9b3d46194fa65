"""The verb `inspect`: what happens in a model, as a page that opens offline."""

import argparse
import dataclasses
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import SamplingConfig
from ..console import ConsoleListener, one_line, table_lines, terminal_width
from ..errors import ConfigError, DataError
from ..events import Listener, NoticeLog
from ..inference.folder import ModelFolder, load_folder
from ..storage.model_folder import newest_folder
from ..text.chat_template import message
from .generate import chat_sampling
from .options import cli_options, given_options, plain_text

if TYPE_CHECKING:  # --help should not wait for the engine
    from ..inference.prompt import Prompt

DESCRIPTION = (
    "Look inside a model while it reads a text: surprise, attention, what each layer would say. Or "
    "at its embeddings, or at the history of runs. Writes one HTML file that opens offline."
)
OUT = Path("inspect.html")
NEIGHBORS = 10
"""Nearest tokens of a word that are printed."""
SAMPLING = [
    item.name for item in dataclasses.fields(SamplingConfig) if item.name != "max_new_tokens"
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The text, what to look at, and where the page goes.

    Args:
        parser: The verb's; options are added to it.
    """
    text_help = "what the model reads; with --embeddings a word to begin at"
    parser.add_argument("text", nargs="?", type=plain_text, metavar="TEXT", help=text_help)
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="model folder (unset: the newest in models/)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--embeddings",
        action="store_true",
        help="a map of the token embeddings, and the nearest tokens of each",
    )
    what.add_argument(
        "--history",
        nargs="*",
        type=Path,
        metavar="DIR",
        help="loss, accuracy, rate, gradient norm and samples of runs, by their model folders "
        "(unset: --model)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"where the page goes ({OUT}; none with --json)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    parser.add_argument(
        "--chat",
        action="store_true",
        help="TEXT is a message to a model with a chat template",
    )
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        default=argparse.SUPPRESS,
        metavar="N",
        help="also let the model continue TEXT, by at most so many tokens (0)",
    )
    group = parser.add_argument_group("how it continues, with --max-new-tokens")
    cli_options(group, SamplingConfig, preset_decides=False, only=SAMPLING)


def run(arguments: argparse.Namespace) -> int:
    """Writes the page, and prints what is most worth knowing.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.
    """
    given = given_options(arguments, SamplingConfig)
    sampling = SamplingConfig(**given)
    _check_options(arguments, given)
    out = arguments.out or (None if arguments.json else OUT)
    from ..inspection.page import check_page

    if out is not None:
        check_page(out)
    listener = ConsoleListener(sys.stderr)
    log = NoticeLog(listener)
    model = arguments.model
    try:
        if arguments.history is not None:
            runs = arguments.history or [model or newest_folder()]
            return _history(runs, out, arguments.json)
        folder = load_folder(model or newest_folder())
        if arguments.embeddings:
            return _embeddings(folder, arguments.text, out, arguments.json, log)
        return _text(folder, arguments, sampling, given, out, log)
    finally:
        listener.clear()


def _check_options(arguments: argparse.Namespace, given: dict[str, Any]) -> None:
    """Refuses options that contradict each other."""
    history = arguments.history is not None
    if history and arguments.text is not None:
        raise ConfigError("--history shows runs: drop TEXT")
    if arguments.history and arguments.model is not None:
        raise ConfigError("--history names the runs: drop --model")
    of_text = [*given, *(["chat"] if arguments.chat else [])]
    if of_text and (history or arguments.embeddings):
        name = of_text[0].replace("_", "-")
        raise ConfigError(f"--{name} is for a TEXT: drop it, or drop --history and --embeddings")
    if given and not given.get("max_new_tokens"):
        name = next(iter(given)).replace("_", "-")
        raise ConfigError(f"--{name} says how the text continues: add --max-new-tokens 20")
    if not (history or arguments.embeddings) and arguments.text is None:
        raise DataError('there is no TEXT: give one, such as "who is ...", or --embeddings')


# ---------------------------------------------------------------- a text


def _text(
    folder: ModelFolder,
    arguments: argparse.Namespace,
    sampling: SamplingConfig,
    given: dict[str, Any],
    out: Path | None,
    log: NoticeLog,
) -> int:
    import numpy as np

    from ..inspection.inside import inside_of
    from ..inspection.opening import opened
    from ..inspection.page import html_page, write_page
    from ..inspection.text_page import (
        Reading,
        attention_bytes,
        attention_lists,
        check_length,
        model_name,
        nearest_passages,
        report,
    )
    from ..text.token_texts import TokenTexts

    prompt = _prompt(folder, arguments)
    for notice in prompt.notices():
        log.notice(notice)
    check_length(folder.model, len(prompt.ids))
    ids = list(prompt.ids)
    if given:
        ids += _continued(folder, prompt, sampling, given, arguments.chat)
        ids = ids[: folder.model.context_length]  # it has read no more
        check_length(folder.model, len(ids))
    with opened(folder) as source:
        found = inside_of(source, np.array(ids, dtype=np.int64), log)
    passages = nearest_passages(folder, found.ids, log)
    name, texts = model_name(folder.path), TokenTexts(folder.tokenizer)
    reading = Reading(name, folder.model, prompt.text, len(prompt.ids), texts, log.notices)
    data = report(found, reading) | passages
    if out is not None:
        page = html_page("text", f"Inside {name}", data | {"attention": attention_bytes(found)})
        size = write_page(out, page)
    if arguments.json:
        print(json.dumps(data | {"attention": attention_lists(found)}, allow_nan=False))
        return 0
    for line in _said(data):
        print(line)
    assert out is not None  # without --json there is a page
    print(_wrote(out, size))
    return 0


def _prompt(folder: ModelFolder, arguments: argparse.Namespace) -> "Prompt":
    """What the model reads, all of it."""
    from ..inference.prompt import encode_chat
    from ..inspection.opening import encode_whole, whole

    if not arguments.chat:
        return encode_whole(folder.tokenizer, folder.model, arguments.text)
    if folder.chat_template is None:
        raise ConfigError(f"{folder.path}: has no chat template, which --chat needs: drop it")
    messages = [message("user", arguments.text)]
    context, template = folder.model.context_length, folder.chat_template
    prompt = encode_chat(folder.tokenizer, context, template, messages)
    return whole(prompt, folder.tokenizer, folder.model)


def _continued(
    folder: ModelFolder,
    prompt: "Prompt",
    sampling: SamplingConfig,
    given: dict[str, Any],
    chat: bool,
) -> list[int]:
    """The tokens with which the model continues."""
    from ..inference.generate import TextGenerator

    generator = TextGenerator.load(folder.path)
    if chat:
        sampling = chat_sampling(generator, given)
    return generator.generate(prompt, replace(sampling, context_full="stop")).ids


def _said(data: dict[str, Any]) -> list[str]:
    """The most surprising tokens, and what the model would say next, for the terminal."""
    lines = []
    tokens = [token for token in data["tokens"] if token["surprise"] is not None]
    if tokens:
        rows = [
            (
                repr(token["text"]),
                f"{token['probability']:.4f}",
                f"{token['surprise']:.2f}",
                repr(token["alternatives"][0]["text"]),
            )
            for token in sorted(tokens, key=lambda token: -token["surprise"])[:5]
        ]
        header = ("most surprising", "probability", "surprise", "expected")
        rows = [(one_line(a), b, c, one_line(d)) for a, b, c, d in rows]
        lines += table_lines(rows, width=terminal_width(sys.stdout), header=header)
    likely = ", ".join(
        f"{one_line(repr(row['text']))} {row['probability']:.2f}" for row in data["next"][:3]
    )
    lines.append(f"next: {likely}")
    count = len(data["tokens"])
    if data["loss"] is not None:
        lines.append(
            f"{count} tokens, loss {data['loss']:.4f} nats per token, perplexity "
            f"{data['perplexity']:,.2f}"
        )
    return lines


def _wrote(out: Path, size: int) -> str:
    return f"wrote {out} ({size / 1000:,.0f} kB): open it in a browser"


# ---------------------------------------------------------------- embeddings, history


def _embeddings(
    folder: ModelFolder, word: str | None, out: Path | None, as_json: bool, listener: Listener
) -> int:
    from ..inspection.embeddings import embedding_map, map_data, neighbors_of, start_token
    from ..inspection.page import html_page, write_page
    from ..inspection.text_page import model_name

    chosen = None if word is None else start_token(folder, word)
    found = embedding_map(folder, listener)
    name = model_name(folder.path)
    if out is not None:
        data = map_data(found, name, chosen)
        size = write_page(out, html_page("embeddings", f"Embeddings of {name}", data))
    near = None if chosen is None else neighbors_of(found, chosen)
    if as_json:
        print(json.dumps(found.as_json() | {"word": word, "nearest": near}, allow_nan=False))
        return 0
    for row in near or ():
        print(f"{row['similarity']:.4f}  {one_line(repr(row['text']))}")
    assert out is not None
    print(_wrote(out, size))
    return 0


def _history(paths: list[Path], out: Path | None, as_json: bool) -> int:
    from ..inspection.page import html_page, write_page
    from ..inspection.runs import drawn, read_runs

    data = read_runs(paths)
    if out is not None:
        size = write_page(out, html_page("history", "How they learned", drawn(data)))
    if as_json:
        print(json.dumps(data, allow_nan=False))
        return 0
    rows = [
        (
            run["name"],
            f"{run['rows'][-1]['step']:,.0f}",
            *(
                "-" if value is None else f"{value:.4f}"
                for value in (run["rows"][-1][name] for name in ("loss", "val_loss", "accuracy"))
            ),
        )
        for run in data["runs"]
    ]
    header = ("run", "steps", "loss", "validation loss", "accuracy")
    for line in table_lines(rows, width=terminal_width(sys.stdout), header=header):
        print(line)
    assert out is not None
    print(_wrote(out, size))
    return 0
