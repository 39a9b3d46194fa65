"""The answers of several models as plain data, and the file with them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...config.settings import to_dict
from ...errors import ConfigError
from ...retrieval.context import as_plain
from ...storage.json_files import write_json
from ...storage.paths import real_path
from ...storage.replacing import replaced_file
from .comparison import Comparison


def as_json(comparison: Comparison) -> dict[str, Any]:
    """All of it as plain data.

    Args:
        comparison: The answers.

    Returns:
        What `minigpt ask --json` prints.
    """
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
                **(
                    {}
                    if comparison.found is None
                    else {"records": as_plain(comparison.found[place])}
                ),
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
    """Refuses, before any model is asked, a file that the answers cannot be written to.

    Args:
        file: Where the answers should go.
        queries: The file with the queries, which is never replaced.

    Raises:
        ConfigError: It is a folder, the queries' file, not a regular file, or in no folder.
    """
    if file.is_dir():
        raise ConfigError(f"{file} is a folder: name a file")
    if not file.parent.is_dir():
        raise ConfigError(f"{file}: there is no folder {file.parent}: make it first")
    if file.exists() and not file.is_file():
        raise ConfigError(f"{file} is not a regular file: name another")
    if real_path(file) == real_path(queries):
        raise ConfigError(f"{file} is the file with the queries: name another")


def write_answers(file: Path, described: dict[str, Any]) -> None:
    """Writes answers to a file, all of them or nothing.

    Args:
        file: Where to write.
        described: What `as_json` gives.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        with replaced_file(file) as scratch:
            write_json(scratch, described)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{file}: cannot be written: {reason}: choose another") from None
