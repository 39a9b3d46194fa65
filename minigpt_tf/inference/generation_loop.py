"""The generation loop: prefill, copy, sample, decode, in this order."""

from collections.abc import Iterator, Sequence

import numpy as np

from .answer import Answer
from .engine import Engine
from .key_value_cache import Cache


def generate_tokens(
    engine: Engine,
    answers: Sequence[Answer],
    cache: Cache,
    *,
    start_ids: Sequence[int],
    end_ids: frozenset[int],
    resume: bool = False,
) -> Iterator[str]:
    """The generation loop: adds tokens to the answers, all together, until each has ended.

    Args:
        engine: gives the logits after a token.
        answers: the answers, before their first token.
        cache: their keys and values, a row for each answer.
        start_ids: the tokens with which an answer to an empty prompt begins.
        end_ids: the tokens that end an answer.
        resume: whether to keep the beginning of a prompt that the cache may have.

    Yields:
        The text that each token completes, perhaps empty.
    """
    context = engine.config.context_length
    # 1. An empty prompt: the answer begins as the model's texts do.
    for answer in answers:
        if not answer.ids:
            for token_id in start_ids:
                if not answer.finish_reason:
                    yield answer.append(token_id, None)
    # 2. Prefill: the logits (V,) after each prompt. Of equal prompts, one; its cache is copied.
    logits: dict[int, np.ndarray] = {}
    for row, answer in enumerate(answers):
        if answer.finish_reason:
            continue
        twin = next((other for other in logits if answers[other].ids == answer.ids), None)
        if twin is not None:
            cache.copy(twin, row)
            logits[row] = logits[twin]
        elif resume:
            logits[row] = engine.resume(answer.ids, cache, row)
        else:
            logits[row] = engine.prefill(answer.ids, cache, row)
    while logits:
        # 3. Sample: the next token of each answer.
        for row, after in logits.items():
            answer = answers[row]
            token_id, logprob = answer.sampler(after, answer.ids)
            if token_id in end_ids:
                yield answer.finish("end")
            else:
                yield answer.append(token_id, logprob)
            if cache.positions[row] == context and answer.sampling.context_full == "stop":
                yield answer.finish("context")
        running = [row for row in logits if not answers[row].finish_reason]
        # 4. A full context slides: its newer half is a prompt.
        full = [row for row in running if cache.positions[row] == context]
        half = max(1, context // 2)
        logits = {row: engine.prefill(answers[row].ids[-half:], cache, row) for row in full}
        # 5. Decode: the logits after each other answer's new token, in one pass over the weights.
        if fitting := [row for row in running if row not in full]:
            new_ids = [answers[row].ids[-1] for row in fitting]
            logits |= zip(fitting, engine.decode_batch(new_ids, cache, fitting), strict=True)
