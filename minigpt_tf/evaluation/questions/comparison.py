"""The same questions to several models, one model in memory at a time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...config import EngineConfig, ModelConfig, SamplingConfig
from ...errors import DataError, ModelFolderError
from ...events import SILENT, Listener, NoticeLog
from ...inference.adapter import fingerprint
from ...inference.answer import Generation
from ...inference.engine import Engine
from ...inference.folder import ModelFolder, load_folder
from ...inference.prompt import Prompt
from ...inference.stored_weights import load_weights
from ...records.prompts import Template
from ...records.schema import ask, content_of
from ...records.truncation import Row
from ...retrieval.context import UNKNOWN, messages_that_fit
from ...retrieval.index import Found
from ...retrieval.library import Library
from ...storage.model_folder import CLASSIFIER_SECTION
from ...storage.paths import real_path
from ...text.chat_template import Message
from .answers import answer_each, prompt_row
from .facts import contains_fact
from .queries import Queries, Query

NOT_ASKED = "records"
"""The finish reason of an answer that says that the records do not contain it."""

MOST_NAMED = 8
"""So many rows, or words that a model does not know, are named in a notice."""


@dataclass(frozen=True)
class AskedModel:
    """A model that is asked."""

    folder: ModelFolder
    template: Template
    label: str
    """Its folder's name, or all of the path if another folder has the same name."""
    base: int | None
    """Place, among the models, of the one that it was fine-tuned from; None where that is not asked
    or unknown."""


@dataclass(frozen=True)
class ModelAnswers:
    """What one model answers."""

    model: AskedModel
    generations: list[Generation]
    """In the order of the queries."""
    seconds: float
    """Of all answers together, without loading."""

    def text(self, place: int) -> str:
        """The answer to a query.

        Args:
            place: Of the query.

        Returns:
            The text, without white space around it.
        """
        return self.generations[place].text.strip()

    def ended(self, place: int) -> bool:
        """Whether an answer ended by itself.

        Args:
            place: Of the query.

        Returns:
            False if its tokens or the context were used up.
        """
        return self.generations[place].finish_reason in ("end", "stop", NOT_ASKED)


@dataclass(frozen=True)
class Comparison:
    """The answers of all models to all queries."""

    queries: Queries
    sampling: SamplingConfig
    engine: EngineConfig
    answers: list[ModelAnswers]
    notices: list[str] = field(default_factory=list)
    found: list[list[Found]] | None = None
    """For each query, the entries of the records that the models saw; None without records."""

    def right(self, model: int, query: int) -> bool | None:
        """Whether an answer contains the query's fact.

        Args:
            model: Place of the model among the answers.
            query: Place of the query.

        Returns:
            None if the query has no fact.
        """
        fact = self.queries.queries[query].fact
        return None if fact is None else contains_fact(self.answers[model].text(query), fact)

    def same_as(self, model: int, query: int) -> int | None:
        """The first of the models before this one whose answer is the same, word by word.

        Args:
            model: Place of the model among the answers.
            query: Place of the query.

        Returns:
            Its place; None if all differ.
        """
        text = self.answers[model].text(query)
        return next((i for i in range(model) if self.answers[i].text(query) == text), None)

    def as_base(self, model: int, query: int) -> bool | None:
        """Whether an answer is that of the model's base, word by word.

        Args:
            model: Place of the model among the answers.
            query: Place of the query.

        Returns:
            None if the model has no base, or that was not asked.
        """
        base = self.answers[model].model.base
        if base is None:
            return None
        return self.answers[model].text(query) == self.answers[base].text(query)

    def facts_right(self, model: int) -> int:
        """How many answers of a model contain the query's fact.

        Args:
            model: Place of the model among the answers.

        Returns:
            The number.
        """
        return sum(self.right(model, query) is True for query in range(len(self.queries.queries)))


