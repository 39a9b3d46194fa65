"""A text or a conversation -> the token ids that a model gets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..text.chat_template import ChatTemplate, Message
from ..text.tokenizers import BaseTokenizer
from ..text.unicode import well_formed

MOST_NAMES = 3
"""So many special tokens are named in a notice."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model gets it: what `TextGenerator.prepare` returns.

    Example:
        >>> from minigpt_tf import Prompt
        >>> long = Prompt("who is Hardy", ids=[5, 6], unknown=[], dropped=1)
        >>> list(long.notices())
        ['the prompt is longer than the context of 2 tokens: its first 1 tokens were dropped']
    """

    text: str
    """The text as given."""
    ids: list[int]
    """Token ids, at most the context length; empty if the model starts a text by itself."""
    unknown: list[str]
    """Words or characters outside the vocabulary."""
    dropped: int
    """Tokens dropped from the front, because the context is shorter."""
    left_out: int = 0
    """Older messages of a conversation left out, because the context is shorter."""
    spelled: tuple[str, ...] = ()
    """Special tokens that a message spells; they stay text."""

    def notices(self) -> Iterator[str]:
        """What a person should know about the prompt.

        Yields:
            A sentence for each thing.
        """
        if self.text.strip() and not self.ids:
            yield "the model knows nothing of the prompt, and starts by itself"
        if self.unknown:
            names = ", ".join(repr(word) for word in self.unknown)
            yield f"not in the model's vocabulary: {names}"
        if self.dropped:
            yield (
                f"the prompt is longer than the context of {len(self.ids)} tokens: its first "
                f"{self.dropped} tokens were dropped"
            )
        if self.left_out:
            yield f"the conversation is long: its first {self.left_out} messages were left out"
        if self.spelled:
            names = ", ".join(map(repr, self.spelled[:MOST_NAMES]))
            more = len(self.spelled) - MOST_NAMES
            names += f" and {more} more" if more > 0 else ""
            yield f"{names} in a message: a special token's spelling, which stays text"


def encode_prompt(tokenizer: BaseTokenizer, context_length: int, text: str) -> Prompt:
    """A text as ids, after those that every text of the model begins with.

    A special token in it is one: the text is the model's, not a message to it.

    Args:
        tokenizer: the model's.
        context_length: tokens that fit; of a longer text the end is kept.
        text: what the model gets.

    Returns:
        The prompt, empty of ids if the text has none.
    """
    text = well_formed(text)
    return _fitted(tokenizer, context_length, text, tokenizer.encode(text))


def _fitted(
    tokenizer: BaseTokenizer, context_length: int, text: str, text_ids: np.ndarray
) -> Prompt:
    """The prompt of a text with these ids."""
    prefix, ids = list(tokenizer.prefix_ids), text_ids.tolist()
    if prefix and ids[: len(prefix)] == prefix:  # a template has them in its text
        ids = ids[len(prefix) :]
    room = context_length - len(prefix)
    return Prompt(
        text=text,
        ids=prefix + ids[-room:] if ids else [],
        unknown=tokenizer.unknown(text),
        dropped=max(0, len(ids) - room),
    )


def encode_turns(
    tokenizer: BaseTokenizer,
    context_length: int,
    template: ChatTemplate,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = True,
) -> Prompt:
    """A conversation as ids. What the messages spell stays text, special tokens too.

    Args:
        tokenizer: the model's.
        context_length: tokens that fit; of a longer text the end is kept.
        template: writes the conversation as one text.
        messages: {"role": ..., "content": ...} each.
        add_generation_prompt: end where the assistant's next answer begins.

    Returns:
        The prompt; its text is what the template wrote.

    Raises:
        DataError: the template rejects the conversation.
    """
    from ..text.turns import write_turns  # a prompt that is no chat does without it

    written = write_turns(
        template, messages, tokenizer, add_generation_prompt=add_generation_prompt
    )
    prompt = _fitted(tokenizer, context_length, written.text, written.ids)
    return replace(prompt, spelled=written.spelled)


def encode_chat(
    tokenizer: BaseTokenizer,
    context_length: int,
    template: ChatTemplate,
    messages: Sequence[Message],
) -> Prompt:
    """A conversation as ids, up to where the answer begins. Its last message is the user's.

    What the messages spell stays text, special tokens too.

    The oldest messages are left out until half of the context is free for the answer; the system
    message and the last one always stay.

    Args:
        tokenizer: the model's.
        context_length: tokens that fit.
        template: writes the conversation as one text.
        messages: {"role": ..., "content": ...} each.

    Returns:
        The prompt; `left_out` counts the messages that were left out.

    Raises:
        DataError: the template rejects the conversation.
    """
    system = [message for message in messages[:1] if message["role"] == "system"]
    rest, left_out = list(messages[len(system) :]), 0
    while True:
        prompt = encode_turns(tokenizer, context_length, template, system + rest)
        if len(rest) < 3 or len(prompt.ids) + prompt.dropped <= context_length // 2:
            shown = well_formed(messages[-1]["content"])
            return replace(prompt, text=shown, left_out=left_out)
        rest, left_out = rest[2:], left_out + 2
