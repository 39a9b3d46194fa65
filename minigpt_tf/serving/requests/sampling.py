"""Fields of a request -> how its answers are sampled: the same settings as the command line's."""

from typing import Any

from ...config import SamplingConfig
from ...errors import ConfigError
from ..engine.served import Served
from ..errors import Refusal, of_setting
from .bodies import Sampled

COLDEST = 1e-3
"""Temperatures below are 0: the most likely token is all that they leave."""

FILTERS = {"temperature", "top_k", "top_p", "min_p"}
"""Settings of a request that has none of them is as the model's makers recommend."""

PLAIN = (
    *("temperature", "top_p", "top_k", "min_p", "stop", "logit_bias"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty"),
)
"""Fields that SamplingConfig has by the same name."""


def sampling_of(model: Served, body: Sampled, limit: int) -> SamplingConfig:
    """How the answers to a request are sampled.

    Args:
        model: Whose recommended settings hold where the request gives none.
        body: The request.
        limit: Length of an answer at most, in tokens.

    Returns:
        The settings.

    Raises:
        Refusal: One is out of range.
    """
    values = {name: getattr(body, name, None) for name in PLAIN}
    given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    if 0 < given.get("temperature", 0) < COLDEST:
        given["temperature"] = 0.0
    settings = dict(model.defaults)
    if FILTERS & given.keys():
        settings.pop("greedy", None)
    if body.seed is not None:
        given["seed"] = body.seed & 0x7FFFFFFF
    given["max_new_tokens"] = limit
    try:
        sampling = SamplingConfig(**{**settings, **given})
    except ConfigError as error:
        raise of_setting(error) from None
    size = model.engine.config.vocab_size
    wrong = [token_id for token_id in sampling.logit_bias or () if token_id >= size]
    if wrong:
        raise Refusal(
            f"logit_bias: token id {wrong[0]} is outside the vocabulary of {size}",
            param="logit_bias",
            code="unknown_token",
        )
    return sampling


def wanted_length(body: Any, longest: int) -> int:
    """The limit of an answer's length that a request gives, by either of its names.

    Args:
        body: The request.
        longest: Where it gives none.

    Returns:
        Tokens.
    """
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        value = getattr(body, name, None)
        if value is not None:
            return value
    return longest