def choose_models(
    paths: Sequence[str | Path], *, with_bases: bool, listener: Listener = SILENT
) -> list[AskedModel]:
    """The models in folders, each once.

    Args:
        paths: Model folders.
        with_bases: Whether the models that they were fine-tuned from are asked too, and first.
        listener: Receives a notice for a base that is not there, or has changed, and is left out.

    Returns:
        The models.

    Raises:
        ModelFolderError: A folder is damaged, or its model does not answer with text.
    """
    named: dict[Path, ModelFolder] = {}
    for path in paths:
        folder = _load(path)
        named.setdefault(real_path(folder.path), folder)
    bases: dict[Path, ModelFolder] = {}
    base_of: dict[Path, Path] = {}
    fingerprints: dict[Path, str] = {}
    for place, folder in named.items() if with_bases else ():
        base = _base(folder, fingerprints, listener)
        if base is not None:
            base_of[place] = real_path(base.path)
            bases.setdefault(base_of[place], named.get(base_of[place], base))
    chosen = bases | {place: folder for place, folder in named.items() if place not in bases}
    places = list(chosen)
    chosen_paths = [folder.path for folder in chosen.values()]
    return [
        AskedModel(
            folder,
            Template.of(folder),
            _label(folder.path, chosen_paths),
            places.index(base_of[place]) if place in base_of else None,
        )
        for place, folder in chosen.items()
    ]


def _load(path: str | Path) -> ModelFolder:
    """A model folder with weights of the right names and shapes, and a model that writes text."""
    folder = load_folder(path)
    if CLASSIFIER_SECTION in folder.description:
        raise ModelFolderError(
            f"{folder.path}: is a classifier, which gives labels and no answers (minigpt classify)"
        )
    with folder.open_weights():
        return folder


def _base(
    folder: ModelFolder, fingerprints: dict[Path, str], listener: Listener
) -> ModelFolder | None:
    """What a model was fine-tuned from; None where it was not, or that cannot be asked.

    `fingerprints`: of the bases so far, as reading a large file takes a while.
    """
    section = folder.description.get("finetuning")
    if section is None:
        return None
    known = section if isinstance(section, dict) else {}
    path, expected = known.get("base"), known.get("base_fingerprint")
    if not isinstance(path, str) or not isinstance(expected, str):
        listener.notice(
            f"{folder.path}: its config.json does not name its base, which is not asked"
        )
        return None
    try:
        base = _load(path)
        place = real_path(base.path)
        if place not in fingerprints:
            fingerprints[place] = fingerprint(base.path)
        if fingerprints[place] == expected:
            return base
        reason = f"{base.path} has changed since"
    except (ModelFolderError, OSError) as error:
        reason = str(error)
    listener.notice(f"{folder.path}: its base is not asked: {reason}")
    return None


def _label(path: Path, paths: Sequence[Path]) -> str:
    """The folder's name, or the path where another folder has the same name."""
    names = [real_path(other).name for other in paths]
    name = real_path(path).name
    return name if name and names.count(name) == 1 else str(path)


def compare(
    models: Sequence[AskedModel],
    queries: Queries,
    sampling: SamplingConfig,
    engine: EngineConfig | None = None,
    *,
    library: Library | None = None,
    listener: Listener = SILENT,
) -> Comparison:
    """Asks every model every query, through the model's own template, one model after the other.

    Args:
        models: From `choose_models`.
        queries: What to ask.
        sampling: How answers are generated.
        engine: Weights and threads (unset: the defaults).
        library: Records to answer from: their entries are put before each question, and where none
            fits, no model is asked.
        listener: Receives progress and notices.

    Returns:
        The answers.

    Raises:
        ModelFolderError: A model is damaged.
        DataError: A model's template refuses a query, which is named; before any model is loaded.
    """
    log = NoticeLog(listener)
    engine = engine or EngineConfig()
    found = None
    if library is not None:
        found = [library.find_for(ask(query.question, query.input)) for query in queries.queries]
    prompts = [_prompts(model, queries, found, sampling, log) for model in models]
    answers = [
        _ask(model, rows, sampling, engine, log)
        for model, rows in zip(models, prompts, strict=True)
    ]
    return Comparison(queries, sampling, engine, answers, log.notices, found)


