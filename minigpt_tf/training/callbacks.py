"""What happens between the steps of a run: progress, evaluation, interruption."""

import math
import signal
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np

from ..errors import TrainingError
from ..events import Evaluation, Listener, Progress
from ..inference.weights import Weights
from ..metrics import perplexity
from .checkpoint import RunState
from .job import Job


def divergence(step: int, loss: float, job: Job, weights: Weights) -> TrainingError:
    """The error for a run whose loss, gradients or weights are not finite, with the likely cause.

    Args:
        step: The step that failed, counted from 1.
        loss: Its loss, in nats.
        job: What is trained.
        weights: Those that the step began with.

    Returns:
        The error, to be raised.
    """
    training, usual = job.training, job.usual_rate
    broken = next((name for name, w in weights.items() if not np.isfinite(w).all()), None)
    if training.learning_rate > 3 * usual:
        cause = (
            f"the learning rate {training.learning_rate:g} is too high, {usual:g} is usual "
            "(--learning-rate)"
        )
    elif not training.clip_norm:
        cause = "gradients grew without bound, clip them with --clip-norm 1"
    else:
        cause = "values grew out of range, try a tenth of the learning rate"
    if broken:
        place = f" (the weight {broken} is not finite)"
    elif math.isfinite(loss):
        return TrainingError(f"the gradient is not finite at step {step}, loss {loss:.4g}: {cause}")
    else:
        place = ""
    return TrainingError(f"the loss is {loss} at step {step}{place}: {cause}")


class ProgressReporter:
    """Reports every step to the listener."""

    def __init__(self, first_step: int, job: Job, listener: Listener) -> None:
        self.first_step, self.job, self.listener = first_step, job, listener
        self.step_seconds: float | None = None  # a running average
        self.step_began = 0.0

    def before_step(self) -> None:
        """Starts the clock of a step."""
        self.step_began = time.perf_counter()

    @property
    def tokens_per_second(self) -> float:
        """A running average over the steps; 0.0 before the second step."""
        return self.job.batch_tokens / self.step_seconds if self.step_seconds else 0.0

    def after_step(self, state: RunState) -> None:
        """Measures the step and reports it, with an estimate of the time left.

        Args:
            state: How far the run has come.
        """
        seconds = time.perf_counter() - self.step_began
        if state.step > self.first_step + 1:  # the first step compiles
            before = seconds if self.step_seconds is None else self.step_seconds
            self.step_seconds = 0.9 * before + 0.1 * seconds
        self.listener.progress(
            Progress(
                step=state.step,
                total_steps=self.job.total_steps,
                epoch=self.job.epoch_of(state.step),
                loss=state.mean_loss,
                accuracy=state.mean_accuracy,
                tokens_per_second=self.tokens_per_second,
                seconds_left=(self.job.total_steps - state.step) * (self.step_seconds or seconds),
            )
        )


class Evaluator:
    """Evaluates the model: validation loss, a sample of text, best weights, early stopping.

    Args:
        job: What is trained.
        progress: Measures the speed.
    """

    def __init__(self, job: Job, progress: ProgressReporter) -> None:
        self.job, self.progress = job, progress
        self.last_weights: Weights | None = None

    def is_due(self, step: int) -> bool:
        """Whether the model is to be evaluated after `step` steps."""
        return step % self.job.eval_every == 0 or step == self.job.total_steps

    def evaluate(self, state: RunState) -> Evaluation:
        """Evaluates, and updates the state: history, best weights, early stopping.

        Args:
            state: How far the run has come.

        Returns:
            The new row of the history.

        Raises:
            TrainingError: The loss or a weight is not finite.
        """
        loss, accuracy = state.mean_loss, state.mean_accuracy
        found = self.job.validate() or {}
        val_loss = found.pop("loss", None)
        weights = self.job.weights()
        if not all(math.isfinite(x) for x in (loss, val_loss or 0)) or not _all_finite(weights):
            raise divergence(state.step, val_loss or loss, self.job, weights)
        self.last_weights = weights
        judged = loss if val_loss is None else val_loss
        best = judged < state.best_loss
        per_token = self.job.loss_per == "token"
        if best:
            state.best_loss, state.best_weights = judged, weights
        state.evaluations_since_best = 0 if best else state.evaluations_since_best + 1
        evaluation = Evaluation(
            step=state.step,
            epoch=self.job.epoch_of(state.step),
            seconds=state.seconds,
            learning_rate=float(self.job.optimizer.learning_rate),
            loss=loss,
            accuracy=accuracy,
            val_loss=val_loss,
            val_perplexity=perplexity(val_loss) if per_token and val_loss is not None else None,
            tokens_per_second=self.progress.tokens_per_second,
            best=best,
            sample=self.job.sample(weights),
            metrics=found,
            loss_per=self.job.loss_per,
            gradient_norm=state.gradient_norm_sum / state.steps_summed,
        )
        state.history.append(evaluation)
        state.loss_sum = state.accuracy_sum = state.gradient_norm_sum = 0.0
        state.steps_summed = 0
        patience = self.job.training.early_stopping or 0
        state.stopped_early = patience > 0 and state.evaluations_since_best >= patience
        return evaluation


def _all_finite(weights: Weights) -> bool:
    return all(np.isfinite(weight).all() for weight in weights.values())


class Interruption:
    """Lets a run end after the step in progress, and be saved, when it is asked to or nobody is
    left to see it: by Ctrl-C, SIGTERM, the end of its terminal, or a closed pipe.

    A second Ctrl-C or SIGTERM ends it at once. A context manager: it handles signals while it is
    open, in the main thread. What the process ignores, as under nohup, stays ignored.

    Args:
        listener: Receives a notice.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                ignored = name == "SIGHUP" and number and signal.getsignal(number) == signal.SIG_IGN
                if number and not ignored:
                    self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: object) -> None:
        hung_up = number == getattr(signal, "SIGHUP", None)
        if self.requested and not hung_up:  # of which some terminals send two
            raise KeyboardInterrupt
        self.requested = True
        with suppress(RuntimeError):  # the signal came in the midst of another line
            self.listener.notice(
                "stopping after this step and saving (press Ctrl-C again to quit at once)"
            )
