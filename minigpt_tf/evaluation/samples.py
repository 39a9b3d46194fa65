"""Texts that a model generates, and what they show: repetition, and copies of the training text."""

from dataclasses import dataclass

import numpy as np

from ..config import EvaluationConfig, SamplingConfig
from ..events import SILENT, Listener
from ..inference.generate import TextGenerator
from ..inference.prompt import Prompt
from .memorization import find_copied
from .repetition import distinct, loop_rate

DISTINCT = (1, 2, 3, 4)
COPIED = 8
"""Tokens in the n-grams that are looked for in the training text."""


@dataclass(frozen=True)
class SampleReport:
    """What some generated texts show. None: it could not be measured."""

    samples: int
    tokens: int
    distinct: dict[int, float | None]
    """Distinct-n by n; None where no text has n tokens."""
    loop_rate: float | None
    longest_copied: int | None
    """Tokens of the longest span copied from the training text."""
    longest_copied_text: str | None
    copied_ngrams: float | None
    """Fraction of the 8-grams that occur in the training text."""


def generate_samples(
    generator: TextGenerator, ids: np.ndarray, config: EvaluationConfig
) -> list[list[int]]:
    """Texts that the model continues from random places of a text.

    Each may end before `config.sample_tokens` tokens. Without prompt tokens a text starts as the
    model starts by itself. The same seed gives the same texts.

    Args:
        generator: The model and its tokenizer.
        ids: The text (N,) that the prompts are taken from.
        config: How many texts, how long, at which temperature.

    Returns:
        The ids of `config.samples` texts, without their prompts.
    """
    sampling = SamplingConfig(
        max_new_tokens=config.sample_tokens, temperature=config.temperature, seed=config.seed
    )
    prefix = list(generator.tokenizer.prefix_ids)
    room = max(1, generator.engine.config.context_length - len(prefix))
    length = min(config.prompt_tokens, len(ids), room)
    if not length:
        generations = generator.generate_each(
            [Prompt("", prefix, [], 0)], sampling, max(1, config.samples)
        )
    else:
        starts = np.random.default_rng(config.seed).integers(
            0, len(ids) - length + 1, config.samples
        )
        prompts = [Prompt("", prefix + ids[s : s + length].tolist(), [], 0) for s in starts]
        generations = generator.generate_each(prompts, sampling)
    return [  # without the tokens that a text without a prompt starts from
        [i for i, logprob in zip(g.ids, g.logprobs, strict=True) if logprob is not None]
        for g in generations
    ]


def report_samples(
    generator: TextGenerator,
    ids: np.ndarray,
    config: EvaluationConfig,
    train_ids: np.ndarray | None,
    listener: Listener = SILENT,
) -> SampleReport:
    """Generates texts and measures them.

    Args:
        generator: The model and its tokenizer.
        ids: The text (N,) that the prompts are taken from.
        config: How many texts, how long, at which temperature.
        train_ids: The training text (M,); None: copies are not measured.
        listener: Receives the progress.

    Returns:
        What the texts show.
    """
    listener.preparation("generating", 0, 0)
    texts = generate_samples(generator, ids, config)
    tokens = sum(map(len, texts))
    longest = max(map(len, texts), default=0)
    copied = None
    if tokens and train_ids is not None:
        copied = find_copied(texts, train_ids, COPIED, listener)
    return SampleReport(
        samples=len(texts),
        tokens=tokens,
        distinct={n: distinct(texts, n) if longest >= n else None for n in DISTINCT},
        loop_rate=loop_rate(texts) if tokens else None,
        longest_copied=None if copied is None else len(copied.longest),
        longest_copied_text=None
        if copied is None
        else generator.tokenizer.decode(copied.longest.tolist()),
        copied_ngrams=None if copied is None else copied.ngram_fraction,
    )
