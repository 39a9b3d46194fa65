"""Fine-tuning: a FineTuningPlan becomes a model folder, or an adapter and the merged model."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import tensorflow as tf

from ..config import CHECKPOINT_NAME, RUN_NAME
from ..errors import ModelFolderError, TrainingError
from ..events import Listener
from ..storage.model_folder import claim_output
from ..storage.replacing import reserve_space
from ..training.distribution import Distribution
from ..training.loop import TrainingLoop, TrainingResult
from ..training.notebook import listener_for
from ..training.precision import resolve_dtype
from .bases import check_apart
from .classifier import ClassifierJob
from .difference import describe
from .memory import out_of_memory
from .plan import FineTuningPlan
from .preference import PreferenceJob
from .resumption import begin, go_on, note_changes
from .supervised import SupervisedJob

JOBS = {
    "full": SupervisedJob,
    "lora": SupervisedJob,
    "qlora": SupervisedJob,
    "dpo": PreferenceJob,
    "classify": ClassifierJob,
}


def finetune(
    plan: FineTuningPlan,
    out: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    listener: Listener | None = None,
    verbose: bool | None = None,
) -> TrainingResult:
    """Trains as planned and writes the model folder `out`.

    `listener` hears how it goes; without one, `verbose` shows progress, samples and the curve of
    the loss (unset: in a notebook). With `resume` goes on from the folder's checkpoint. Raises
    ModelFolderError where `out` is taken or cannot be written, and TrainingError where the loss is
    not finite or the checkpoint is of another run.
    """
    out, listener = Path(out), listener or listener_for(verbose)
    check_apart(plan.base.path, out)
    with (
        _explained(plan),
        nothing_left_of_failure(out),
        claim_output(out, overwrite=overwrite, resume=resume),
    ):
        _check_space(out, plan)
        dtype = go_on(out, plan) if resume else resolve_dtype(plan.training.dtype)
        if not resume:
            begin(out, plan, dtype)
        job = JOBS[plan.tuning.method](plan, out, dtype)
        listener.notice(_share(job, plan))
        loop = TrainingLoop(job, out, listener, Distribution(), resume=resume)
        if resume:  # the checkpoint has proved to be of this run
            note_changes(out, plan, dtype)
        if loop.state.step == 0 and (found := job.validate()):
            listener.notice(f"before training, on the validation part: {_shown(found)}")
            loop.state.before = found
        result = loop.to_the_end()
        if job.test_score:
            listener.notice(f"on the test part: {_shown(job.test_score)}")
        for line in describe(job.merge_difference):
            listener.notice(line)
        return result


def _check_space(out: Path, plan: FineTuningPlan) -> None:
    """Raises ModelFolderError where the model will not fit on the disk: before it is trained."""
    size = 4 * plan.model.parameter_count
    try:
        reserve_space(out, size)
    except OSError as error:
        raise ModelFolderError(
            f"{out}: the model needs {size / 2**30:.2g} GiB there: {error.strerror}"
        ) from None


@contextmanager
def _explained(plan: FineTuningPlan) -> Iterator[None]:
    """Says what fits where there is not memory enough to build the model or to judge it."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError):
        raise TrainingError(out_of_memory(plan.run)) from None


@contextmanager
def nothing_left_of_failure(out: Path) -> Iterator[None]:
    """Takes away what was made for a run which ended before it had saved anything: the folder, with
    those that it lies in, or its checkpoint where it was there before, and empty."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    empty = out.is_dir() and not any(out.iterdir())
    try:
        yield
    except BaseException:
        left = [file.name for file in out.rglob("*") if file.is_file()] if out.is_dir() else []
        if (made or empty) and set(left) <= {RUN_NAME}:
            shutil.rmtree(out if made else out / CHECKPOINT_NAME, ignore_errors=True)
            with suppress(OSError):  # they may hold something else by now
                for folder in made[1:]:
                    folder.rmdir()
        raise


def _shown(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in found.items())


def _share(job: SupervisedJob, plan: FineTuningPlan) -> str:
    """How many parameters are trained."""
    trained = sum(math.prod(variable.shape) for variable in job.model.variables)
    total = plan.model.parameter_count
    return f"{trained:,} parameters are trained, {trained / total:.2%} of the base's {total:,}"
