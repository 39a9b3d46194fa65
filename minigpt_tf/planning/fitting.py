"""What does not fit into memory is refused, with the mildest settings that would fit."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..machine import check_fits_memory, memory_size
from .memory import memory_of
from .workload import FLOAT32_BYTES, STATE_COPIES, Workload

Lighter = Callable[[], Sequence[tuple[str, Workload]]]
"""Gives (options, workload) of other methods for the same records, the mildest first."""


class Alternative(NamedTuple):
    """Settings that need less memory."""

    options: str
    bytes: float
    other_method: bool


def alternatives(
    workload: Workload, lighter: Sequence[tuple[str, Workload]] = ()
) -> Iterator[Alternative]:
    """Settings that need less memory and train on the same data.

    Args:
        workload: The run.
        lighter: The options of other methods, and the run by each.

    Yields:
        The mildest first: those of the same method, then other methods.
    """
    training = workload.training
    size = training.batch_size
    lower = [n for n in range(1, math.isqrt(size) + 1) if size % n == 0]
    divisors = sorted({*lower, *(size // n for n in lower)})
    divisors = [n for n in divisors if n > training.accumulate]
    for remat in sorted({training.remat, True}):
        for n in [training.accumulate, *divisors]:
            tried = workload.with_training(accumulate=n, remat=remat)
            if tried != workload:
                needed = memory_of(tried).total
                yield Alternative(_differences(workload, tried), needed, other_method=False)
    for options, other in lighter:
        smallest = other.with_training(accumulate=size, remat=True)
        for tried in (other, smallest):
            words = f"{options} {_differences(workload, tried)}".strip()
            yield Alternative(words, memory_of(tried).total, other_method=True)


def _differences(before: Workload, after: Workload) -> str:
    """The options that lead from the training settings of one to those of the other."""
    words = []
    if after.training.remat and not before.training.remat:
        words.append("--remat")
    if after.training.accumulate != before.training.accumulate:
        words.append(f"--accumulate {after.training.accumulate}")
    return " ".join(words)


def check_weights_fit(parameters: int, optimizer: str) -> None:
    """Checks that the weights fit into memory, with gradients and the state of the optimizer.

    Args:
        parameters: Of the model, all of which are trained.
        optimizer: As in TrainingConfig.

    Raises:
        ConfigError: They are larger than this machine's memory.
    """
    needed = FLOAT32_BYTES * (1 + STATE_COPIES[optimizer]) * parameters
    what = f"the {parameters:,} parameters with their gradients and the optimizer's averages"
    check_fits_memory(needed, what)


def check_fits(workload: Workload, lighter: Lighter = tuple) -> None:
    """Checks that a run fits into memory.

    Args:
        workload: The run.
        lighter: Other methods for the same records.

    Raises:
        ConfigError: It takes more than this machine has; the message says what would fit.
    """
    needed = memory_of(workload).total
    size = memory_size()
    if size is None or needed <= size:
        return
    rows = "window" if workload.on_text else "row"
    rows += "s" if workload.rows != 1 else ""
    name = "training" if workload.on_text else f"--method {workload.method}"
    what = f"{name} with {workload.rows} {rows} of {workload.length} tokens at once"
    check_fits_memory(needed, what, _advice(workload, size, lighter()))


def out_of_memory(workload: Workload, lighter: Lighter = tuple) -> str:
    """The message for a run that should have fitted and did not, as other programs need memory too.

    Args:
        workload: The run.
        lighter: Other methods for the same records.

    Returns:
        A line with settings that need a fifth less.
    """
    needed = memory_of(workload).total
    advice = _advice(workload, 0.8 * needed, lighter())
    return f"out of memory: the run needs about {needed / 2**30:.1f} GiB: {advice}"


def _advice(workload: Workload, room: float, lighter: Sequence[tuple[str, Workload]]) -> str:
    """The mildest settings that need no more than `room` bytes, of the same method and of another;
    if there are none, what else can be done."""
    fitting: dict[bool, str] = {}
    for options, needed, other_method in alternatives(workload, lighter):
        if needed <= room:
            fitting.setdefault(other_method, f"{options} (needs {needed / 2**30:.1f} GiB)")
    if fitting:
        return f"{' or '.join(fitting.values())} would fit"
    if workload.on_text:
        return "choose a smaller model or a shorter --context-length"
    return "choose a smaller base, or shorter rows with --max-length"
