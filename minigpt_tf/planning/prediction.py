"""What a run will take on this machine: the formulas, and what earlier runs have taught."""

import sys
from dataclasses import dataclass
from typing import Any

from ..console import as_duration
from ..machine import memory_size, shown_size
from .experience import Experience, Factors, known_speed, read_experience
from .memory import Memory, memory_of
from .probe import Speed
from .timing import Time, time_of
from .workload import FLOAT32_BYTES, Schedule, Workload, dtype_of

STATES_KEPT = 2
"""Saved states in a checkpoint."""

PROBE_SECONDS = 0.5
"""Of a run's start, where the machine was not measured lately."""


@dataclass(frozen=True)
class Prediction:
    """What a run will take. The parts are the formulas'; what was learned is in `factors`."""

    workload: Workload
    schedule: Schedule
    memory: Memory
    time: Time
    factors: Factors

    @property
    def bytes(self) -> float:
        """Memory at the peak."""
        return sum(self.memory_by_use.values())

    @property
    def memory_by_use(self) -> dict[str, float]:
        """Bytes at the peak, by what takes them."""
        return {name: self.factors.memory * value for name, value in vars(self.memory).items()}

    @property
    def seconds_by_use(self) -> dict[str, float]:
        """Seconds, by what takes them."""
        factors = {"reading": 1.0, "steps": self.factors.step}
        return {
            name: factors.get(name, self.factors.rest) * value
            for name, value in vars(self.time).items()
        }

    @property
    def step_seconds(self) -> float:
        """Of one step, on average."""
        return self.factors.step * self.time.steps / self.schedule.steps

    @property
    def rest_seconds(self) -> float:
        """Of all that is neither reading the data nor steps."""
        return self.factors.rest * (self.time.total - self.time.steps - self.time.reading)

    @property
    def seconds(self) -> float:
        """Of the whole command."""
        return sum(self.seconds_by_use.values())

    @property
    def disk(self) -> float:
        """Bytes of the model folder, checkpoint included."""
        copies = STATES_KEPT * self.workload.state_copies * self.workload.trained
        return FLOAT32_BYTES * (self.workload.model.parameter_count + copies)

    def summary(self) -> str:
        """What the run takes, in a line.

        Returns:
            Memory, time and disk.
        """
        size = memory_size()
        limit = "" if size is None else f" ({shown_size(size)} here)"
        memory, disk = shown_size(self.bytes), shown_size(self.disk)
        return f"{memory} of memory{limit}, {as_duration(self.seconds)}, {disk} of disk"

    def as_json(self) -> dict[str, Any]:
        """Plain data.

        Returns:
            Bytes and seconds, whole and by their parts.
        """
        return {
            "memory": round(self.bytes),
            "seconds": round(self.seconds, 1),
            "step_seconds": round(self.step_seconds, 6),
            "disk": round(self.disk),
            "dtype": dtype_of(self.workload.training),
            "learned_from_runs": self.factors.runs,
            "memory_by_use": {name: round(value) for name, value in self.memory_by_use.items()},
            "seconds_by_use": {
                name: round(value, 2) for name, value in self.seconds_by_use.items()
            },
        }


def predict(
    workload: Workload,
    schedule: Schedule,
    *,
    speed: Speed | None = None,
    experience: Experience | None = None,
) -> Prediction:
    """Estimates a run.

    Args:
        workload: What is in memory.
        schedule: What is computed.
        speed: Of the machine (unset: this one's, measured if that was not done lately).
        experience: What was learned about the machine (unset: about this one).

    Returns:
        The estimate.
    """
    if experience is None:
        speed = speed or known_speed(PROBE_SECONDS)
        experience = read_experience()
    assert speed is not None
    importing = "tensorflow" not in sys.modules
    return Prediction(
        workload,
        schedule,
        memory_of(workload),
        time_of(workload, schedule, speed, importing=importing),
        experience.factors(workload.method, dtype_of(workload.training)),
    )
