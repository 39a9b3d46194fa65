"""The tokens of a tokenizer that only a chat template may write, and the tokenizer without them."""

import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cached_property

from ..errors import DataError
from .base_tokenizer import BaseTokenizer
from .chat_template import ChatTemplate, message

ANSWER = "\ue001"
"""The answer of the conversation with which a template is looked at."""

Key = tuple[str | None, tuple[tuple[str, str], ...], frozenset[int]]
"""Of a template's text, its names for special tokens, and the tokenizer's end ids."""


class TurnTokens:
    """Special tokens, and those others beside the vocabulary that the template writes.

    Args:
        tokenizer: The tokenizer that has them.
        ids: Their ids by spelling.
        markup: Those of them that an answer may have as well, such as <think>.
    """

    def __init__(
        self, tokenizer: BaseTokenizer, ids: Mapping[str, int], markup: Iterable[str] = ()
    ) -> None:
        self.tokenizer, self.ids, self.markup = tokenizer, dict(ids), frozenset(markup)
        self.pattern = any_of(self.ids)
        self.is_normalized = tokenizer.normalizes(self.ids)
        """Whether the tokenizer finds some of them in other spellings too."""
        self.starts = frozenset(text[0] for text in ids)
        self.stand_alone = False
        """Whether the template makes none of parts: none begins in a text without `starts`."""
        self.characters = sorted({c for text in ids for c in text if not c.isspace()} - {'"', "\\"})
        self.ends = sorted({c for text in ids for c in (text[0], text[-1])})

    @cached_property
    def names(self) -> dict[str, str]:
        """By spelling, what `respelled` calls it: nobody can type it, as nobody knows it."""
        secret = os.urandom(8).hex()
        return {text: f"\ue000{secret}{i:04x}\ue001" for i, text in enumerate(self.ids)}

    @cached_property
    def respelled(self) -> BaseTokenizer:
        """The tokenizer, but that it knows these tokens under their private names alone.

        It takes up to some seconds with a large vocabulary, so it is made when it is needed.
        Raises DataError where it cannot be made.
        """
        return self.tokenizer.renamed(self.names)

    @cached_property
    def _counted(self) -> frozenset[int]:
        return frozenset(self.ids.values()) - self.tokenizer.unknown_ids

    def among(self, ids: Sequence[int]) -> list[int]:
        """Those of some ids that are theirs.

        Args:
            ids: Any ids.

        Returns:
            The ids in order, without that of the unknown.
        """
        return [i for i in ids if i in self._counted]


def turn_tokens(template: ChatTemplate | None, tokenizer: BaseTokenizer) -> TurnTokens:
    """Finds the tokens that only a template may write.

    Args:
        template: The template, if there is one.
        tokenizer: The tokenizer.

    Returns:
        The tokens; the same object each time.
    """
    named = template.special_tokens if template is not None else {}
    source = template.source if template is not None else None
    key: Key = source, tuple(named.items()), tokenizer.end_ids
    if key not in tokenizer.turn_tokens:
        tokenizer.turn_tokens[key] = _find(template, tokenizer)
    return tokenizer.turn_tokens[key]


def _find(template: ChatTemplate | None, tokenizer: BaseTokenizer) -> TurnTokens:
    named = set(template.special_tokens.values()) if template is not None else set()
    ids: dict[str, int] = {}
    others: dict[str, int] = {}
    for text, (token_id, is_special) in tokenizer.added_tokens.items():
        ends_turns = is_special or token_id in tokenizer.end_ids or text in named
        if ends_turns and len(text.strip()) > 1:
            ids[text] = token_id
        elif is_special or _is_marker(text):
            others[text] = token_id
    for text in named:  # some vocabularies have them like any word
        found = tokenizer.id_of(text)
        if found is not None and _is_marker(text):
            ids.setdefault(text, found)
    markup: list[str] = []
    if template is not None and others:
        every, after_answers = _own_text(template)
        written = {text for text in others if text in every}
        ids |= {text: others[text] for text in written}
        markup = [t for t in written if t not in after_answers and _has_a_pair(t, others)]
    tokens = TurnTokens(tokenizer, ids, markup)
    if template is not None and not tokens.is_normalized:
        rests = (tokens.pattern.sub("", text) for text in template.own_texts)
        tokens.stand_alone = not any(c.isalnum() or c.isspace() for c in tokens.starts)
        tokens.stand_alone &= not any(c in rest for rest in rests for c in tokens.starts)
    return tokens


def _is_marker(text: str) -> bool:
    """Whether a token does not look like a word or white space."""
    text = text.strip()
    return len(text) > 1 and not (text[0].isalnum() or text[-1].isalnum())


def _has_a_pair(text: str, tokens: Container[str]) -> bool:
    """Whether a token is a tag such as <think> or </think>, and the tokens have both."""
    other = text.replace("</", "<", 1) if text.startswith("</") else text.replace("<", "</", 1)
    return other != text and other in tokens


def _own_text(template: ChatTemplate) -> tuple[str, str]:
    """What a template writes of itself: all of it, and what stands behind an answer."""
    user, answer = message("user", "\ue000"), message("assistant", ANSWER)
    system = message("system", "\ue000")
    every, after_answers = "", ""
    for messages in ([user], [system, user], [user, answer], [user, answer, user]):
        for begins in (False, True):
            try:
                text = template.render(messages, add_generation_prompt=begins)
            except DataError:  # it wants another order of roles
                continue
            every += text + "\n"
            if answer in messages and not begins:
                after_answers += text.rpartition(ANSWER)[2] + "\n"
    return every, after_answers


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Compiles a pattern that finds the longest of some texts.

    Args:
        texts: The texts.

    Returns:
        The pattern; without texts it finds nothing.
    """
    ordered = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or "(?!)")
