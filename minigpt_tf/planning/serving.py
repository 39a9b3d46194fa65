"""What answering takes: how many machines for so many answers, each in so many seconds.

A token of all answers under way takes one pass over the weights and over their keys and values, at
the memory's speed, or 2 operations for each weight and answer, whichever takes longer. Prompts are
read in between, at 2 operations for each weight and token.
"""

import math
from dataclasses import dataclass

from ..config import ModelConfig
from ..config.planning import UseConfig
from .decoding import cache_bytes, read_parameters
from .hardware import BFLOAT16_BYTES, USABLE_MEMORY, UTILIZATION
from .machines import Machine, Sheet
from .workload import FLOAT32_BYTES

READ_UTILIZATION = 0.7
"""Of a GPU's promised memory speed, what decoding reaches."""

ENGINE_PRODUCTS, ENGINE_READING = 0.5, 0.9
"""The same of this package's engine, of what was measured."""

MOST_GPUS = 8
"""Over which the weights of a copy are spread, at most."""

WEIGHT_BYTES = {"bfloat16": 2.0, "int8": 1.0, "int4": 0.5625}
"""With a scale of 2 bytes for 32 weights in 4 bits."""


@dataclass(frozen=True)
class Server:
    """What answers, as its speed and its memory see it."""

    memory: float
    """Bytes that may be taken."""
    reading: float
    """Bytes a second."""
    products: float
    """Operations a second."""
    cache_bytes: int
    """Of a number in keys and values."""
    most: int
    """Over so many a copy of the model may be spread."""


def gpu_server(sheet: Sheet) -> Server:
    """A GPU with a program that batches answers, such as vLLM.

    Args:
        sheet: The GPU.

    Returns:
        The server.
    """
    return Server(
        USABLE_MEMORY * sheet.memory,
        READ_UTILIZATION * sheet.bandwidth,
        UTILIZATION * sheet.bfloat16,
        BFLOAT16_BYTES,
        MOST_GPUS,
    )


def engine_server(machine: Machine) -> Server:
    """A processor with this package's engine.

    Args:
        machine: The machine.

    Returns:
        The server.
    """
    return Server(
        USABLE_MEMORY * (machine.memory or math.inf),
        ENGINE_READING * machine.speed.reading,
        ENGINE_PRODUCTS * machine.speed.float32,
        FLOAT32_BYTES,
        1,
    )


@dataclass(frozen=True)
class Sizing:
    """Machines that a use needs."""

    per_copy: int
    """Over which the weights of a copy are spread."""
    together: int
    """Answers of a copy that are generated at once."""
    answer_seconds: float
    """Of an answer, so many at once."""
    answers_per_second: float
    """Of a copy, at most."""
    copies: int

    @property
    def machines(self) -> int:
        """All of them."""
        return self.per_copy * self.copies


def sizing(model: ModelConfig, server: Server, use: UseConfig) -> Sizing | None:
    """The machines that answer often enough, and fast enough.

    Each copy generates as many answers at once as its memory holds and the latency allows.

    Args:
        model: The architecture.
        server: What answers.
        use: How much is to be answered, and how fast.

    Returns:
        The sizing; None if even a single answer takes too long, or its weights do not fit.
    """
    weights = WEIGHT_BYTES[use.weights] * model.parameter_count
    position = cache_bytes(model, 1, server.cache_bytes)
    sequence = position * (use.prompt_tokens + use.answer_tokens)
    needed = use.answers_per_day / (use.hours_per_day * 3600)
    for count in range(1, server.most + 1):
        most = int((count * server.memory - weights) / sequence)
        sizes = [2**i for i in range(max(0, most).bit_length())]
        times = {n: answer_seconds(model, server, use, count, n) for n in sizes}
        fitting = [n for n, seconds in times.items() if seconds <= use.latency]
        if fitting:
            together = fitting[-1]
            rate = together / times[together]
            return Sizing(count, together, times[together], rate, math.ceil(needed / rate))
    return None


def answer_seconds(
    model: ModelConfig, server: Server, use: UseConfig, count: int, together: int
) -> float:
    """How long an answer takes if so many are generated at once.

    Args:
        model: The architecture.
        server: What answers.
        use: Lengths of prompt and answer, and how the weights are held.
        count: Machines over which the weights are spread.
        together: Answers at once.

    Returns:
        Seconds.
    """
    parameters = read_parameters(model)
    reading, products = count * server.reading, count * server.products
    middle = use.prompt_tokens + use.answer_tokens // 2
    keys = together * cache_bytes(model, middle, server.cache_bytes)
    read = (WEIGHT_BYTES[use.weights] * parameters + keys) / reading
    token = max(read, 2 * parameters * together / products)
    return use.answer_tokens * token + 2 * parameters * together * use.prompt_tokens / products
