"""The run: a Plan becomes a trained model in a model folder."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import ModelConfig, to_dict
from ..errors import ModelFolderError, TrainingError
from ..inference.weights import Weights, weights_of
from ..model import build_gpt_model
from ..modelfolder import prepare_output, staging
from ..text.windows import TrainingWindows
from .callbacks import Evaluator, FiniteLossGuard, Interruption, ProgressTeller
from .checkpoint import (
    RunState,
    check_same_run,
    read_run,
    restore_state,
    save_state,
    start_checkpoint,
)
from .listener import Evaluation, Listener
from .optimizers import build_optimizer
from .plan import Plan
from .records import write_records
from .saving import save_model_folder
from .validation import make_validation

WORTHWHILE_SPEEDUP = 1.2
"""bfloat16 is chosen where its matrix products are at least this much faster than float32's."""


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
    out, listener = Path(out), listener or Listener()
    prepare_output(out, overwrite=overwrite, resume=resume)
    if resume:
        run = read_run(out)
        check_same_run(run, plan)
        dtype = run["dtype"]
    else:
        dtype = resolve_dtype(plan.training.dtype)
        start_checkpoint(out, plan, dtype)
    model = compile_model(plan, dtype)
    state = restore_state(out, model) if resume else RunState()
    progress = ProgressTeller(state.step, plan, listener)

    def on_evaluation(evaluation: Evaluation) -> None:
        save_state(out, model, state)
        with staging(out) as scratch:
            write_records(scratch, state.history, plan.sample_prompt)
        listener.evaluation(evaluation)

    evaluator = Evaluator(plan, state, progress, _validation(model, plan), on_evaluation)
    interruption = Interruption(state.step, listener)
    guard = FiniteLossGuard(state.step, plan.training)

    def finish(last_weights: Weights) -> str:
        kept = _kept(plan)
        weights = state.best_weights if kept == "best" and state.best_weights else last_weights
        sections = _sections(plan, state, dtype, kept)
        save_model_folder(out, plan, weights, state.history, sections)
        return kept

    try:
        _fit(model, plan, state.step, [guard, progress, evaluator, interruption])
    except TrainingError as error:
        if evaluator.last_weights is None:
            unsaved = "nothing was saved, the first evaluation was not reached"
            raise TrainingError(f"{error}; {unsaved}") from None
        try:
            finish(evaluator.last_weights)
        except ModelFolderError as unsaved:
            failure = f"the weights before it could not be saved: {unsaved}"
            raise TrainingError(f"{error}; {failure}") from None
        at = state.history[-1].step
        raise TrainingError(f"{error}; {out} holds the weights of step {at}") from None
    finally:
        interruption.restore_handlers()
    if interruption.requested:
        save_state(out, model, state)
    kept = finish(weights_of(model))
    return TrainingResult(
        out, state.step, state.history, interruption.requested, evaluator.stopped_early, kept
    )


def resolve_dtype(choice: str) -> str:
    """The dtype policy for a choice of auto | float32 | mixed_bfloat16; auto measures."""
    if choice != "auto":
        return choice
    seconds = {dtype: _matmul_seconds(dtype) for dtype in ("float32", "bfloat16")}
    faster = seconds["float32"] > WORTHWHILE_SPEEDUP * seconds["bfloat16"]
    return "mixed_bfloat16" if faster else "float32"


def _matmul_seconds(dtype: str, size: int = 1024) -> float:
    """Shortest of several times for one (size, size) product."""
    matrix = tf.cast(tf.random.stateless_normal((size, size), seed=(0, 0)), dtype)
    times = []
    for _ in range(8):
        began = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        times.append(time.perf_counter() - began)
    return min(times)


def compile_model(plan: Plan, dtype: str) -> keras.Model:
    """The model with its first weights, optimizer, loss and accuracy."""
    model = build_gpt_model(plan.model, seed=plan.training.seed, dtype=dtype)
    start_from_frequencies(model, plan.model, plan.corpus.train_ids)
    optimizer = build_optimizer(plan.training, plan.total_steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    optimizer.build(model.trainable_variables)
    return model


def start_from_frequencies(model: keras.Model, config: ModelConfig, ids: np.ndarray) -> None:
    """Sets the bias of the output head, if there is one, to the log frequencies of the tokens.

    The model then starts at the loss of knowing the frequencies, and its first steps do not push
    all hidden states the same way to learn them: with post-norm that push makes every position look
    alike, and training stays on that plateau.
    """
    if config.tie_embeddings or not config.logits_bias:
        return
    counts = np.bincount(ids, minlength=config.vocab_size) + 0.01  # unseen tokens: rare, not never
    model.get_layer("logits").bias.assign(np.log(counts / counts.sum()))


def _fit(
    model: keras.Model, plan: Plan, first_step: int, callbacks: list[keras.callbacks.Callback]
) -> None:
    """Keras's fit over the steps from `first_step` to the end, as one epoch of its own."""
    steps = plan.total_steps - first_step
    if steps > 0:
        batches = _Batches(plan.windows(), first_step, steps)
        model.fit(batches, shuffle=False, verbose=0, callbacks=callbacks)


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


def _kept(plan: Plan) -> str:
    if plan.training.keep == "auto":
        return "best" if plan.training.early_stopping else "last"
    return plan.training.keep


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
