"""The loop: takes a Job through its steps, watches over it, and saves it whatever happens."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from ..config import CHECKPOINT_NAME, CONFIG_NAME
from ..errors import ModelFolderError, TrainingError
from ..events import Evaluation, Listener, LostListener
from ..inference.weights import Weights
from ..storage.model_folder import ADAPTER_NAME, HISTORY_NAME, SAMPLES_NAME
from ..storage.replacing import staging
from .callbacks import Evaluator, Interruption, ProgressReporter, divergence
from .checkpoint import RunState, StateWriter, restore_state
from .distribution import Distribution, WorkerLostError
from .job import Job
from .precision import resolve_jit_compile
from .step import TrainingStep


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    out: Path
    steps: int
    history: list[Evaluation]
    interrupted: bool
    stopped_early: bool
    kept: str
    """Whose weights were saved: "last" or "best"."""


class TrainingLoop:
    """A job in training. The job is made in the scope of the distribution."""

    def __init__(
        self, job: Job, out: Path, listener: Listener, distribution: Distribution, *, resume: bool
    ) -> None:
        """
        Args:
            job: What is trained.
            out: The model folder.
            listener: Receives progress, notices and evaluations.
            distribution: The devices and workers that compute.
            resume: Whether to load the newest state of the folder's checkpoint.

        Raises:
            ModelFolderError: The checkpoint contains no valid state.
            TrainingError: Its state is beyond the last step of the job.
        """
        self.job, self.out, self.distribution = job, out, distribution
        self.resumed = resume
        self.listener = LostListener(listener)
        self.state = self._resumed_state() if resume else RunState()
        distribution.spread(job.state_variables().values())
        if not distribution.is_chief:
            self.state.step = int(np.array(job.optimizer.iterations))
        self.progress = ProgressReporter(self.state.step, job, self.listener)
        self.evaluator = Evaluator(job, self.progress)
        self.writer = StateWriter(out)

    def _resumed_state(self) -> RunState:
        job, out = self.job, self.out
        variables = job.state_variables()
        state = restore_state(out, variables, job.check_weights, self.listener)
        if state.step > job.total_steps:
            raise TrainingError(
                f"{out} has done {state.step} steps already, more than the {job.total_steps} "
                "asked for"
            )
        return state

    def to_the_end(self) -> TrainingResult:
        """Trains to the last step, and saves whatever happens.

        Returns:
            How the run ended.

        Raises:
            TrainingError: The loss is not finite, memory is too small, or another worker has ended.
            ModelFolderError: The folder cannot be written.
            OSError: The listener failed, as where a pipe was closed; the run is saved and ended.
        """
        with Interruption(self.listener) as interruption:
            try:
                with self.distribution.watching():
                    self._train(interruption)
                self._save_state()
                self.writer.wait()
                kept = self._save(self.job.weights())
            except WorkerLostError:  # the step that failed has changed nothing
                self._save_state()
                raise
            except tf.errors.ResourceExhaustedError:
                raise TrainingError(self.job.out_of_memory()) from None
            except TrainingError as error:
                if not self.distribution.is_chief:
                    raise
                raise TrainingError(f"{error}; {self._rescue()}") from None
            finally:
                self.writer.close()
        whole = not (self.resumed or interruption.requested or self.state.stopped_early)
        if self.job.record is not None and whole:
            self.job.record.learn()
        if self.listener.error is not None:  # now that all is saved
            raise self.listener.error
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
        state, job, training = self.state, self.job, self.job.training
        with self.distribution.scope():
            compiled = TrainingStep(
                job.model,
                job.optimizer,
                clip_norm=training.clip_norm,
                accumulate=training.accumulate,
                signature=job.signature,
                jit_compile=resolve_jit_compile(training.jit_compile),
                notice=self.listener.notice,
            )
        began = time.perf_counter() - state.seconds
        saved = time.monotonic()
        while state.step < job.total_steps and not self._is_to_stop(interruption):
            self.progress.before_step()
            step_began = time.perf_counter()
            result = compiled(*job.batch(state.step), step=state.step)
            if job.record is not None:
                job.record.after_step(time.perf_counter() - step_began)
            if not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm)):
                raise divergence(state.step + 1, result.loss, job, job.weights())
            state.add(result.loss, result.accuracy, result.gradient_norm)
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
        if self.listener.error is not None:
            interruption.requested = True
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
        evaluation = self.evaluator.evaluate(self.state)
        self.write_history()
        if self.evaluator.last_weights is not None:
            self.listener.weights(self.state.step, self.evaluator.last_weights)
        self.listener.evaluation(evaluation)

    def write_history(self) -> None:
        """Writes the history so far into the folder; beside a finished model into checkpoint/, as
        the files of that belong together."""
        finished = (self.out / CONFIG_NAME).is_file()
        with staging(self.out / CHECKPOINT_NAME if finished else self.out) as scratch:
            self.job.write_history(scratch, self.state)

    def _save_state(self) -> None:
        if self.distribution.is_chief:
            self.writer.save(self.job.state_variables(), self.state)

    def _rescue(self) -> str:
        """Saves the weights of the last evaluation, which were finite; returns what to report."""
        if self.evaluator.last_weights is None:
            return "no evaluation came before it, so nothing was saved"
        self.state.step = self.state.history[-1].step
        try:
            self._save(self.evaluator.last_weights)
        except ModelFolderError as error:
            return f"the weights before it could not be saved: {error}"
        return f"{self.out} has the weights of step {self.state.step}"

    def _save(self, last_weights: Weights) -> str:
        """Writes the result; returns which weights it has: "last" or "best"."""
        choice = self.job.training.keep
        if choice == "auto":
            choice = "best" if self.job.training.early_stopping else "last"
        best = self.state.best_weights
        kept = "best" if choice == "best" and best is not None else "last"
        if self.distribution.is_chief:
            weights = last_weights if best is None or kept == "last" else best
            self.job.save(weights, self.state, kept)
            for name in (HISTORY_NAME, SAMPLES_NAME, ADAPTER_NAME):  # the folder has them now
                (self.out / CHECKPOINT_NAME / name).unlink(missing_ok=True)
        return kept
