"""Conversations with a model."""

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import SamplingConfig
from ..errors import ConfigError
from ..text.chat_template import Message, message
from .prompt import Prompt

if TYPE_CHECKING:
    from .generate import TextGenerator


class Conversation:
    """Prompts and answers in turn; each answer sees everything before it.

    With a chat template they are the messages of a user and an assistant, without one the lines of
    one text. When the context is full, the older half of the conversation is forgotten.

    Args:
        generator: the model.
        sampling: how tokens are chosen.
        system: a message to the model before the conversation, for chat models.

    Raises:
        ConfigError: there is a `system` message, but no chat template.

    Example:
        >>> import minigpt_tf as mg
        >>> talk = mg.load("models/smollm2").conversation()  # doctest: +SKIP
        >>> "".join(talk.reply("who is Hardy"))  # doctest: +SKIP
    """

    def __init__(
        self, generator: "TextGenerator", sampling: SamplingConfig, system: str = ""
    ) -> None:
        if system and generator.chat_template is None:
            raise ConfigError("the model has no chat template, which --system needs: drop it")
        self.generator, self.sampling, self.system = generator, sampling, system
        self.reset()
        self._scheduler = generator.scheduler(1)

    def reset(self) -> None:
        """Forgets everything but the system message."""
        self.ids: list[int] = []
        """All tokens so far."""
        self.messages: list[Message] = []
        """All messages so far, of a model with a chat template."""
        if self.system:
            self.messages.append({"role": "system", "content": self.system})

    def prepare(self, prompt: str) -> Prompt:
        """What the model gets for its next answer.

        Args:
            prompt: the next message.

        Returns:
            The conversation so far and the message, as tokens.
        """
        if self.generator.chat_template is not None:
            return self.generator.prepare_chat([*self.messages, message("user", prompt)])
        prepared = self.generator.prepare(f"\n{prompt}" if self.ids else prompt)
        prefix = len(self.generator.tokenizer.prefix_ids) if self.ids else 0
        new_ids, context = prepared.ids[prefix:], self.generator.engine.config.context_length
        ids = self.ids + new_ids
        if len(ids) >= context:
            ids = ids[-max(1, context // 2, min(len(new_ids), context)) :]
        return replace(prepared, text=prompt, ids=ids)

    def reply(self, prompt: str | Prompt) -> Generator[str, None, None]:
        """The answer as it comes.

        If the caller stops early, what was generated so far is part of the conversation.

        Args:
            prompt: the next message, or what `prepare` made of it.

        Yields:
            Chunks of text, each of complete characters.
        """
        prepared = self.prepare(prompt) if isinstance(prompt, str) else prompt
        request = self._scheduler.submit(prepared, self.sampling)
        answer = request.answer
        try:
            yield from self._scheduler.follow(request)
        finally:
            self.ids = answer.ids
            if self.generator.chat_template is not None:
                said = message("user", prepared.text), message("assistant", answer.text)
                self.messages += said
