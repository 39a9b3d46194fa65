"""A conversation of a request -> answers that are being generated; chat and responses share it."""

from dataclasses import replace

from fastapi import Request

from ..inference.prompt import Prompt
from ..text.chat_template import Message
from .admission import Answers
from .prompts import chat_prompt
from .requests import Sampled
from .sampling import sampling_of
from .served import Served
from .state import call_of, state_of
from .waiting import in_thread, limited


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
    sampling = sampling_of(model, body, limit)  # before anything is encoded
    room = limited(model, limit) if truncate else None
    characters = sum(len(said["content"]) for said in messages)
    prompt = await in_thread(characters, chat_prompt, model, messages, room)
    left = model.engine.config.context_length - len(prompt.ids)
    if left < limit:
        sampling = replace(sampling, max_new_tokens=left)
    if state.config.log_contents:
        call.facts["messages"] = messages
    answers = Answers(state, call, model)
    try:
        answers.ask([prompt], [sampling], n, alternatives)
    except BaseException:
        answers.close()
        raise
    return answers, prompt
