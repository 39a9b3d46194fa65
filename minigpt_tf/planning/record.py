"""What a run was predicted to take and what it took, for its config.json and for later plans."""

import contextlib
import statistics
import sys
import time
from typing import Any

from ..startup import import_seconds
from .experience import Outcome, learn
from .prediction import Prediction
from .workload import dtype_of

KIB = 1024

LEAST_SECONDS = 3.0
"""Of all steps together, from which something is learned of them."""


def peak_memory() -> int | None:
    """The most memory that this process has had.

    Returns:
        Bytes, of ru_maxrss; None on a system without it.
    """
    with contextlib.suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else KIB * peak
    return None


class RunRecord:
    """Measures a run. Made when the run begins, after TensorFlow was imported.

    Args:
        prediction: What the run was predicted to take.
    """

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction
        self._began = time.perf_counter()
        self._steps: list[float] = []
        self._alone = import_seconds() is not None
        """Whether the process belongs to a command, which does nothing else."""

    def after_step(self, seconds: float) -> None:
        """Notes a step.

        Args:
            seconds: That it took.
        """
        self._steps.append(seconds)

    @property
    def step_seconds(self) -> float | None:
        """The mean of all steps but the first, which compiles; None if there was no other."""
        return statistics.fmean(self._steps[1:]) if len(self._steps) > 1 else None

    @property
    def seconds(self) -> float:
        """Of reading the data, importing and all until now."""
        reading = self.prediction.schedule.reading
        return reading + (import_seconds() or 0.0) + time.perf_counter() - self._began

    def section(self) -> dict[str, Any]:
        """The section "plan" of config.json.

        Returns:
            "predicted" and "measured".
        """
        measured: dict[str, Any] = {"seconds": round(self.seconds, 1), "steps": len(self._steps)}
        if self._alone and (peak := peak_memory()) is not None:
            measured["memory"] = peak
        if self.step_seconds is not None:
            measured["step_seconds"] = round(self.step_seconds, 6)
        return {"predicted": self.prediction.as_json(), "measured": measured}

    def learn(self) -> None:
        """Keeps what the run has shown, for later plans. Call it when the run is complete."""
        predicted, step = self.prediction, self.step_seconds
        if step is None:
            return
        workload, time_ = predicted.workload, predicted.time
        steps = step * len(self._steps)
        rest = self.seconds - steps - time_.reading
        expected = time_.total - time_.steps - time_.reading
        peak = peak_memory() if self._alone else None
        learn(
            Outcome(
                method=workload.method,
                dtype=dtype_of(workload.training),
                memory=None if peak is None else peak / predicted.memory.total,
                step=steps / time_.steps if steps >= LEAST_SECONDS else None,
                rest=rest / expected,
            )
        )
