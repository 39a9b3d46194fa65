"""From a base, records and settings to a checked plan, before TensorFlow is imported."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..classification.head import Head, load_head
from ..config import (
    CHECKPOINT_NAME,
    RUN_NAME,
    FineTuningConfig,
    LoraConfig,
    RecordsConfig,
    TrainingConfig,
)
from ..config.finetuning import FOR_TEXTS_ONLY
from ..config.presets import fine_tuning_preset
from ..config.settings import from_dict, split_settings
from ..errors import ConfigError, DataError, ModelFolderError
from ..events import SILENT, Listener
from ..inference.adapter import fingerprint
from ..inference.checked_folder import load_checked_folder
from ..inference.folder import ModelFolder
from ..inference.lora_targets import check_targets
from ..planning.fitting import check_fits
from ..records.dataset import prepare
from ..records.prompts import Template
from ..records.schema import KINDS
from ..retrieval.library import Library
from ..retrieval.template import RecordsTemplate
from ..storage.model_folder import CLASSIFIER_SECTION
from .method import Method
from .methods import all_methods, method_of
from .plan import FineTuningPlan
from .resume import read_run


def plan_finetuning(
    base: str | os.PathLike,
    source: str | os.PathLike,
    *,
    listener: Listener | None = None,
    **settings: Any,
) -> FineTuningPlan:
    """The plan of a method with some settings replaced.

    Args:
        base: the folder of the model to adapt.
        source: a file of records (.json .jsonl .csv .tsv .xlsx .txt), or sqlite:///FILE with the
            setting `query`.
        listener: notified of how far reading has come.
        settings: fields of FineTuningConfig, LoraConfig, RecordsConfig and TrainingConfig, such as
            `method="dpo"` or `epochs=2`. Fields of TrainingConfig that are not set are the
            method's own (`fine_tuning_preset`).

    Returns:
        The plan, for `finetune`.

    Raises:
        ConfigError: a setting is unknown, out of range, or not for this method.
        DataError: no record can be used.
        ModelFolderError: the base is missing, damaged, or another tool's.

    Example:
        >>> import json
        >>> import minigpt_tf as mg
        >>> _ = open("notes.txt", "w").write("the sun is up and the moon is down. " * 500)
        >>> _ = mg.train("notes.txt", "small", preset="modern", steps=1, embed_dim=16)
        >>> pairs = [{"prompt": f"Add {i}", "chosen": "1", "rejected": "?"} for i in range(9)]
        >>> _ = open("pairs.json", "w").write(json.dumps(pairs))
        >>> plan = mg.plan_finetuning("small", "pairs.json", method="dpo", epochs=2, batch_size=4)
        >>> plan.total_steps, plan.training.learning_rate
        (4, 0.0001)
    """
    for name in FOR_TEXTS_ONLY & settings.keys():
        raise ConfigError(f"{name}: is for training on a text, not on records: drop it")
    kinds = (FineTuningConfig, LoraConfig, RecordsConfig, TrainingConfig)
    given = split_settings(settings, kinds)
    tuning = FineTuningConfig(**given[FineTuningConfig])
    method_of(tuning).check_options(settings, all_methods())
    training = fine_tuning_preset(tuning.method, tuning.classify_layers, **given[TrainingConfig])
    records, lora = RecordsConfig(**given[RecordsConfig]), LoraConfig(**given[LoraConfig])
    return make_finetuning_plan(base, source, tuning, records, training, lora, listener=listener)


def plan_of_run(
    out: Path,
    base: str | os.PathLike | None = None,
    source: str | os.PathLike | None = None,
    *,
    listener: Listener | None = None,
    **settings: Any,
) -> FineTuningPlan:
    """The plan of a run that is to be resumed, from its own folder.

    Args:
        out: the run's folder, whose checkpoint has its base, records and settings.
        base: where the base is now, if it was moved.
        source: where the records are now, if they were moved.
        listener: notified of how far reading has come.
        settings: those that change; the trainer refuses most of them.

    Returns:
        The plan, for `finetune` with resume=True.

    Raises:
        MiniGPTError: there is no such run, or as `make_finetuning_plan` does.
    """
    run, where = read_run(out), str(out / CHECKPOINT_NAME / RUN_NAME)
    given = split_settings(settings, (FineTuningConfig, LoraConfig, RecordsConfig, TrainingConfig))
    if "epochs" in settings:
        given[TrainingConfig]["steps"] = None

    def saved(kind: type, name: str) -> Any:
        """The run's settings of a kind, with those that change."""
        return replace(from_dict(kind, run.get(name), where), **given[kind])

    tuning = saved(FineTuningConfig, "tuning")
    method_of(tuning).check_options(settings, all_methods())
    base, source = base or run.get("base"), source or run.get("source")
    if not isinstance(base, str | os.PathLike) or not isinstance(source, str | os.PathLike):
        raise ModelFolderError(f"{where}: is damaged: it does not name its base and its records")
    return make_finetuning_plan(
        base,
        source,
        tuning,
        saved(RecordsConfig, "records"),
        saved(TrainingConfig, "training"),
        saved(LoraConfig, "lora"),
        listener=listener,
    )


