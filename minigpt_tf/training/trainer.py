"""The run: a Plan becomes a trained model in a model folder."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import ModelConfig
from ..errors import ModelFolderError, TrainingError
from ..inference.weights import Weights, named_variables, weights_of
from ..modelfolder import claim_output, staging
from ..options import to_dict
from .callbacks import Evaluator, Interruption, ProgressTeller, divergence
from .checkpoint import RunState, StateWriter, restore_state
from .distribution import Distribution, WorkerLostError, connect
from .listener import Evaluation, Listener
from .memory import out_of_memory
from .optimizers import build_optimizer
from .plan import Plan
from .precision import resolve_dtype
from .records import write_records
from .resumption import check_same_run, continue_checkpoint, read_run, start_checkpoint
from .saving import save_model_folder
from .step import TrainableModel, TrainingStep
from .validation import make_validation


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    out: Path
    steps: int
    history: list[Evaluation]
    interrupted: bool
    stopped_early: bool
    kept: str
    """Whose weights model.h5 holds: "last" or "best"."""


def train(
    plan: Plan,
    out: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    listener: Listener | None = None,
) -> TrainingResult:
    """Trains as planned and writes the model folder `out`.

    With `resume` goes on from the folder's checkpoint. With the workers of TF_CONFIG all call it
    with the same plan, and the first, the chief, alone reads and writes `out` and tells how it
    goes; the others hear and write nothing. Raises ConfigError where the workers cannot train
    together, ModelFolderError where `out` is taken, cannot be written or holds a run that is still
    going on, and TrainingError where the loss is not finite, the checkpoint is of another run, or
    another worker has ended.
    """
    out, listener = Path(out), listener or Listener()
    distribution = connect()
    distribution.check_batch(plan.training)
    with distribution.watching():
        distribution.check_same_plan(plan)
        if not distribution.is_chief:
            dtype = _chiefs_dtype(distribution)
            return _Run(plan, out, dtype, Listener(), distribution, resume=False).to_the_end()
        with claim_output(out, overwrite=overwrite, resume=resume):
            if resume:  # nothing is written before the checkpoint has proved to be of this run
                run = read_run(out)
                check_same_run(run, plan)
                dtype = run.dtype
            else:
                dtype = resolve_dtype(plan.training.dtype)
                start_checkpoint(out, plan, dtype)
            _chiefs_dtype(distribution, dtype)
            return _Run(plan, out, dtype, listener, distribution, resume=resume).to_the_end()


def _chiefs_dtype(distribution: Distribution, dtype: str = "float32") -> str:
    """What the chief has resolved: the other workers might measure something else."""
    chosen = distribution.from_chief(np.array([dtype != "float32"], np.float32))
    return "mixed_bfloat16" if chosen[0] else "float32"


class _Run:
    """A model in training, what watches over it, and how both are saved."""

    def __init__(
        self,
        plan: Plan,
        out: Path,
        dtype: str,
        listener: Listener,
        distribution: Distribution,
        *,
        resume: bool,
    ) -> None:
        self.plan, self.out, self.dtype, self.listener = plan, out, dtype, listener
        self.distribution = distribution
        with distribution.scope():
            self.model = start_model(plan, dtype)
            self.optimizer = build_optimizer(plan.training, plan.total_steps)
            self.optimizer.build(self.model.variables)
        self.state = self._resumed_state() if resume else RunState()
        distribution.spread(self._variables().values())
        if not distribution.is_chief:
            self.state.step = int(np.array(self.optimizer.iterations))
        self.progress = ProgressTeller(self.state.step, plan, listener)
        self.evaluator = Evaluator(plan, self.progress, _validation(self.model, plan))
        self.writer = StateWriter(out)

    def _resumed_state(self) -> RunState:
        """The checkpoint's state, put into the variables; the files on disk follow it."""
        plan, out = self.plan, self.out
        state = restore_state(out, self._variables(), plan.model, self.listener.notice)
        if state.step > plan.total_steps:
            raise TrainingError(
                f"{out} has done {state.step} steps already, more than the {plan.total_steps} "
                "asked for"
            )
        continue_checkpoint(out, plan, self.dtype)
        self._write_records(state)  # those on disk may have come further than the state
        return state

    def to_the_end(self) -> TrainingResult:
        """Trains, whatever happens saves, and tells how it ended."""
        with Interruption(self.listener) as interruption:
            try:
                with self.distribution.watching():
                    self._train(interruption)
                self._save_state()
                self.writer.wait()
                kept = self._save_folder(weights_of(self.model.keras_model))
            except WorkerLostError:  # the step that failed has changed nothing
                self._save_state()
                raise
            except tf.errors.ResourceExhaustedError:
                raise TrainingError(out_of_memory(self.plan.model, self.plan.training)) from None
            except TrainingError as error:
                if not self.distribution.is_chief:
                    raise
                raise TrainingError(f"{error}; {self._rescue()}") from None
            finally:
                self.writer.close()
        return TrainingResult(
            out=self.out,
            steps=self.state.step,
            history=self.state.history,
            interrupted=interruption.requested,
            stopped_early=self.state.stopped_early,
            kept=kept,
        )

    def _train(self, interruption: Interruption) -> None:
        """The steps that are left."""
        state, plan, training = self.state, self.plan, self.plan.training
        windows = plan.windows()
        with self.distribution.scope():
            compiled = TrainingStep(
                self.model,
                self.optimizer,
                clip_norm=training.clip_norm,
                accumulate=training.accumulate,
            )
        began = time.perf_counter() - state.seconds
        saved = time.monotonic()
        while state.step < plan.total_steps and not self._is_to_stop(interruption):
            self.progress.before_step()
            result = compiled(*windows.batch(state.step), state.step)
            if not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm)):
                weights = weights_of(self.model.keras_model)
                raise divergence(state.step + 1, result.loss, training, weights)
            state.add(result.loss, result.accuracy)
            state.seconds = time.perf_counter() - began
            self.progress.after_step(state)
            if self.evaluator.is_due(state.step):
                self._evaluate()
            due = (time.monotonic() - saved) / 60 >= training.checkpoint_minutes
            if due or state.step % (training.checkpoint_every or math.inf) == 0:
                self._save_state()
                saved = time.monotonic()

    def _is_to_stop(self, interruption: Interruption) -> bool:
        """Whether the run ends before its last step, by all workers after the same one."""
        asked, early = self.distribution.agree(interruption.requested, self.state.stopped_early)
        if asked:  # Ctrl-C may have come in between: it is not taken back here
            interruption.requested = True
        if early:
            self.state.stopped_early = True
        return asked or early

    def _evaluate(self) -> None:
        """By the chief; the others wait in their next step."""
        if not self.distribution.is_chief:
            return
        learning_rate = float(self.optimizer.learning_rate)
        model = self.model.keras_model
        evaluation = self.evaluator.evaluate(model, learning_rate, self.state)
        self._write_records(self.state)
        self.listener.weights(self.state.step, self.evaluator.last_weights)
        self.listener.evaluation(evaluation)

    def _write_records(self, state: RunState) -> None:
        with staging(self.out) as scratch:
            write_records(scratch, state.history, self.plan.sample_prompt)

    def _variables(self) -> dict[str, keras.Variable]:
        """Name -> variable of all that a step changes."""
        variables = {f"model/{n}": v for n, v in named_variables(self.model.keras_model).items()}
        optimizer = {f"optimizer/{i}": v for i, v in enumerate(self.optimizer.variables)}
        return variables | optimizer

    def _save_state(self) -> None:
        if self.distribution.is_chief:
            self.writer.save(self._variables(), self.state)

    def _rescue(self) -> str:
        """Saves the weights of the last evaluation, which were good; says what became of them."""
        if self.evaluator.last_weights is None:
            return "no evaluation came before it, so nothing was saved"
        self.state.step = self.state.history[-1].step
        try:
            self._save_folder(self.evaluator.last_weights)
        except ModelFolderError as error:
            return f"the weights before it could not be saved: {error}"
        return f"{self.out} holds the weights of step {self.state.step}"

    def _save_folder(self, last_weights: Weights) -> str:
        """Writes the model folder; returns whose weights it holds."""
        choice = self.plan.training.keep
        if choice == "auto":
            choice = "best" if self.plan.training.early_stopping else "last"
        best = self.state.best_weights
        kept = "best" if choice == "best" and best is not None else "last"
        if not self.distribution.is_chief:
            return kept
        save_model_folder(
            self.out,
            self.plan,
            best if kept == "best" else last_weights,
            self.state.history,
            _sections(self.plan, self.state, self.dtype, kept),
        )
        return kept


