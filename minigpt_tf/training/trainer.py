"""The run: a Plan becomes a trained model in a model folder."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import SamplingConfig
from ..config.presets import DEFAULT_PRESET
from ..config.settings import to_dict
from ..errors import ConfigError
from ..events import Listener
from ..inference.engine import Engine
from ..inference.generate import TextGenerator
from ..inference.weights import Weights, check_weights, named_variables, weights_of
from ..model.start import start_from_counts
from ..planning.fitting import out_of_memory
from ..planning.prediction import predict
from ..planning.record import RunRecord
from ..storage.model_folder import check_output, claim_output
from .checkpoint import RunState
from .distribution import Distribution, connect
from .history import write_history
from .job import Job
from .loop import TrainingLoop, TrainingResult
from .notebook import listener_for
from .optimizers import build_optimizer
from .plan import Plan, plan_from_preset
from .precision import resolve_dtype
from .resume import check_same_run, continue_checkpoint, read_run, start_checkpoint
from .saving import save_model_folder
from .step import LanguageModel
from .validation import make_validation


def train(
    plan: Plan | str | os.PathLike | Sequence[str | os.PathLike],
    out: str | Path,
    *,
    preset: str = DEFAULT_PRESET,
    recipe: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    listener: Listener | None = None,
    verbose: bool | None = None,
    **settings: Any,
) -> TrainingResult:
    """Trains and writes the model folder `out`.

    With the workers of TF_CONFIG all call it with the same plan. The first, the chief, alone reads
    and writes `out` and reports; the others write nothing.

    Args:
        plan: A text (a file, a folder, a URL, or several), or a plan of `make_plan`.
        out: The model folder, such as "models/mine".
        preset: With a text, where the settings start.
        recipe: With a text, how to train, instead of the preset's own recipe.
        overwrite: Whether to replace a model in `out`.
        resume: Whether to continue from the checkpoint in `out`.
        listener: Receives progress, notices and evaluations.
        verbose: Without a listener, whether progress, samples and the curve of the loss are shown
            (unset: in a notebook).
        settings: With a text, fields of ModelConfig, DataConfig and TrainingConfig.

    Returns:
        The folder, and how the run went.

    Raises:
        ConfigError: Settings do not fit each other, or the workers cannot train together.
        DataError: The text cannot be read, or is too short.
        ModelFolderError: `out` is taken, cannot be written, or another run is writing to it.
        TrainingError: The loss is not finite, the checkpoint is of another run, or another worker
            has ended.

    Example:
        >>> import minigpt_tf as mg
        >>> from pathlib import Path
        >>> _ = Path("notes.txt").write_text("who is hardy? a friend of ramanujan. " * 20)
        >>> sizes = {"num_layers": 1, "embed_dim": 8, "num_heads": 2, "context_length": 16}
        >>> result = mg.train("notes.txt", "models/mine", preset="shakespeare", steps=2, **sizes)
        >>> result.steps, result.out.name
        (2, 'mine')
    """
    out, listener = Path(out), listener or listener_for(verbose)
    if not isinstance(plan, Plan):
        check_output(out, overwrite=overwrite, resume=resume)  # before the text is read
        plan = plan_from_preset(plan, preset, recipe=recipe, listener=listener, **settings)
    elif settings or recipe or preset != DEFAULT_PRESET:
        raise ConfigError("a plan has all settings: give them to make_plan, or a text to train")
    distribution = connect()
    distribution.check_batch(plan.training)
    with distribution.watching():
        distribution.check_same_plan(plan)
        if not distribution.is_chief:
            dtype = _chiefs_dtype(distribution)
            return _loop(plan, out, dtype, Listener(), distribution).to_the_end()
        with claim_output(out, overwrite=overwrite, resume=resume):
            if resume:  # nothing is written before the checkpoint has proved to be of this run
                run = read_run(out)
                check_same_run(run, plan)
                dtype = run.dtype
            else:
                dtype = resolve_dtype(plan.training.dtype)
                start_checkpoint(out, plan, dtype)
            _chiefs_dtype(distribution, dtype)
            record = None
            if distribution.cluster is None:
                record = RunRecord(predict(plan.workload.with_training(dtype=dtype), plan.schedule))
            loop = _loop(plan, out, dtype, listener, distribution, resume=resume)
            loop.job.record = record
            return loop.to_the_end()


def _chiefs_dtype(distribution: Distribution, dtype: str = "float32") -> str:
    """What the chief has resolved: the other workers might measure something else."""
    chosen = distribution.from_chief(np.array([dtype != "float32"], np.float32))
    return "mixed_bfloat16" if chosen[0] else "float32"


def _loop(
    plan: Plan,
    out: Path,
    dtype: str,
    listener: Listener,
    distribution: Distribution,
    *,
    resume: bool = False,
) -> TrainingLoop:
    """The run's loop; a resumed one starts from its checkpoint, and so do the files on disk."""
    with distribution.scope():
        job = _Pretraining(plan, out, dtype)
    loop = TrainingLoop(job, out, listener, distribution, resume=resume)
    if resume:
        continue_checkpoint(out, plan, dtype)
        loop.write_history()  # those on disk may have come further than the state
    return loop


