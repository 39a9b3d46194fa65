"""What happens between the steps of a run: progress, evaluation, interruption."""

import math
import signal
import threading
import time
from collections.abc import Callable

import keras
import numpy as np

from ..config import SamplingConfig, TrainingConfig
from ..errors import TrainingError
from ..inference.engine import Engine
from ..inference.generate import TextGenerator
from ..inference.weights import Weights, weights_of
from .checkpoint import RunState
from .listener import Evaluation, Listener, Progress, perplexity
from .plan import Plan


def divergence(step: int, loss: float, training: TrainingConfig, weights: Weights) -> TrainingError:
    """The error for a run whose loss, gradients or weights are no numbers any more, with the likely
    cause. `weights`: those that the step began with."""
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
    if broken:
        place = f" (the weight {broken} is not finite)"
    elif math.isfinite(loss):
        return TrainingError(f"the gradient is not finite at step {step}, loss {loss:.4g}: {cause}")
    else:
        place = ""
    return TrainingError(f"the loss is {loss} at step {step}{place}: {cause}")


class ProgressTeller:
    """Tells the listener about every step."""

    def __init__(self, first_step: int, plan: Plan, listener: Listener) -> None:
        self.first_step, self.listener = first_step, listener
        self.total_steps = plan.total_steps
        self.epoch_of = plan.epoch_of
        self.step_tokens = plan.training.batch_size * plan.model.context_length
        self.step_seconds: float | None = None  # a running average
        self.step_began = 0.0

    def before_step(self) -> None:
        """Starts the clock."""
        self.step_began = time.perf_counter()

    @property
    def tokens_per_second(self) -> float:
        return self.step_tokens / self.step_seconds if self.step_seconds else 0.0

    def after_step(self, state: RunState) -> None:
        """Measures the step and passes it on, with the time that the rest will take."""
        seconds = time.perf_counter() - self.step_began
        if state.step > self.first_step + 1:  # the first step compiles
            before = seconds if self.step_seconds is None else self.step_seconds
            self.step_seconds = 0.9 * before + 0.1 * seconds
        self.listener.progress(
            Progress(
                step=state.step,
                total_steps=self.total_steps,
                epoch=self.epoch_of(state.step),
                loss=state.mean_loss,
                accuracy=state.mean_accuracy,
                tokens_per_second=self.tokens_per_second,
                seconds_left=(self.total_steps - state.step) * (self.step_seconds or seconds),
            )
        )


class Evaluator:
    """Validation loss, a sample of text, best weights, early stopping."""

    def __init__(
        self, plan: Plan, progress: ProgressTeller, validation_loss: Callable[[], float] | None
    ) -> None:
        self.plan, self.progress, self.validation_loss = plan, progress, validation_loss
        self.last_weights: Weights | None = None

    def is_due(self, step: int) -> bool:
        """Whether the model is to be evaluated after so many steps."""
        return step % self.plan.eval_every == 0 or step == self.plan.total_steps

    def evaluate(self, model: keras.Model, learning_rate: float, state: RunState) -> Evaluation:
        """Adds an evaluation to the state's history, and returns it.

        Raises TrainingError where the loss or a weight is not finite.
        """
        loss, accuracy = state.mean_loss, state.mean_accuracy
        val_loss = self.validation_loss() if self.validation_loss else None
        weights = weights_of(model)
        if not all(math.isfinite(x) for x in (loss, val_loss or 0)) or not _all_finite(weights):
            raise divergence(state.step, val_loss or loss, self.plan.training, weights)
        self.last_weights = weights
        judged = loss if val_loss is None else val_loss
        best = judged < state.best_loss
        if best:
            state.best_loss, state.best_weights = judged, weights
        state.evaluations_since_best = 0 if best else state.evaluations_since_best + 1
        evaluation = Evaluation(
            step=state.step,
            epoch=self.plan.epoch_of(state.step),
            seconds=state.seconds,
            learning_rate=learning_rate,
            loss=loss,
            accuracy=accuracy,
            val_loss=val_loss,
            val_perplexity=None if val_loss is None else perplexity(val_loss),
            tokens_per_second=self.progress.tokens_per_second,
            best=best,
            sample=self._sample(weights),
        )
        state.history.append(evaluation)
        state.loss_sum = state.accuracy_sum = 0.0
        state.steps_summed = 0
        patience = self.plan.training.early_stopping
        state.stopped_early = bool(patience) and state.evaluations_since_best >= patience
        return evaluation

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


class Interruption:
    """Lets Ctrl-C (and SIGTERM) end a run after the step in progress, and a second one at once.

    A context: signals are heard inside it, in the main thread.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.requested = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.listener.notice(
            "stopping after this step and saving (press Ctrl-C again to quit at once)"
        )