def start_model(plan: Plan, dtype: str) -> TrainableModel:
    """The model with its first weights."""
    model = TrainableModel(plan.model, plan.training, dtype)
    start_from_frequencies(model.keras_model, plan.model, plan.corpus.counts[0])
    return model


def start_from_frequencies(model: keras.Model, config: ModelConfig, counts: np.ndarray) -> None:
    """Sets the bias of the output head, if there is one, to the log frequencies of the tokens.

    `counts` (vocab_size,): how often each token stands in the training text.
    The model then starts at the loss of knowing the frequencies, and its first steps do not push
    all hidden states the same way to learn them: with post-norm that push makes every position look
    alike, and training stays on that plateau.
    """
    if config.tie_embeddings or not config.logits_bias:
        return
    shares = counts + 0.01  # unseen tokens: rare, not never
    model.get_layer("logits").bias.assign(np.log(shares / shares.sum()))


def _validation(model: TrainableModel, plan: Plan) -> Callable[[], float] | None:
    if len(plan.corpus.val_ids) < 2:
        return None

    def loss(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return model.loss(x, y, training=False)[0]

    return make_validation(
        loss,
        plan.corpus.val_ids,
        context_length=plan.model.context_length,
        vocab_size=plan.model.vocab_size,
        share=plan.eval_share,
    )


def _sections(plan: Plan, state: RunState, dtype: str, kept: str) -> dict[str, Any]:
    """The parts of config.json that tell how the model was made."""
    last = state.history[-1] if state.history else None
    metrics: dict[str, Any] = {
        "steps": state.step,
        "seconds": round(state.seconds, 1),
        "kept": kept,
    }
    if last is not None:
        metrics |= {"loss": last.loss, "accuracy": last.accuracy, "val_loss": last.val_loss}
        metrics |= {"best_loss": state.best_loss, "parameters": plan.model.parameter_count}
    data = {**to_dict(plan.data), "sources": [str(source.resolve()) for source in plan.sources]}
    data |= {"fingerprint": plan.corpus.fingerprint, "characters": plan.corpus.characters}
    data |= {"train_tokens": len(plan.corpus.train_ids), "val_tokens": len(plan.corpus.val_ids)}
    return {
        "data": data,
        "training": {**to_dict(plan.training), "dtype": dtype},
        "metrics": metrics,
    }
