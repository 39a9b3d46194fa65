"""A conversation of a request -> answers that are being generated; chat and responses share it."""

from dataclasses import replace

from fastapi import Request

from ...config import SamplingConfig
from ...inference.prompt import Prompt
from ...retrieval.context import UNKNOWN, messages_that_fit
from ...retrieval.index import Found
from ...text.chat_template import Message
from ..admission import Answers
from ..engine.served import Served
from ..requests.bodies import Sampled
from ..requests.prompts import chat_prompt, encode_messages
from ..requests.sampling import sampling_of
from ..state import call_of, state_of
from ..waiting import limited, off_loop


async def ask_conversation(
    request: Request,
    model: Served,
    body: Sampled,
    messages: list[Message],
    limit: int,
    *,
    truncate: bool = False,
    n: int = 1,
    alternatives: int = 0,
) -> tuple[Answers, Prompt]:
    """Encodes a conversation and submits what is asked for.

    Args:
        request: Whose client waits for it.
        model: Who answers.
        body: How the answers are sampled.
        messages: The conversation.
        limit: Length of an answer at most; less where the context ends.
        truncate: Leave out the oldest messages of a conversation that is too long.
        n: Answers.
        alternatives: Most likely tokens that are kept for each token.

    Returns:
        The answers and what they follow.

    Raises:
        Refusal: The conversation is too long, a setting is out of range, or there is no room.
    """
    state, call = state_of(request), call_of(request)
    if state.config.log_contents:
        call.facts["messages"] = messages
    answers = Answers(state, call, model, n)
    try:
        answers.found = await off_loop(state, _found, model, messages)
        prompt, sampling = await off_loop(
            state, _encoded, model, body, messages, limit, truncate, answers.found
        )
        if answers.found is not None and not answers.found:
            answers.give(prompt, UNKNOWN, n)
        else:
            answers.ask([prompt], [sampling], n, alternatives)
    except BaseException:
        answers.close()
        raise
    return answers, prompt


def _found(model: Served, messages: list[Message]) -> list[Found] | None:
    """The entries that answer the user's last message; None if no records are to be asked."""
    if model.library is None or messages[-1]["role"] != "user":
        return None
    return model.library.find_for(messages)


def _encoded(
    model: Served,
    body: Sampled,
    messages: list[Message],
    limit: int,
    truncate: bool,
    found: list[Found] | None,
) -> tuple[Prompt, SamplingConfig]:
    """The conversation's ids, and how the answers are sampled. Of the entries that were found so
    many stand before the question as the context has room for."""
    sampling = sampling_of(model, body, limit)  # before anything is encoded
    context = model.engine.config.context_length
    said = messages
    if found:

        def fits(turns: list[Message]) -> bool:
            """Whether the whole conversation leaves room for the answer."""
            ids = encode_messages(model, [*messages[:-1], *turns]).ids
            return len(ids) + limited(model, limit) <= context

        said = [*messages[:-1], *messages_that_fit(found, messages[-1]["content"], fits)]
    prompt = chat_prompt(model, said, limited(model, limit) if truncate else None)
    prompt = replace(prompt, text=messages[-1]["content"])
    left = context - len(prompt.ids)
    return prompt, replace(sampling, max_new_tokens=left) if left < limit else sampling
