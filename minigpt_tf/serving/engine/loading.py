"""Model folders -> models that are served; what does not fit is refused before anything is read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...classification.classifier import Classifier
from ...config import CONFIG_NAME, EngineConfig, ModelConfig, RetrievalConfig, ServingConfig
from ...errors import ConfigError
from ...events import SILENT, Listener
from ...inference.engine import Engine
from ...inference.folder import ModelFolder, load_folder
from ...inference.generate import TextGenerator
from ...inference.key_value_cache import Cache
from ...inference.pacing import Pace
from ...inference.samplers import compile_sums
from ...inference.scheduling import PREFILL_TOKENS, ROWS_BYTES, rows_within
from ...machine import check_fits_memory
from ...retrieval.library import Library
from ...storage.model_folder import CLASSIFIER_SECTION
from .served import Served

BYTES_OF_WEIGHT = {"none": 2.0, "int8": 1.0, "int4": 0.5}
"""At least; float32 weights that fit into 16 bits take half of their size in memory."""


@dataclass(frozen=True)
class Planned:
    """A model that is to be served, before its weights are read."""

    name: str
    folder: ModelFolder
    config: ModelConfig
    """Of the engine: with the context that was asked for."""
    rows: int
    """Answers that are generated together; 0 for a classifier."""
    library: Library | None = None
    """Records to answer from."""

    @property
    def cache_bytes(self) -> int:
        """Of the keys and values; a classifier has one sequence."""
        return Cache.nbytes(self.config) * max(1, self.rows)


def plan_models(
    folders: Sequence[str], config: ServingConfig, engine: EngineConfig
) -> list[Planned]:
    """Reads what the folders say of themselves, and adds up what all needs.

    Args:
        folders: Model folders; "name=folder" gives it another name than the folder's.
        config: Slots and context.
        engine: How the weights are kept.

    Returns:
        A plan for each.

    Raises:
        ConfigError: Two have the same name, or all together do not fit into memory.
        ModelFolderError: A folder is missing or damaged.
    """
    plans: list[Planned] = []
    for given in folders:
        name, mark, path = given.partition("=")
        if not mark:
            name, path = Path(given).resolve().name, given
        if name in [plan.name for plan in plans]:
            raise ConfigError(
                f"two models are called {name}: give one another name, such as {name}-2={path}"
            )
        folder = load_folder(path)
        model, rows = folder.model, 0
        if config.context_length is not None:
            if config.context_length > model.context_length:
                raise ConfigError(
                    f"context_length={config.context_length}: {path} has {model.context_length}"
                )
            model = replace(model, context_length=config.context_length)
        if CLASSIFIER_SECTION in folder.description:
            model = folder.model
        else:
            rows = config.slots or rows_within(model, ROWS_BYTES)
        plans.append(Planned(name, folder, model, rows))
    names = {plan.name for plan in plans}
    for alias, name in (config.alias or {}).items():
        if name not in names or alias in names:
            raise ConfigError(f"alias={alias}={name}: expected a new name and a model's name")
    check_memory(plans, engine)
    return plans


def with_records(
    plans: Sequence[Planned], sources: Sequence[str], config: RetrievalConfig
) -> list[Planned]:
    """Gives models the records that they answer from.

    Args:
        plans: From `plan_models`.
        sources: Files; "name=file" is for the model of that name alone, others are for all that
            have a chat template.
        config: How entries are found.

    Returns:
        The plans, those that have records with them.

    Raises:
        ConfigError: There is no such model, or none that can answer from records.
        DataError: A file cannot be read, or there is nothing in any.
    """
    chats = {plan.name: plan for plan in plans if plan.rows and plan.folder.chat_template}
    given: dict[str, list[str]] = {name: [] for name in chats}
    for source in sources:
        name, mark, file = source.partition("=")
        if mark and name in {plan.name for plan in plans} - chats.keys():
            raise ConfigError(f"records={source}: {name} has no chat template, which records need")
        for wanted in [name] if mark and name in chats else chats:
            given[wanted].append(file if mark and name in chats else source)
    if not chats:
        raise ConfigError("records: no model has a chat template, which records need: drop them")
    libraries: dict[tuple[str, ...], Library] = {}
    for name, files in given.items():
        if files and tuple(files) not in libraries:
            libraries[tuple(files)] = Library(files, config, folder=chats[name].folder.path)
    return [replace(plan, library=libraries.get(tuple(given.get(plan.name, ())))) for plan in plans]


def check_memory(plans: Sequence[Planned], engine: EngineConfig) -> None:
    """Refuses models that do not fit into memory together.

    Args:
        plans: What is to be served.
        engine: How the weights are kept.

    Raises:
        ConfigError: Their weights, keys and values need more than there is.
    """
    weights = sum(
        plan.folder.model.parameter_count * BYTES_OF_WEIGHT[engine.quantize] for plan in plans
    )
    caches = sum(plan.cache_bytes for plan in plans)
    rows = sum(plan.rows for plan in plans)
    what = (
        f"the weights of {len(plans)} models ({weights / 2**30:.1f} GiB) and the keys and values "
        f"of {rows} answers ({caches / 2**30:.1f} GiB) together"
    )
    advice = "choose fewer --slots, a shorter --context-length, --quantize int8 or fewer models"
    check_fits_memory(weights + caches, what, advice)


def load_model(
    plan: Planned, config: ServingConfig, engine: EngineConfig, listener: Listener = SILENT
) -> Served:
    """Reads a model's weights and prepares its first token.

    Args:
        plan: From `plan_models`.
        config: How it is served.
        engine: How it is run.
        listener: Receives the progress where weights in fewer bits must be made.

    Returns:
        The model.

    Raises:
        ModelFolderError: The weights are missing or damaged.
    """
    folder = plan.folder
    created = int((folder.path / CONFIG_NAME).stat().st_mtime)
    served = Served(plan.name, folder.path, created, engine.quantize, library=plan.library)
    if not plan.rows:
        served.classifier = Classifier.load(folder.path, engine)
        served.notice = served.classifier.notice
        served.engine.warm_up()
        return served
    model, served.notice = Engine.load(folder, engine.quantize, engine.threads, listener)
    if plan.config != folder.model:
        model = Engine(plan.config, model.weights, str(folder.path), engine.threads)
    generator = TextGenerator(
        model, folder.tokenizer, folder.start_ids, folder.chat_template, folder.generation
    )
    # Guesses come from the text alone: a draft model would read long prompts in one go.
    generator.speculate = engine.speculate
    served.generator = generator
    served.scheduler = generator.scheduler(plan.rows)
    served.scheduler.pace = Pace(PREFILL_TOKENS, config.prefill_ms / 1000)
    served.idle_work = served.scheduler.cache.touch()
    served.scheduler.warm_up()
    compile_sums(unfiltered=True)
    _ = served.fingerprint, served.token_bytes, served.turn_tokens
    return served
