"""Answers to questions by a model's template: at evaluations, and of several models."""

import copy
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ...config import RecordsConfig, SamplingConfig
from ...inference.answer import Generation
from ...inference.engine import Engine
from ...inference.generate import TextGenerator
from ...inference.prompt import Prompt
from ...records.prompts import Template
from ...records.schema import ask
from ...records.truncation import Row, truncate
from ...text.chat_template import Message


def answer_all(
    engine: Engine,
    template: Template,
    start_ids: list[int],
    questions: Sequence[str | Sequence[Message]],
    sampling: SamplingConfig,
) -> list[str]:
    """The answers to questions, each asked alone.

    Args:
        engine: The model.
        template: How it is asked.
        start_ids: The tokens from which the model starts without a prompt.
        questions: Texts, or conversations that an answer ends.
        sampling: How the answers are generated.

    Returns:
        The answers, without white space around them.

    Raises:
        DataError: The chat template refuses a question.
    """
    context = engine.config.context_length
    asked = [ask(question) if isinstance(question, str) else question for question in questions]
    prompts = [prompt_row(template, messages, context, sampling) for messages in asked]
    made = answer_each(engine, template, start_ids, prompts, sampling)
    return [generation.text.strip() for generation in made]


def answer_each(
    engine: Engine,
    template: Template,
    start_ids: list[int],
    prompts: Iterable[Row],
    sampling: SamplingConfig,
) -> Iterator[Generation]:
    """The answers to prompts, several generated together. An answer ends as the template ends one.

    Args:
        engine: The model.
        template: How it was asked.
        start_ids: The tokens from which the model starts without a prompt.
        prompts: From `prompt_row`.
        sampling: How the answers are generated.

    Returns:
        The answers, in order, as they are finished.
    """
    tokenizer = copy.copy(template.tokenizer)
    tokenizer.end_ids = template.stop_ids
    generator = TextGenerator(engine, tokenizer, start_ids)
    ids = [Prompt(text="", ids=row.ids.tolist(), unknown=[], dropped=0) for row in prompts]
    return generator.generate_each(ids, sampling)


def prompt_row(
    template: Template,
    messages: Sequence[Message],
    context_length: int,
    sampling: SamplingConfig,
) -> Row:
    """A conversation as the ids that a model gets.

    A prompt that leaves no room for the answer loses its middle, but keeps at least half of the
    context.

    Args:
        template: How the model is asked.
        messages: The conversation.
        context_length: The model's, in tokens.
        sampling: How long the answer may be.

    Returns:
        The prompt; none of it is a target.

    Raises:
        DataError: The chat template refuses the messages.
    """
    ids = template.prompt_ids(messages)
    row = Row(ids, np.zeros(len(ids), dtype=bool))
    room = max(1, context_length // 2, context_length - sampling.max_new_tokens)
    prefix = len(template.tokenizer.prefix_ids)
    return truncate([row], room, RecordsConfig.truncation, prefix)[0]
