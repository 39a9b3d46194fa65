"""What fits within limits of memory and time: the largest batch, context and base of a run."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from ..config import ModelConfig
from .machines import Machine
from .prediction import Prediction, predict
from .workload import Schedule, Workload, text_workload

MOST_ROWS, MOST_BLOCKS = 4096, 256
"""As far as is looked for."""

Size = TypeVar("Size")

Planned = tuple[Workload, Schedule]
"""A run: what is in memory, and what is computed."""


@dataclass(frozen=True)
class Limits:
    """What a run may take; None for no limit."""

    memory: float | None
    """Bytes."""
    seconds: float | None

    def hold(self, prediction: Prediction) -> bool:
        """Whether a run keeps within them.

        Args:
            prediction: What it takes.

        Returns:
            True if it does.
        """
        in_memory = self.memory is None or prediction.bytes <= self.memory
        return in_memory and (self.seconds is None or prediction.seconds <= self.seconds)


def predicted(run: Planned, machine: Machine) -> Prediction:
    """What a run takes on a machine.

    Args:
        run: The run.
        machine: The machine.

    Returns:
        The prediction.
    """
    workload, schedule = run
    return predict(workload, schedule, speed=machine.speed, experience=machine.experience)


def most_steps(run: Planned, machine: Machine, limits: Limits) -> int:
    """The steps for which there is time.

    Args:
        run: The run.
        machine: Where it runs.
        limits: What it may take.

    Returns:
        At most those of the run.
    """
    prediction = predicted(run, machine)
    if limits.seconds is None or prediction.seconds <= limits.seconds:
        return prediction.schedule.steps
    uses = prediction.seconds_by_use
    growing = uses["steps"] + uses["evaluations"]  # which come every so many steps
    left = limits.seconds - (prediction.seconds - growing)
    return max(0, int(left / growing * prediction.schedule.steps))


def largest_batch(run: Planned, machine: Machine, limits: Limits) -> int | None:
    """The most windows or records of a batch, computed at once, that fit.

    The run sees as many tokens in all: larger batches make fewer steps.

    Args:
        run: The run.
        machine: Where it runs.
        limits: What it may take.

    Returns:
        A power of two; None if not even one fits.
    """

    def with_rows(rows: int) -> Planned:
        workload, schedule = run
        factor = rows / workload.training.batch_size
        changed = workload.with_training(batch_size=rows, accumulate=1)
        return changed, replace(
            schedule,
            steps=max(1, round(schedule.steps / factor)),
            tokens=factor * schedule.tokens,
            attended=factor * schedule.attended,
            targets=factor * schedule.targets,
        )

    sizes = [2**i for i in range(MOST_ROWS.bit_length())]
    return _largest(sizes, with_rows, machine, limits)


def longest_rows(run: Planned, machine: Machine, limits: Limits, most: int) -> int | None:
    """The most tokens of a window or a row that fit, with as many rows.

    Args:
        run: The run.
        machine: Where it runs.
        limits: What it may take.
        most: As far as it is looked for, such as the context of the base.

    Returns:
        A power of two, or `most`; None if not even 16 fit.
    """

    def with_length(length: int) -> Planned:
        workload, schedule = run
        factor = length / workload.length
        model = workload.model
        if workload.on_text:
            model = replace(model, context_length=length, window=_window(model, length))
        changed = replace(
            workload, model=model, length=length, targets=round(factor * workload.targets)
        )
        return changed, replace(
            schedule,
            tokens=factor * schedule.tokens,
            attended=factor**2 * schedule.attended,
            targets=factor * schedule.targets,
        )

    sizes = [2**i for i in range(4, 20) if 2**i < most]
    return _largest([*sizes, most], with_length, machine, limits)


def _window(model: ModelConfig, length: int) -> int | None:
    """The model's window in a context of another length."""
    return None if model.window is None else min(model.window, length)


def largest_base(
    bases: Mapping[str, ModelConfig],
    run_of: Callable[[ModelConfig], Planned],
    machine: Machine,
    limits: Limits,
) -> str | None:
    """The largest of some models that fits.

    Args:
        bases: By name, ascending.
        run_of: The run with a model as its base.
        machine: Where it runs.
        limits: What it may take.

    Returns:
        Its name; None if none fits.
    """
    fitting = [
        name for name, model in bases.items() if limits.hold(predicted(run_of(model), machine))
    ]
    return fitting[-1] if fitting else None


def most_layers(run: Planned, machine: Machine, limits: Limits) -> int | None:
    """The most blocks of a model that is trained on a text and fits.

    Args:
        run: The run.
        machine: Where it runs.
        limits: What it may take.

    Returns:
        The number; None if not even one block fits.
    """
    workload, schedule = run

    def with_layers(count: int) -> Planned:
        pattern = workload.model.layer_pattern[:count]
        model = replace(workload.model, num_layers=count, layer_pattern=pattern)
        return text_workload(model, workload.training), schedule

    return _largest(range(1, MOST_BLOCKS + 1), with_layers, machine, limits)


def _largest(
    sizes: Iterable[Size], run_of: Callable[[Size], Planned], machine: Machine, limits: Limits
) -> Size | None:
    """The last of ascending sizes before the first that does not fit."""
    found = None
    for size in sizes:
        if not limits.hold(predicted(run_of(size), machine)):
            break
        found = size
    return found
