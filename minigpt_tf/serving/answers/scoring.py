"""Log probabilities of a prompt's own tokens, for completions that echo it."""

from collections.abc import Generator
from typing import Any

from ...inference.engine import Engine
from ...inference.prompt import Prompt
from ...inference.samplers import logprobs_of, top_logprobs
from ..engine.served import Served
from .logprobs import Token

TOKENS = 32
"""Of a turn, whose logits are V numbers each."""

PromptScores = list[tuple[float | None, list[tuple[int, float]]]]
"""Of each token: its log probability, None for the first, and the most likely tokens."""


def prompt_scores(engine: Engine, ids: list[int], count: int) -> Generator[None, None, Any]:
    """Scores a prompt in turns, in the engine's own sequence.

    Args:
        engine: Of the model.
        ids: The prompt, perhaps empty.
        count: Most likely tokens at each place.

    Yields:
        After each turn.

    Returns:
        PromptScores.
    """
    scores: PromptScores = []
    if ids:
        scores.append((None, []))
    engine.cache.positions[0] = 0
    for start in range(0, len(ids) - 1, TOKENS):
        chunk = ids[start : min(start + TOKENS, len(ids) - 1)]
        for place, logits in enumerate(engine.extend(chunk, engine.cache, 0), start=start + 1):
            (logprob,) = logprobs_of(logits, [ids[place]])
            scores.append((logprob, top_logprobs(logits, count) if count else []))
        yield
    return scores


def tokens_of_prompt(
    model: Served, prompt: Prompt, scores: PromptScores | None
) -> tuple[str, list[Token]]:
    """A prompt as it is echoed.

    Args:
        model: Whose tokenizer made it.
        prompt: The prompt.
        scores: Of its tokens (unset: not wanted).

    Returns:
        Its text, and its tokens where they are wanted.
    """
    assert model.generator is not None
    tokenizer = model.generator.tokenizer
    prefix, ids = list(tokenizer.prefix_ids), prompt.ids
    hidden = len(prefix) if prefix and ids[: len(prefix)] == prefix else 0
    text = prompt.text or tokenizer.decode(ids[hidden:])
    tokens = []
    for place, (logprob, others) in enumerate(scores or ()):
        before = ids[max(0, place - 8) : place]
        shown = [(model.token_bytes.of(before, i), value) for i, value in others]
        data = b"" if place < hidden else model.token_bytes.of(before, ids[place])
        tokens.append(Token(data, logprob, shown))
    return text, tokens
