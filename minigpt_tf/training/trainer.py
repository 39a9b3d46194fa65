"""The run: a Plan becomes a trained model in a model folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..config import ModelConfig
from ..errors import ModelFolderError, TrainingError
from ..inference.weights import Weights, weights_of
from ..model import build_gpt_model
from ..modelfolder import prepare_output, staging
from ..options import to_dict
from ..text.windows import TrainingWindows
from .callbacks import Evaluator, FiniteLossGuard, Interruption, ProgressTeller
from .checkpoint import (
    RunState,
    check_same_run,
    read_run,
    restore_state,
    save_state,
    start_checkpoint,
    write_run,
)
from .listener import Evaluation, Listener
from .optimizers import build_optimizer
from .plan import Plan
from .precision import resolve_dtype
from .records import write_records
from .saving import save_model_folder
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

    With `resume` goes on from the folder's checkpoint. Raises ModelFolderError where `out` is taken
    or cannot be written, and TrainingError where the loss is not finite or the checkpoint is of
    another run.
    """
    out = Path(out)
    prepare_output(out, overwrite=overwrite, resume=resume)
    if resume:  # nothing is written before the checkpoint has proved to be of this run
        run = read_run(out)
        check_same_run(run, plan)
        dtype = run.dtype
    else:
        dtype = resolve_dtype(plan.training.dtype)
        start_checkpoint(out, plan, dtype)
    return _Run(plan, out, dtype, listener or Listener(), resume).to_the_end()


class _Run:
    """A model in training, what watches over it, and how both are saved."""

    def __init__(self, plan: Plan, out: Path, dtype: str, listener: Listener, resume: bool) -> None:
        self.plan, self.out, self.dtype, self.listener = plan, out, dtype, listener
        self.model = compile_model(plan, dtype)
        self.state = RunState()
        if resume:
            self.state = restore_state(out, self.model, plan.model)
            if self.state.step > plan.total_steps:
                raise TrainingError(
                    f"{out} has done {self.state.step} steps already, more than the "
                    f"{plan.total_steps} asked for"
                )
            write_run(out, plan, dtype)
        first = self.state.step
        self.guard = FiniteLossGuard(first, plan.training)
        self.progress = ProgressTeller(first, plan, listener)
        validation = _validation(self.model, plan)
        self.evaluator = Evaluator(plan, self.state, self.progress, validation, self._evaluated)
        self.interruption = Interruption(first, listener)

    def to_the_end(self) -> TrainingResult:
        """Trains, whatever happens saves, and tells how it ended."""
        try:
            self._fit()
            if self.interruption.requested:
                save_state(self.out, self.model, self.state)
            kept = self._save_folder(weights_of(self.model))
        except TrainingError as error:
            raise TrainingError(f"{error}; {self._rescue()}") from None
        finally:
            self.interruption.restore_handlers()
        return TrainingResult(
            out=self.out,
            steps=self.state.step,
            history=self.state.history,
            interrupted=self.interruption.requested,
            stopped_early=self.evaluator.stopped_early,
            kept=kept,
        )

    def _fit(self) -> None:
        """Keras's fit over the steps that are left, as one epoch of its own."""
        first = self.state.step
        steps = self.plan.total_steps - first
        if steps > 0:
            # In this order: a loss that is not finite must not be evaluated or saved.
            callbacks = [self.guard, self.progress, self.evaluator, self.interruption]
            batches = _Batches(self.plan.windows(), first, steps)
            self.model.fit(batches, shuffle=False, verbose=0, callbacks=callbacks)

    def _evaluated(self, evaluation: Evaluation) -> None:
        save_state(self.out, self.model, self.state)
        with staging(self.out) as scratch:
            write_records(scratch, self.state.history, self.plan.sample_prompt)
        self.listener.evaluation(evaluation)

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
        save_model_folder(
            self.out,
            self.plan,
            best if kept == "best" else last_weights,
            self.state.history,
            _sections(self.plan, self.state, self.dtype, kept),
        )
        return kept


def compile_model(plan: Plan, dtype: str) -> keras.Model:
    """The model with its first weights, optimizer, loss and accuracy."""
    model = build_gpt_model(plan.model, seed=plan.training.seed, dtype=dtype)
    start_from_frequencies(model, plan.model, plan.corpus.counts[0])
    optimizer = build_optimizer(plan.training, plan.total_steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    optimizer.build(model.trainable_variables)
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


class _Batches(keras.utils.PyDataset):
    """The batches of the steps first_step, first_step + 1, ..."""

    def __init__(self, windows: TrainingWindows, first_step: int, steps: int) -> None:
        super().__init__()
        self.windows, self.first_step, self.steps = windows, first_step, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.windows.batch(self.first_step + index)


def _validation(model: keras.Model, plan: Plan) -> Callable[[], float] | None:
    if len(plan.corpus.val_ids) < 2:
        return None
    return make_validation(
        model,
        plan.corpus.val_ids,
        context_length=plan.model.context_length,
        batch_size=plan.training.batch_size,
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
    data = {**to_dict(plan.data), "sources": [str(source) for source in plan.sources]}
    data |= {"fingerprint": plan.corpus.fingerprint(), "characters": plan.corpus.characters}
    data |= {"train_tokens": len(plan.corpus.train_ids), "val_tokens": len(plan.corpus.val_ids)}
    return {
        "data": data,
        "training": {**to_dict(plan.training), "dtype": dtype},
        "metrics": metrics,
    }
