"""Prompts to train on, as they are where records are answered from: behind the entries found."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ..records.prompts import Template
from ..records.schema import content_of
from ..records.truncation import Row
from ..text.chat_template import Message
from .context import messages_that_fit
from .library import Library


@dataclass(frozen=True, kw_only=True)
class RecordsTemplate(Template):
    """A template that puts entries of the records before the last question of a conversation.

    A question for which nothing is found stays alone. Of a conversation with entries only the last
    answer is trained: those before it are the entries' own.

    Example:
        >>> import minigpt_tf as mg
        >>> from minigpt_tf.inference.folder import load_folder
        >>> from minigpt_tf.records.prompts import Template
        >>> from minigpt_tf.records.schema import ask
        >>> text = "when do you open ? we open at 8 . what do the records say about it ? " * 99
        >>> _ = open("notes.txt", "w").write(text)
        >>> _ = open("faq.csv", "w").write("question,answer\\nopening hours,we open at 8 .\\n")
        >>> _ = mg.train("notes.txt", "base", preset="modern", steps=1, embed_dim=16)
        >>> plain = Template.of(load_folder("base"))
        >>> template = RecordsTemplate.behind(plain, mg.Library(["faq.csv"]), 200)
        >>> alone, found = (t.prompt_ids(ask("when do you open ?")) for t in (plain, template))
        >>> len(found) > len(alone)
        True
    """

    library: Library
    context_length: int
    """So many tokens may a prompt with its answer have; fewer entries are taken otherwise."""

    @classmethod
    def behind(cls, template: Template, library: Library, context_length: int) -> "RecordsTemplate":
        """A template with records.

        Args:
            template: The model's own.
            library: Where entries are found.
            context_length: The most tokens of a row.

        Returns:
            The template.
        """
        own = {item.name: getattr(template, item.name) for item in fields(Template)}
        return cls(**own, library=library, context_length=context_length)

    def prompt_ids(self, messages: Sequence[Message]) -> np.ndarray:
        return super().prompt_ids(self._behind_entries(list(messages), 0))

    def encode(self, messages: Sequence[Message]) -> Row:
        *asked, answer = messages
        room = len(self.tokenizer.encode(answer["content"]))
        behind = self._behind_entries(asked, room)
        row = super().encode([*behind, answer])
        if len(behind) == len(asked):
            return row
        trained = np.arange(len(row.ids)) >= len(super().prompt_ids(behind))
        return row._replace(mask=row.mask & trained)

    def _behind_entries(self, asked: list[Message], room: int) -> list[Message]:
        """What is asked, behind as many entries as leave room for an answer of so many tokens."""
        if not (found := self.library.find_for(asked)):
            return asked
        prompt_ids = super().prompt_ids

        def fits(turns: list[Message]) -> bool:
            """Whether the row has no more tokens than the context."""
            return len(prompt_ids([*asked[:-1], *turns])) + room <= self.context_length

        return [*asked[:-1], *messages_that_fit(found, content_of(asked[-1]), fits)]
