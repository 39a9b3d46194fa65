"""Fine-tuning: a base and records become a model folder, or an adapter and the merged model."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from ..errors import ConfigError, ModelFolderError, TrainingError
from ..evaluation.difference import describe
from ..events import Listener, LostListener
from ..planning.fitting import out_of_memory
from ..planning.prediction import predict
from ..planning.record import RunRecord
from ..storage.model_folder import check_apart, check_output, claim_output, clean_after_failure
from ..storage.replacing import reserve_space
from ..training.distribution import Distribution
from ..training.loop import TrainingLoop, TrainingResult
from ..training.notebook import listener_for
from ..training.precision import resolve_dtype
from .job import FineTuningJob
from .plan import FineTuningPlan
from .preparation import plan_finetuning
from .resume import check_same_run, start_run, update_run
from .schedule import schedule_of


def finetune(
    base: FineTuningPlan | str | os.PathLike,
    source: str | os.PathLike | None = None,
    out: str | os.PathLike | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    listener: Listener | None = None,
    verbose: bool | None = None,
    **settings: Any,
) -> TrainingResult:
    """Adapts a model folder to records, and writes another model folder.

    The old form `finetune(plan, out)` takes a plan instead of a base, records and settings.

    Args:
        base: the folder of the model to adapt.
        source: a file of records (.json .jsonl .csv .tsv .xlsx .txt), or sqlite:///FILE with the
            setting `query`. With a plan: the folder to write.
        out: the folder to write.
        overwrite: replace the model in `out`.
        resume: continue the run of `out` from its checkpoint, with the same settings.
        listener: notified of progress, evaluations and notices.
        verbose: without a listener, show progress, samples and the curve of the loss (unset: in a
            notebook).
        settings: fields of FineTuningConfig, LoraConfig, RecordsConfig and TrainingConfig, such as
            `method="lora"`, `rank=16`, `val_split=0.2` and `epochs=2`. Fields of TrainingConfig
            that are not set are the method's own (`fine_tuning_preset`).

    Returns:
        How the run ended, with its evaluations.

    Raises:
        ConfigError: a setting is unknown, out of range, or not for this method.
        DataError: no record can be used.
        ModelFolderError: the base is not a model folder, or `out` is taken or cannot be written.
        TrainingError: the loss is not finite, memory runs out, or the checkpoint is another run's.

    Example:
        >>> import json
        >>> import minigpt_tf as mg
        >>> _ = open("notes.txt", "w").write("the sun is up and the moon is down. " * 500)
        >>> _ = mg.train("notes.txt", "base", preset="modern", steps=2, embed_dim=16)
        >>> rows = [{"instruction": f"Count {i}", "output": f"It is {i}."} for i in range(10)]
        >>> _ = open("hr.json", "w").write(json.dumps(rows))
        >>> result = mg.finetune("base", "hr.json", "hr", method="lora", rank=4, epochs=2)
        >>> result.steps, sorted(path.name for path in result.out.glob("*.safetensors"))
        (4, ['adapter.safetensors'])
    """
    listener = listener or listener_for(verbose)
    if isinstance(base, FineTuningPlan):
        if settings or (source is None) == (out is None):
            raise ConfigError("a plan has all settings: give it and the folder to write alone")
        plan, out = base, Path(source or out or "")
    elif source is None or out is None:
        raise ConfigError("finetune takes a base, a file of records, and the folder to write")
    else:
        out = Path(out)
        check_apart(base, out)
        check_output(out, overwrite=overwrite, resume=resume)  # before the base is read
        plan = plan_finetuning(base, source, listener=listener, **settings)
    check_apart(plan.base.path, out)
    with (
        _explained(plan),
        clean_after_failure(out),
        claim_output(out, overwrite=overwrite, resume=resume),
    ):
        return _run(plan, out, listener, resume=resume)


def _run(plan: FineTuningPlan, out: Path, listener: Listener, *, resume: bool) -> TrainingResult:
    """Trains and saves in a folder that this process has claimed."""
    _check_space(out, plan)
    dtype = check_same_run(out, plan) if resume else resolve_dtype(plan.training.dtype)
    if not resume:
        start_run(out, plan, dtype)
    record = RunRecord(predict(plan.workload.with_training(dtype=dtype), schedule_of(plan)))
    job = plan.method.job()(plan, out, dtype)
    job.record = record
    early = LostListener(listener)  # the loop finds out itself, when there is something to save
    early.notice(_trained_fraction(job, plan))
    loop = TrainingLoop(job, out, listener, Distribution(), resume=resume)
    if resume:  # the checkpoint has proved to be of this run
        update_run(out, plan, dtype)
    if loop.state.step == 0 and (found := job.validate()):
        early.notice(f"before training, on the validation set: {_shown(found)}")
        loop.state.before = found
    result = loop.to_the_end()
    if job.test_score:
        listener.notice(f"on the test set: {_shown(job.test_score)}")
    for line in describe(job.merge_difference):
        listener.notice(line)
    return result


def _check_space(out: Path, plan: FineTuningPlan) -> None:
    """Raises ModelFolderError if the model will not fit on the disk: before it is trained."""
    size = 4 * plan.model.parameter_count
    try:
        reserve_space(out, size)
    except OSError as error:
        raise ModelFolderError(
            f"{out}: the model needs {size / 2**30:.2g} GiB there: {error.strerror}"
        ) from None


@contextmanager
def _explained(plan: FineTuningPlan) -> Iterator[None]:
    """Names settings that fit if memory runs out while the model is built or judged."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError):
        raise TrainingError(out_of_memory(plan.workload, plan.lighter)) from None


def _shown(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in found.items())


def _trained_fraction(job: FineTuningJob, plan: FineTuningPlan) -> str:
    """How many parameters are trained."""
    trained = sum(math.prod(variable.shape) for variable in job.model.variables)
    total = plan.model.parameter_count
    return f"{trained:,} parameters are trained, {trained / total:.2%} of the base's {total:,}"