def make_finetuning_plan(
    base: str | os.PathLike,
    source: str | os.PathLike,
    tuning: FineTuningConfig,
    records: RecordsConfig,
    training: TrainingConfig,
    lora: LoraConfig | None = None,
    *,
    listener: Listener | None = None,
) -> FineTuningPlan:
    """Reads a base and records, and checks that the run can do what the settings say.

    Args:
        base: the folder of the model to adapt.
        source: a file of records, or sqlite:///FILE.
        tuning: the method.
        records: how records are read, split and made into rows of tokens.
        training: how it is trained; `fine_tuning_preset` has what suits a method.
        lora: what is updated, if the method has LoRA (unset: LoraConfig's defaults).
        listener: notified of how far reading has come.

    Returns:
        The plan, for `finetune`.

    Raises:
        ConfigError: the settings do not fit each other, the base, or this machine's memory.
        DataError: no record can be used.
        ModelFolderError: the base is missing, damaged, or another tool's.

    Example:
        >>> import json
        >>> import minigpt_tf as mg
        >>> _ = open("notes.txt", "w").write("the sun is up and the moon is down. " * 500)
        >>> _ = mg.train("notes.txt", "base", preset="modern", steps=1, embed_dim=16)
        >>> rows = [{"instruction": f"Add {i}", "output": f"{i + 1}"} for i in range(9)]
        >>> _ = open("rows.json", "w").write(json.dumps(rows))
        >>> settings = mg.FineTuningConfig("lora"), mg.RecordsConfig(val_split=0.1)
        >>> training = mg.fine_tuning_preset("lora", steps=5)
        >>> plan = mg.make_finetuning_plan("base", "rows.json", *settings, training)
        >>> len(plan.dataset.train.records), len(plan.dataset.validation.records), plan.total_steps
        (8, 1, 5)
    """
    began = time.perf_counter()
    lora = lora or LoraConfig()
    folder, method = load_checked_folder(base), method_of(tuning)
    method.check_training(training)
    context = min(folder.model.context_length, tuning.max_length or folder.model.context_length)
    if method.trains == "adapter":
        check_targets(folder.model, lora)
    template = _template(folder, tuning, context, listener or SILENT)
    if method.writes_answers:
        _check_context(template, context, tuning)
    dataset = prepare(
        source if isinstance(source, str) else Path(source),
        template,
        context,
        records,
        seed=training.seed,
        kinds=[kind for kind in KINDS if kind in method.record_kinds],
        listener=listener or SILENT,
    )
    plan = FineTuningPlan(
        base=folder,
        base_fingerprint=fingerprint(folder.path),
        source=str(source),
        method=method,
        lora=lora,
        records=records,
        training=training,
        dataset=dataset,
        template=template,
        base_head=_base_head(folder, method, dataset.labels),
        reading=time.perf_counter() - began,
    )
    check_fits(plan.workload, plan.lighter)
    for query in tuning.sample_queries if method.writes_answers else ():
        _check_query(template, query)  # the first evaluation would fail
    if (training.warmup_steps or 0) >= plan.total_steps > 1:
        raise ConfigError(
            f"warmup_steps={training.warmup_steps}: must be fewer than the {plan.total_steps} steps"
        )
    return plan


def _template(
    folder: ModelFolder, tuning: FineTuningConfig, context: int, listener: Listener
) -> Template:
    """The base's template; with the records that answers are to be found in, if any."""
    template = Template.of(folder)
    if not tuning.records:
        return template
    library = Library(tuning.records)
    for note in library.notes:
        listener.notice(note)
    return RecordsTemplate.behind(template, library, context)


def _check_context(template: Template, context: int, tuning: FineTuningConfig) -> None:
    """Raises ConfigError if there is no room for what the template writes around a question."""
    try:
        needed = len(template.render_prompt("?")) + 1
    except DataError:  # it refuses this conversation, and may take those of the records
        return
    if needed > context:
        longer = "choose a base with a longer context"
        if tuning.max_length == context:
            longer = "give a greater --max-length"
        raise ConfigError(
            f"{template.name}: takes {needed} tokens without the question, and the context has "
            f"{context}: {longer}"
        )


def _check_query(template: Template, query: str) -> None:
    """Raises ConfigError if the chat template refuses a question."""
    try:
        template.render_prompt(query)
    except DataError as error:
        raise ConfigError(f"sample_queries={query!r:.40}: {error}") from None


def _base_head(folder: ModelFolder, method: Method, labels: list[str]) -> Head | None:
    """The head of a base that already is a classifier of these labels. Raises ModelFolderError."""
    if method.writes_answers or CLASSIFIER_SECTION not in folder.description:
        return None
    head = load_head(folder.path, folder.model.embed_dim)
    return head if head.labels == labels else None
