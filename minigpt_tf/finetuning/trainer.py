"""Fine-tuning: a FineTuningPlan becomes a model folder, or an adapter and the merged model."""

import math
from pathlib import Path

from ..modelfolder import claim_output
from ..training.distribution import Distribution
from ..training.listener import Listener
from ..training.loop import TrainingLoop, TrainingResult
from ..training.precision import resolve_dtype
from .classifier import ClassifierJob
from .plan import FineTuningPlan
from .preference import PreferenceJob
from .resumption import begin, go_on
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
) -> TrainingResult:
    """Trains as planned and writes the model folder `out`.

    With `resume` goes on from the folder's checkpoint. Raises ModelFolderError where `out` is taken
    or cannot be written, and TrainingError where the loss is not finite or the checkpoint is of
    another run.
    """
    out, listener = Path(out), listener or Listener()
    with claim_output(out, overwrite=overwrite, resume=resume):
        dtype = go_on(out, plan) if resume else resolve_dtype(plan.training.dtype)
        if not resume:
            begin(out, plan, dtype)
        job = JOBS[plan.tuning.method](plan, out, dtype)
        listener.notice(_share(job, plan))
        if not resume and (found := job.validate()):
            shown = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
            listener.notice(f"before training, on the validation part: {shown}")
        return TrainingLoop(job, out, listener, Distribution(), resume=resume).to_the_end()


def _share(job: SupervisedJob, plan: FineTuningPlan) -> str:
    """How many parameters are trained."""
    trained = sum(math.prod(variable.shape) for variable in job.model.variables)
    total = plan.model.parameter_count
    return f"{trained:,} parameters are trained, {trained / total:.2%} of the base's {total:,}"
