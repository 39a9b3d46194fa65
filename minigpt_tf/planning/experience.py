"""What this machine has shown: its speed, and how long runs took against what was predicted.

`plan.json` in the cache folder has both, under the machine's name. It may be deleted.
"""

import contextlib
import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..storage.cache import cache_folder
from .probe import Speed, machine_name, measure_speed

FILE_NAME = "plan.json"
MOST_RUNS = 40
"""The newest runs count, so many at most."""
ENOUGH = 3
"""Runs of the same method and dtype that are enough to leave the others out."""
PROBE_DAYS = 30


@dataclass(frozen=True)
class Outcome:
    """A finished run: measured values as multiples of what the formulas had predicted."""

    method: str
    dtype: str
    memory: float | None
    """None where the process had done something else before."""
    step: float | None
    """None where all steps took too little time to say anything."""
    rest: float
    """All that is not steps."""


@dataclass(frozen=True)
class Factors:
    """What the formulas' values are multiplied by on this machine."""

    memory: float = 1.0
    step: float = 1.0
    rest: float = 1.0
    runs: int = 0
    """From how many runs they were learned."""


@dataclass
class Experience:
    """What is known of this machine."""

    speed: Speed | None = None
    probed: float = 0.0
    """When: seconds since 1970."""
    outcomes: list[Outcome] = field(default_factory=list)

    def factors(self, method: str, dtype: str) -> Factors:
        """What to multiply the formulas' values by: medians over the nearest runs.

        Args:
            method: "train", or a method of fine-tuning.
            dtype: "float32" or "mixed_bfloat16".

        Returns:
            1 for each without runs.
        """
        near = [o for o in self.outcomes if (o.method, o.dtype) == (method, dtype)]
        if len(near) < ENOUGH:
            near = [o for o in self.outcomes if o.dtype == dtype]
        if len(near) < ENOUGH:
            near = self.outcomes
        if not near:
            return Factors()
        return Factors(
            memory=_middle([o.memory for o in near]),
            step=_middle([o.step for o in near]),
            rest=_middle([o.rest for o in near]),
            runs=len(near),
        )


def _middle(ratios: list[float | None]) -> float:
    """The median of ratios, nearer to 1 the fewer there are."""
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        return 1.0
    return statistics.median(known) ** min(1.0, len(known) / ENOUGH)


def read_experience() -> Experience:
    """What was kept of this machine; nothing, where that is missing or damaged.

    Returns:
        The experience.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        own = json.loads(_file().read_text(encoding="utf-8"))[machine_name()]
        speed = Speed(**own["speed"]) if own.get("speed") else None
        return Experience(speed, float(own["probed"]), [Outcome(**o) for o in own["outcomes"]])
    return Experience()


def write_experience(experience: Experience) -> None:
    """Keeps what was learned, if the cache folder can be written.

    Args:
        experience: All of it.
    """
    everything: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(_file().read_text(encoding="utf-8"))
        everything = found if isinstance(found, dict) else {}
    everything[machine_name()] = {
        "speed": asdict(experience.speed) if experience.speed else None,
        "probed": experience.probed,
        "outcomes": [asdict(outcome) for outcome in experience.outcomes[-MOST_RUNS:]],
    }
    with contextlib.suppress(OSError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(everything, file, indent=1)
        os.replace(name, _file())


def known_speed(seconds: float = 2.0, *, anew: bool = False) -> Speed:
    """This machine's speed: as it was measured in the last weeks, or measured now and kept.

    Args:
        seconds: How long a measurement may take.
        anew: Whether to measure in any case.

    Returns:
        The speed.
    """
    known = read_experience()
    fresh = time.time() - known.probed < PROBE_DAYS * 24 * 3600
    if known.speed is not None and fresh and not anew:
        return known.speed
    speed = measure_speed(seconds)
    write_experience(Experience(speed, time.time(), known.outcomes))
    return speed


def learn(outcome: Outcome) -> None:
    """Adds a finished run to what is known.

    Args:
        outcome: The run.
    """
    known = read_experience()
    known.outcomes.append(outcome)
    write_experience(known)


def _file() -> Path:
    return cache_folder() / FILE_NAME
