"""Answers to questions by a model's template: at evaluations, and of several models."""

import copy
from collections.abc import Iterator, Sequence

from ..config import SamplingConfig
from ..inference.engine import Engine
from ..inference.generate import Prompt, TextGenerator
from .prompts import Template


def answer_all(
    engine: Engine,
    template: Template,
    start_ids: list[int],
    questions: Sequence[str],
    sampling: SamplingConfig,
) -> list[str]:
    """The answers to questions, each asked alone, without the white space around them."""
    tokenizer = copy.copy(template.tokenizer)
    tokenizer.end_ids = template.stop_ids
    generator = TextGenerator(engine, tokenizer, start_ids)
    prompts = list(_prompts(template, questions, engine.config.context_length))
    return [made.text.strip() for made in generator.generate_batch(prompts, sampling)]


def _prompts(template: Template, questions: Sequence[str], context: int) -> Iterator[Prompt]:
    for question in questions:
        ids = template.render_prompt(question).tolist()
        cut = max(0, len(ids) - context // 2)
        yield Prompt(text=question, ids=ids[cut:], unknown=[], dropped=cut)
