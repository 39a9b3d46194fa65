"""The answers of several models for people, side by side, and as plain data."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...config.settings import to_dict
from ...errors import ConfigError
from ...text.columns import display_width, fill, pad, printable
from .comparison import Comparison

WIDEST_NAME = 24
"""Columns: a model with a longer name has a line for it."""

LONGEST = 1200
"""Characters of a question or an input that are shown."""

NARROWEST = 60
"""Columns that are used at least, however narrow the terminal is."""

VERDICTS = {True: "right", False: "wrong", None: ""}
CUT = " [...]"


def table(comparison: Comparison, width: int) -> Iterator[str]:
    """The lines of a block for each query, at most `width` columns, and those of the summary."""
    width = max(width, NARROWEST)
    for place in range(len(comparison.queries.queries)):
        yield from _block(comparison, place, width)
        yield ""
    yield from _summary(comparison)
    made = comparison.answers
    if not all(answers.ended(i) for answers in made for i in range(len(answers.generations))):
        tokens = comparison.sampling.max_new_tokens
        yield f"{CUT.strip()}: not ended after {tokens:,} tokens, or where the context was full"


def _names(comparison: Comparison) -> list[str]:
    """What the models are called; those from which another one was made are told as bases."""
    bases = {answers.model.base for answers in comparison.answers}
    return [
        _label(comparison, model) + " (base)" * (model in bases)
        for model in range(len(comparison.answers))
    ]


def _label(comparison: Comparison, model: int) -> str:
    return printable(comparison.answers[model].model.label).replace("\n", " ")


def _block(comparison: Comparison, place: int, width: int) -> Iterator[str]:
    """One query and the answers to it."""
    query = comparison.queries.queries[place]
    yield from _paragraph(comparison.queries.place(query) + ": ", query.question, "  ", width)
    if query.input:
        yield from _paragraph("  input: ", query.input, " " * 9, width)
    if query.fact is not None:
        yield from _paragraph("  fact: ", query.fact, " " * 8, width)
    called = _names(comparison)
    widest = min(max(map(display_width, called)), WIDEST_NAME)
    for number, name in enumerate(called):
        verdict = VERDICTS[comparison.right(number, place)]
        verdicts = f"{verdict:<5}  " if query.fact is not None else ""
        head = f"  {pad(name, widest)}  {verdicts}"
        indent = " " * (widest + 4 + len(verdicts))
        if display_width(name) > widest:
            yield f"  {name}"
            head = f"  {' ' * widest}  {verdicts}"
        yield from _lines(head, _answer(comparison, number, place), indent, width)


def _answer(comparison: Comparison, model: int, place: int) -> str:
    """An answer as it is shown."""
    same = comparison.same_as(model, place)
    if same is not None:
        return f"(the same answer as {_label(comparison, same)})"
    answers = comparison.answers[model]
    text = printable(answers.text(place)) or "(no answer)"
    return text if answers.ended(place) else text + CUT


def _paragraph(head: str, text: str, indent: str, width: int) -> Iterator[str]:
    """A text of the file behind what it is, shortened where it is very long."""
    shown = printable(text)
    if len(shown) > LONGEST:
        shown = shown[: LONGEST // 2] + CUT + " " + shown[-LONGEST // 2 :]
    yield from _lines(head, shown, indent, width)


def _lines(head: str, text: str, indent: str, width: int) -> Iterator[str]:
    """A text behind `head`, its further lines behind `indent`."""
    room = width - max(display_width(head), len(indent))
    for number, line in enumerate(fill(text, room) or [""]):
        yield ((indent if number else head) + line).rstrip()


def _summary(comparison: Comparison) -> Iterator[str]:
    """A row for each model."""
    queries, facts = len(comparison.queries.queries), comparison.queries.facts
    tuned = any(answers.model.base is not None for answers in comparison.answers)
    header = ["model", *["facts right"] * bool(facts), *["same as its base"] * tuned]
    rows = [[*header, "ended by itself"]]
    for model, answers in enumerate(comparison.answers):
        row = [_names(comparison)[model]]
        if facts:
            row.append(f"{comparison.facts_right(model)} of {facts}")
        if tuned:
            same = sum(comparison.as_base(model, place) is True for place in range(queries))
            row.append("-" if answers.model.base is None else f"{same} of {queries}")
        rows.append([*row, f"{sum(map(answers.ended, range(queries)))} of {queries}"])
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    for first, *cells in rows:
        others = [cell.rjust(size) for cell, size in zip(cells, widths[1:], strict=True)]
        yield "  ".join([pad(first, widths[0]), *others])


def as_json(comparison: Comparison) -> dict[str, Any]:
    """All of it as plain data."""
    places = range(len(comparison.queries.queries))
    paths = [str(answers.model.folder.path) for answers in comparison.answers]
    return {
        "queries_file": comparison.queries.where,
        "sampling": to_dict(comparison.sampling),
        "quantize": comparison.engine.quantize,
        "models": [_model_json(comparison, model, paths) for model in range(len(paths))],
        "queries": [
            {
                "row": query.row,
                "question": query.question,
                "input": query.input,
                "fact": query.fact,
                "answers": [_answer_json(comparison, m, place, paths) for m in range(len(paths))],
            }
            for place, query in zip(places, comparison.queries.queries, strict=True)
        ],
        "notices": comparison.notices,
    }


def _model_json(comparison: Comparison, model: int, paths: Sequence[str]) -> dict[str, Any]:
    """A model, and what its answers amount to."""
    answers = comparison.answers[model]
    base = answers.model.base
    return {
        "model": paths[model],
        "base": None if base is None else paths[base],
        "template": answers.model.template.name,
        "facts": comparison.queries.facts,
        "facts_right": comparison.facts_right(model),
        "completion_tokens": sum(len(made.ids) for made in answers.generations),
        "seconds": round(answers.seconds, 2),
    }


def _answer_json(
    comparison: Comparison, model: int, place: int, paths: Sequence[str]
) -> dict[str, Any]:
    """One answer."""
    answers = comparison.answers[model]
    made = answers.generations[place]
    return {
        "model": paths[model],
        "answer": answers.text(place),
        "fact_right": comparison.right(model, place),
        "same_as_base": comparison.as_base(model, place),
        "finish_reason": made.finish_reason,
        "prompt_tokens": len(made.prompt.ids),
        "completion_tokens": len(made.ids),
    }


def check_output(file: Path, queries: str) -> None:
    """Raises ConfigError, before any model is asked, where the answers cannot be written there."""
    if file.is_dir():
        raise ConfigError(f"{file} is a folder: name a file")
    if not file.parent.is_dir():
        raise ConfigError(f"{file}: there is no folder {file.parent}: make it first")
    if file.exists() and not file.is_file():
        raise ConfigError(f"{file} is not a regular file: name another")
    if file.resolve() == Path(queries).resolve():
        raise ConfigError(f"{file} is the file with the queries: name another")


def write_answers(file: Path, described: dict[str, Any]) -> None:
    """Writes what `as_json` gives to a file, all of it or nothing. Raises ConfigError."""
    scratch = file.with_name(f".{os.getpid()}-{file.name}")
    try:
        scratch.write_text(
            json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        os.replace(scratch, file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{file}: cannot be written: {reason}: choose another") from None
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
