"""What a request says -> the token ids that a model gets; nothing is dropped unless asked for."""

from collections.abc import Sequence
from dataclasses import replace

from ...inference.prompt import Prompt, encode_prompt, encode_turns
from ...text.chat_template import ChatTemplate, Message, message
from ...text.turns import encode_text
from ..engine.served import Served
from ..errors import Refusal
from .bodies import ChatMessage

UNLIMITED = 2**31
"""Tokens of a text that is encoded as a whole, and counted afterwards."""


def require_generator(model: Served) -> None:
    """Refuses a classifier where a text is wanted.

    Args:
        model: What was asked.

    Raises:
        Refusal: It is a classifier.
    """
    if model.generator is None:
        raise Refusal(
            f"{model.name} is a classifier: ask it by POST /v1/classify",
            param="model",
            code="wrong_model",
        )


def require_template(model: Served) -> ChatTemplate:
    """The chat template of a model.

    Args:
        model: What was asked; not a classifier.

    Returns:
        The template.

    Raises:
        Refusal: It has none.
    """
    assert model.generator is not None
    if model.generator.chat_template is None:
        raise Refusal(
            f"{model.name} has no chat template: it continues texts, by POST /v1/completions",
            param="model",
            code="no_chat_template",
        )
    return model.generator.chat_template


def as_messages(messages: Sequence[ChatMessage]) -> list[Message]:
    """A conversation as chat templates take it.

    Args:
        messages: Of a request.

    Returns:
        The same, each with the roles that templates know.

    Raises:
        Refusal: A message asks for what is not served, or says nothing at all.
    """
    found = []
    for place, said in enumerate(messages):
        try:
            said.check()
        except Refusal as error:
            where = f"messages[{place}].{error.param}"
            raise Refusal(f"messages[{place}].{error}", code=error.code, param=where) from None
        if said.content is None and said.role != "assistant":
            where = f"messages[{place}].content"
            raise Refusal(f"{where}: is missing", param=where, code="missing_field")
        role = "system" if said.role == "developer" else said.role
        found.append(message(role, said.content or ""))
    return found


def chat_prompt(model: Served, messages: list[Message], room: int | None) -> Prompt:
    """A conversation as ids, up to where the answer begins.

    Args:
        model: Who is asked.
        messages: The conversation.
        room: If the conversation is too long: tokens of the context to leave for the answer, by
            leaving out the oldest messages (unset: refuse it).

    Returns:
        The prompt.

    Raises:
        Refusal: The model has no chat template, or the conversation is too long.
        DataError: The template rejects the conversation.
    """
    context = model.engine.config.context_length
    system = [said for said in messages[:1] if said["role"] == "system"]
    rest, left_out = messages[len(system) :], 0
    while True:
        prompt = encode_messages(model, system + rest)
        prompt = replace(prompt, text=messages[-1]["content"], left_out=left_out)
        if room is None or len(prompt.ids) + room <= context:
            return fitting(prompt, context, "messages", None)
        if len(rest) < 3:
            return fitting(prompt, context, "messages", room)
        rest, left_out = rest[2:], left_out + 2


def encode_messages(model: Served, messages: list[Message], begins: bool = True) -> Prompt:
    """A conversation as ids. An assistant's last message is the beginning of the answer.

    What the messages say stays text: it cannot end a turn and begin another.

    Args:
        model: Who is asked; with a chat template.
        messages: The conversation.
        begins: End where the answer begins.

    Returns:
        All of the conversation.

    Raises:
        DataError: The template rejects the conversation.
    """
    assert model.generator is not None
    template, tokenizer = require_template(model), model.generator.tokenizer
    begun = messages[-1]["content"] if begins and messages[-1]["role"] == "assistant" else ""
    before = messages[:-1] if begun else messages
    prompt = encode_turns(tokenizer, UNLIMITED, template, before, add_generation_prompt=begins)
    return replace(prompt, ids=prompt.ids + encode_text(tokenizer, begun).tolist())


def text_prompt(model: Served, given: str | list[int], room: int | None) -> Prompt:
    """A text, or token ids, to continue.

    Args:
        model: Who is asked.
        given: The text or the ids.
        room: As for `chat_prompt`; the beginning is dropped.

    Returns:
        The prompt.

    Raises:
        Refusal: It is too long, or an id is outside the vocabulary.
    """
    assert model.generator is not None
    config = model.engine.config
    if isinstance(given, str):
        prompt = encode_prompt(model.generator.tokenizer, UNLIMITED, given)
    else:
        wrong = [i for i in given if not 0 <= i < config.vocab_size]
        if wrong:
            raise Refusal(
                f"prompt: token id {wrong[0]} is outside the vocabulary of {config.vocab_size}",
                param="prompt",
                code="unknown_token",
            )
        prompt = Prompt("", list(given), [], 0)
    return fitting(prompt, config.context_length, "prompt", room)


def fitting(prompt: Prompt, context: int, param: str, room: int | None) -> Prompt:
    """A prompt that leaves room for at least one token.

    Args:
        prompt: As long as it is.
        context: Tokens of prompt and answer together.
        param: The field it came from.
        room: Tokens to leave for the answer, by dropping the prompt's first ones (unset: refuse).

    Returns:
        The prompt.

    Raises:
        Refusal: It is too long.
    """
    length = len(prompt.ids)
    if room is not None and length + room > context:
        kept = max(1, context - room)
        return replace(prompt, ids=prompt.ids[-kept:], dropped=length - kept)
    if length >= context:
        raise Refusal(
            f"{param}: has {length:,} tokens, but the context is {context:,} tokens, for prompt "
            "and answer together: send less, or add truncate=true to drop its beginning",
            param=param,
            code="context_length_exceeded",
        )
    return prompt