class _Pretraining(Job):
    """A plan as the loop takes it: windows of a text, and the next token everywhere."""

    model: LanguageModel

    def __init__(self, plan: Plan, out: Path, dtype: str) -> None:
        self.plan, self.out, self.dtype, self.training = plan, out, dtype, plan.training
        self.total_steps, self.eval_every = plan.total_steps, plan.eval_every
        self.batch_tokens = plan.training.batch_size * plan.model.context_length
        self.model = start_model(plan, dtype)
        self.optimizer = build_optimizer(plan.training, plan.total_steps)
        self.optimizer.build(self.model.variables)
        self._windows = plan.windows()
        self._validation_loss = _validation(self.model, plan)

    def epoch_of(self, step: int) -> float:
        return self.plan.epoch_of(step)

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        return self._windows.batch(step)

    def weights(self) -> Weights:
        return weights_of(self.model.keras_model)

    def check_weights(self, weights: Weights, where: str) -> None:
        check_weights(weights, self.plan.model, where)

    def named_variables(self) -> dict[str, keras.Variable]:
        return named_variables(self.model.keras_model)

    def validate(self) -> dict[str, float] | None:
        return None if self._validation_loss is None else {"loss": self._validation_loss()}

    def sample(self, weights: Weights) -> str:
        """The prompt as the tokenizer decodes it, and how the model continues it."""
        tokenizer = self.plan.corpus.tokenizer
        generator = TextGenerator(Engine(self.plan.model, weights), tokenizer, self.plan.start_ids)
        sampling = SamplingConfig(
            max_new_tokens=self.training.sample_tokens, seed=self.training.seed
        )
        prompt = generator.prepare(self.plan.sample_prompt)
        return tokenizer.decode(prompt.ids) + generator.generate(prompt, sampling).text

    def write_history(self, folder: Path, state: RunState) -> None:
        write_history(folder, state.history, self.plan.sample_prompt)

    def save(self, weights: Weights, state: RunState, kept: str) -> None:
        def sections() -> dict[str, Any]:
            return self.record_section() | _sections(self.plan, state, self.dtype, kept)

        save_model_folder(self.out, self.plan, weights, state.history, sections)

    def out_of_memory(self) -> str:
        return out_of_memory(self.plan.workload)


def start_model(plan: Plan, dtype: str) -> LanguageModel:
    """The model with its first weights.

    Args:
        plan: The architecture, the seed, and the text whose token frequencies the output head
            starts from.
        dtype: A Keras dtype policy.

    Returns:
        The model, ready to train.
    """
    model = LanguageModel(plan.model, plan.training, dtype)
    if plan.model.logits_bias and not plan.model.tie_embeddings:
        start_from_counts(model.keras_model, plan.corpus.counts[0])
    return model


def _validation(model: LanguageModel, plan: Plan) -> Callable[[], float] | None:
    if len(plan.corpus.val_ids) < 2:
        return None

    def loss(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return model.loss(x, y, training=False)[0]

    return make_validation(
        loss,
        plan.corpus.val_ids,
        context_length=plan.model.context_length,
        vocab_size=plan.model.vocab_size,
        fraction=plan.eval_fraction,
    )


def _sections(plan: Plan, state: RunState, dtype: str, kept: str) -> dict[str, Any]:
    """The sections of config.json that record how the model was trained."""
    last = state.history[-1] if state.history else None
    metrics: dict[str, Any] = {
        "steps": state.step,
        "seconds": round(state.seconds, 1),
        "kept": kept,
    }
    if last is not None:
        metrics |= {"loss": last.loss, "accuracy": last.accuracy, "val_loss": last.val_loss}
        metrics |= {"best_loss": state.best_loss, "parameters": plan.model.parameter_count}
    data = {**to_dict(plan.data), "sources": plan.source_names}
    data |= {"fingerprint": plan.corpus.fingerprint, "characters": plan.corpus.characters}
    data |= {"train_tokens": len(plan.corpus.train_ids), "val_tokens": len(plan.corpus.val_ids)}
    return {
        "data": data,
        "training": {**to_dict(plan.training), "dtype": dtype},
        "metrics": metrics,
    }