def _prompts(
    model: AskedModel,
    queries: Queries,
    found: list[list[Found]] | None,
    sampling: SamplingConfig,
    listener: Listener,
) -> list[Row | None]:
    """The queries as the model gets them; what it does not get of them is a notice. None: it is not
    asked, as the records do not contain the answer."""
    template, context = model.template, model.folder.model.context_length
    rows: list[Row | None] = []
    unknown: dict[str, None] = {}
    spelled: dict[str, None] = {}
    for number, query in enumerate(queries.queries):
        try:
            spelled |= dict.fromkeys(template.spelled([query.question, query.input]))
            if found is None:
                messages = ask(query.question, query.input)
                rows.append(prompt_row(template, messages, context, sampling))
            else:
                rows.append(_with_entries(template, found[number], query, context, sampling))
        except DataError as error:
            place = f"{queries.where}: {queries.place(query)}"
            raise DataError(f"{place}, to {model.folder.path}: {error}") from None
        unknown |= dict.fromkeys(template.tokenizer.unknown(f"{query.question}\n{query.input}"))
    truncated = [
        str(query.row)
        for query, row in zip(queries.queries, rows, strict=True)
        if row is not None and row.dropped
    ]
    if truncated:
        listener.notice(
            f"{model.label}: its context of {context:,} tokens is short: the middle was cut out of "
            f"the prompts of {queries.unit} {_some(truncated)}"
        )
    if tokens := [f"{token!r:.40}" for token in spelled]:
        listener.notice(
            f"{model.label}: special tokens spelled by queries are text: {_some(tokens)}"
        )
    if words := [f"{word!r:.40}" for word in unknown if word != "\n"]:
        listener.notice(f"{model.label}: not in its vocabulary: {_some(words)}")
    return rows


def _with_entries(
    template: Template, found: list[Found], query: Query, context: int, sampling: SamplingConfig
) -> Row | None:
    """A query behind the entries that were found, as many of them as the context has room for."""
    if not found:
        return None
    question = content_of(ask(query.question, query.input)[0])

    def row_of(messages: list[Message]) -> Row:
        """What is asked, cut to the context."""
        return prompt_row(template, messages, context, sampling)

    return row_of(messages_that_fit(found, question, lambda said: not row_of(said).dropped))


def _some(names: Sequence[str]) -> str:
    """The first of many names."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _ask(
    model: AskedModel,
    rows: Sequence[Row | None],
    sampling: SamplingConfig,
    config: EngineConfig,
    listener: Listener,
) -> ModelAnswers:
    """Loads a model and asks it; nothing of it stays in memory."""
    prompts = [row for row in rows if row is not None]
    what = f"asking {model.label}"
    listener.preparation(what, 0, len(prompts))
    calibrate = Engine.calibration(model.folder, config.threads, listener)
    weights, said = load_weights(model.folder, config.quantize, calibrate, listener)
    sizes = _sizes(model.folder, prompts, sampling)
    engine = Engine(sizes, weights, str(model.folder.path), config.threads)
    if said:
        listener.notice(said)
    began = time.perf_counter()
    generations: list[Generation] = []
    for generation in answer_each(
        engine, model.template, model.folder.start_ids, prompts, sampling
    ):
        generations.append(generation)
        listener.preparation(what, len(generations), len(prompts))
    made = iter(generations)
    answers = [_NOT_CONTAINED if row is None else next(made) for row in rows]
    return ModelAnswers(model, answers, time.perf_counter() - began)


_NOT_CONTAINED = Generation(
    Prompt(text="", ids=[], unknown=[], dropped=0), [], UNKNOWN, [], NOT_ASKED, seconds=0.0
)
"""The answer to a query that no entry of the records fits."""


def _sizes(folder: ModelFolder, prompts: Sequence[Row], sampling: SamplingConfig) -> ModelConfig:
    """The model's configuration with no more context than the answers can fill.

    Keys and values are kept for the whole context, so that few long ones fit into memory: 16
    questions to SmolLM2-135M (8,192 tokens) take 0.8 GB in this way, and took 2.9 GB without it.
    """
    longest = max([len(folder.start_ids), *(len(row.ids) for row in prompts)])
    needed = longest + sampling.max_new_tokens + 1
    return replace(folder.model, context_length=min(needed, folder.model.context_length))
