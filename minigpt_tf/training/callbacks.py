"""What happens between the steps of fit: guards, progress, evaluation, interruption.

A run is one stretch of steps, counted from its start; epochs are only a way to speak of them. So
all of this happens at step boundaries, and a resumed run goes on in the middle of an epoch.
"""

import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

import keras
import numpy as np

from ..config import SamplingConfig, TrainingConfig
from ..errors import TrainingError
from ..inference.engine import Engine
from ..inference.generate import TextGenerator
from ..inference.weights import Weights, weights_of
from .checkpoint import RunState
from .listener import Evaluation, Listener, Progress
from .plan import Plan


class StepCallback(keras.callbacks.Callback, ABC):
    """A callback that thinks in the run's steps: `after_step(step, loss, accuracy)`.

    `step` is the number of steps done; loss and accuracy are means since the last evaluation.
    """

    def __init__(self, first_step: int) -> None:
        super().__init__()
        self.first_step = first_step

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.after_step(self.first_step + batch + 1, float(logs["loss"]), float(logs["accuracy"]))

    @abstractmethod
    def after_step(self, step: int, loss: float, accuracy: float) -> None:
        """What happens between this step and the next."""


class FiniteLossGuard(StepCallback):
    """Stops a run whose loss is not a number, with the step and the likely cause."""

    def __init__(self, first_step: int, training: TrainingConfig) -> None:
        super().__init__(first_step)
        self.training = training

    def after_step(self, step: int, loss: float, accuracy: float) -> None:
        if not math.isfinite(loss):
            raise divergence(step, loss, self.training, weights_of(self.model))


def divergence(step: int, loss: float, training: TrainingConfig, weights: Weights) -> TrainingError:
    """The error for a run whose loss or weights are no numbers any more, with the likely cause."""
    usual = TrainingConfig.learning_rate
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
    place = f" (the weight {broken} is not finite)" if broken else ""
    return TrainingError(f"the loss is {loss} at step {step}{place}: {cause}")


class ProgressTeller(StepCallback):
    """Tells the listener about every step."""

    def __init__(self, first_step: int, plan: Plan, listener: Listener) -> None:
        super().__init__(first_step)
        self.listener = listener
        self.total_steps = plan.total_steps
        self.steps_per_epoch = plan.windows().steps_per_epoch
        self.step_tokens = plan.training.batch_size * plan.model.context_length
        self.step_seconds: float | None = None  # a running average
        self.step_began = 0.0

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.step_began = time.perf_counter()

    @property
    def tokens_per_second(self) -> float:
        return self.step_tokens / self.step_seconds if self.step_seconds else 0.0

    def after_step(self, step: int, loss: float, accuracy: float) -> None:
        """Measures the step and passes it on, with the time that the rest will take."""
        seconds = time.perf_counter() - self.step_began
        if step > self.first_step + 1:  # the first step compiles
            before = seconds if self.step_seconds is None else self.step_seconds
            self.step_seconds = 0.9 * before + 0.1 * seconds
        self.listener.progress(
            Progress(
                step=step,
                total_steps=self.total_steps,
                epoch=step / self.steps_per_epoch,
                loss=loss,
                accuracy=accuracy,
                tokens_per_second=self.tokens_per_second,
                seconds_left=(self.total_steps - step) * (self.step_seconds or seconds),
            )
        )


class Evaluator(StepCallback):
    """Every `eval_every` steps: validation loss, a sample of text, best weights, early stopping.

    Afterwards calls `on_evaluation`, which saves.
    """

    def __init__(
        self,
        plan: Plan,
        state: RunState,
        progress: ProgressTeller,
        validation_loss: Callable[[], float] | None,
        on_evaluation: Callable[[Evaluation], None],
    ) -> None:
        super().__init__(progress.first_step)
        self.plan, self.state, self.progress = plan, state, progress
        self.validation_loss, self.on_evaluation = validation_loss, on_evaluation
        self.began = time.perf_counter() - state.seconds
        self.stopped_early = False
        self.last_weights: Weights | None = None

    def after_step(self, step: int, loss: float, accuracy: float) -> None:
        self.state.step = step
        self.state.seconds = time.perf_counter() - self.began
        if step % self.plan.eval_every == 0 or step == self.plan.total_steps:
            self._evaluate(step, loss, accuracy)
            self.model.reset_metrics()

    def _evaluate(self, step: int, loss: float, accuracy: float) -> None:
        val_loss = self.validation_loss() if self.validation_loss else None
        weights = weights_of(self.model)
        if not all(math.isfinite(x) for x in (loss, val_loss or 0)) or not _all_finite(weights):
            raise divergence(step, val_loss or loss, self.plan.training, weights)
        self.last_weights = weights
        state, judged = self.state, loss if val_loss is None else val_loss
        best = judged < state.best_loss
        if best:
            state.best_loss, state.best_weights = judged, weights
        state.evaluations_since_best = 0 if best else state.evaluations_since_best + 1
        evaluation = Evaluation(
            step=step,
            epoch=step / self.progress.steps_per_epoch,
            seconds=state.seconds,
            learning_rate=float(self.model.optimizer.learning_rate),
            loss=loss,
            accuracy=accuracy,
            val_loss=val_loss,
            val_perplexity=None if val_loss is None else perplexity(val_loss),
            tokens_per_second=self.progress.tokens_per_second,
            best=best,
            sample=self._sample(weights),
        )
        state.history.append(evaluation)
        self.on_evaluation(evaluation)
        patience = self.plan.training.early_stopping
        if patience and state.evaluations_since_best >= patience:
            self.stopped_early = True
            self.model.stop_training = True

    def _sample(self, weights: Weights) -> str:
        """The prompt as it was understood, and how the model goes on from it."""
        engine = Engine(self.plan.model, weights)
        generator = TextGenerator(engine, self.plan.corpus.tokenizer, self.plan.start_ids)
        sampling = SamplingConfig(
            max_new_tokens=self.plan.training.sample_tokens, seed=self.plan.training.seed
        )
        prompt = generator.prepare(self.plan.sample_prompt)
        return (
            self.plan.corpus.tokenizer.decode(prompt.ids)
            + generator.generate(prompt, sampling).text
        )


def _all_finite(weights: Weights) -> bool:
    return all(np.isfinite(weight).all() for weight in weights.values())


def perplexity(loss: float) -> float:
    """exp(loss), for a loss in nats per token; infinite where that is too large for a float."""
    return math.exp(loss) if loss < 700 else math.inf


class Interruption(StepCallback):
    """Lets Ctrl-C (and SIGTERM) end a run after the step in progress, and a second one at once."""

    def __init__(self, first_step: int, listener: Listener) -> None:
        super().__init__(first_step)
        self.listener = listener
        self.requested = False
        self._previous: dict[int, object] = {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._request)

    def restore_handlers(self) -> None:
        """Gives the signals back to whoever had them."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _request(self, number: int, frame: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.listener.notice(
            "stopping after this step and saving (press Ctrl-C again to quit at once)"
        )

    def after_step(self, step: int, loss: float, accuracy: float) -> None:
        if self.requested:
            self.model.stop_training = True
