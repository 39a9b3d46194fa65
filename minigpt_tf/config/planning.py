"""For which machine and within which limits a run or an answer is planned."""

import math
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError
from .settings import check_types, documented, require_at_least, setting

MachineName = Literal["here", "t4", "l4", "a100", "h100", "rpi5", "m2"]


@documented
@dataclass(frozen=True)
class PlanConfig:
    """The machine, its limits, and what an hour of it costs.

    Example:
        >>> from minigpt_tf.config.planning import PlanConfig
        >>> PlanConfig(machine="l4", price_per_hour=0.7).memory is None
        True
    """

    machine: MachineName = setting(
        "here", "this machine, which is measured for two seconds, or another, which is estimated"
    )
    memory: float | None = setting(
        None, "GiB of memory that may be taken (unset: all that the machine has)"
    )
    hours: float | None = setting(None, "hours that it may take (unset: any number)")
    price_per_hour: float | None = setting(
        None, "what an hour of the machine costs, in any currency"
    )
    watts: float | None = setting(
        None, "power of the machine, for its energy (unset: the table's, for another machine)"
    )

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("memory", "hours", "price_per_hour", "watts"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name}={value}: must be a positive number")


@documented
@dataclass(frozen=True)
class UseConfig:
    """How much a model is to answer, and how fast.

    Example:
        >>> from minigpt_tf.config.planning import UseConfig
        >>> UseConfig(answers_per_day=500, hours_per_day=1).latency
        10.0
    """

    answers_per_day: int = setting(10_000, "answers of a day")
    hours_per_day: float = setting(
        24.0, "hours of a day in which it answers: 24, or 1 for a batch once a day"
    )
    latency: float = setting(10.0, "seconds that an answer may take")
    prompt_tokens: int = setting(500, "length of a prompt")
    answer_tokens: int = setting(200, "length of an answer")
    weights: Literal["bfloat16", "int8", "int4"] = setting("bfloat16", "how the weights are held")

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("answers_per_day", "prompt_tokens", "answer_tokens"):
            require_at_least(self, name, 1)
        for name in ("hours_per_day", "latency"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"{name}={value}: must be a positive number")
        if self.hours_per_day > 24:
            raise ConfigError(f"hours_per_day={self.hours_per_day}: a day has 24")
