"""How fast a model answers and how much memory that takes, by this package's engine."""

from dataclasses import dataclass
from typing import Literal

from ..config import ModelConfig
from .probe import Speed
from .timing import forward_flops
from .workload import FLOAT32_BYTES

Storage = Literal["float32", "int8", "int4"]

WEIGHT_BYTES: dict[Storage, float] = {"float32": 4.0, "int8": 1.0625, "int4": 0.625}
"""Of a weight in the engine's matrices, with the scales."""

ENGINE_BYTES = 160 * 2**20
"""Python with NumPy and the engine's compiled functions."""

ACHIEVED_READING = 0.9
"""Of the memory's speed, what decoding one stream reaches."""

ACHIEVED_PRODUCTS = 0.5
"""Of the largest products' speed, what reading a prompt reaches."""

TOKEN_SECONDS = 0.1e-3
"""What a token takes whatever the model: choosing it, and the way through Python."""


@dataclass(frozen=True)
class Decoding:
    """What answering takes."""

    weights: float
    """Bytes of the weights."""
    cache: float
    """Bytes of the keys and values of a sequence of the planned length."""
    memory: float
    """Bytes of the process with one sequence."""
    tokens_per_second: float
    """Of one answer."""
    prompt_seconds: float
    """Until the first token."""
    answer_seconds: float
    """Of the whole answer, prompt included."""


def decoding_of(
    model: ModelConfig, speed: Speed, *, storage: Storage, prompt: int, answer: int
) -> Decoding:
    """Estimates decoding: a token takes one pass over the weights, and over keys and values so far.

    Args:
        model: The architecture.
        speed: Of the machine.
        storage: How the weights are held.
        prompt: Tokens of the prompt.
        answer: Tokens of the answer.

    Returns:
        Memory and speed.
    """
    read = read_parameters(model)
    weights = WEIGHT_BYTES[storage] * model.parameter_count
    position = cache_bytes(model, 1, FLOAT32_BYTES)
    between = prompt + answer / 2
    token_bytes = WEIGHT_BYTES[storage] * read + position * between
    token = token_bytes / (ACHIEVED_READING * speed.reading) + TOKEN_SECONDS
    flops = forward_flops(model, prompt, prompt * prompt / 2, 1)
    first = flops / (ACHIEVED_PRODUCTS * speed.float32) + token
    cache = position * (prompt + answer)
    memory = ENGINE_BYTES + weights + cache
    return Decoding(weights, cache, memory, 1 / token, first, first + (answer - 1) * token)


def read_parameters(model: ModelConfig) -> int:
    """Parameters that a token is multiplied with.

    Args:
        model: The architecture.

    Returns:
        All but the embeddings, of which a token reads one row, unless the output head shares them.
    """
    rows = 0 if model.tie_embeddings else model.vocab_size
    rows += model.context_length if model.positions == "learned" else 0
    return model.parameter_count - rows * model.embed_dim


def cache_bytes(model: ModelConfig, tokens: int, size: int) -> int:
    """Keys and values of a sequence.

    Args:
        model: The architecture.
        tokens: Its length.
        size: Bytes of a number.

    Returns:
        Bytes.
    """
    return 2 * size * model.num_layers * model.num_kv_heads * model.head_dim * tokens
