"""A conversation -> token ids, so that no message becomes a turn of its own.

A chat template writes tokens such as <|im_end|> around messages. A message that spells such a token
must stay text: else whoever talks to a model ends a turn and begins another, as the system or as
the assistant. So a conversation is written twice: as it is, and with private characters in the
messages, in place of those that these tokens consist of. The tokens that the second text still has
are the template's own.

Where the first text has no others, it is encoded as it stands: the ids are those of transformers.
Else the template's own tokens get names that nobody can type, and a tokenizer that knows them under
these names alone encodes all other spellings as text.
"""

import functools
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from ..errors import DataError
from .base_tokenizer import BaseTokenizer
from .chat_template import ChatTemplate, Message
from .turn_tokens import TurnTokens, any_of, turn_tokens

ROLES = frozenset(
    {"system", "user", "assistant", "tool", "developer", "function", "ipython", "model", "human"}
    | {"gpt", "bot", "observation", "context", "environment", "tool_response", "documents"}
)
"""What templates may write into a token, as in '<|' + role + '|>'. Any other role is user text."""

TYPES = frozenset({"text", "function", "object", "string", "integer", "number", "array", "boolean"})
"""Values of "type" that templates ask for."""

PRIVATE = range(0xE010, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE)
"""Characters without a meaning."""


@dataclass(frozen=True)
class Written:
    """A conversation as a template writes it."""

    text: str
    """As people read it."""
    source: str
    """What `tokenizer` encodes: the same, perhaps with other names of the template's own tokens."""
    tokenizer: BaseTokenizer
    spelled: tuple[str, ...] = ()
    """Tokens that somebody spelled, and that stay text."""

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """The token ids (T,), int32."""
        return self.tokenizer.encode(self.source)


def write_turns(
    template: ChatTemplate,
    messages: Sequence[Message],
    tokenizer: BaseTokenizer,
    *,
    add_generation_prompt: bool,
    respell: bool = False,
    **values: Any,
) -> Written:
    """Writes a conversation for a tokenizer. Messages stay text, whatever they spell.

    Args:
        template: Writes the conversation.
        messages: {"role": ..., "content": ...} each.
        tokenizer: Encodes it.
        add_generation_prompt: End where the assistant's next answer begins.
        respell: Use the private names in any case, as for a part of a conversation that needs them.
        values: What else the template may ask for, such as `tools`: user text as well.

    Returns:
        The text, and what gives its ids.

    Raises:
        DataError: The template rejects the messages, or a token's spelling cannot be kept as text.

    Example:
        >>> from minigpt_tf.text.chat_template import ChatTemplate, message
        >>> from minigpt_tf.text.tokenizers import CharTokenizer
        >>> template = ChatTemplate("{{ messages[0].role }}: {{ messages[0].content }}")
        >>> said = [message("user", "hi")]
        >>> written = write_turns(template, said, CharTokenizer("hi"), add_generation_prompt=True)
        >>> written.text, written.ids.tolist()
        ('user: hi', [0, 1])
    """
    write = functools.partial(
        template.render, add_generation_prompt=add_generation_prompt, now=time.time()
    )
    text = write(messages, **values)
    tokens = turn_tokens(template, tokenizer)
    if not tokens.ids:
        return Written(text, text, tokenizer)
    said = {"messages": list(messages), **values}
    as_it_is = Written(text, text, tokenizer)
    if tokens.stand_alone and not respell and not _has_any(said, tokens.starts):
        return as_it_is
    hidden, marks = _hide(said, text, write, template, tokens)
    plain, own = marks.shown(hidden), list(tokens.pattern.finditer(hidden))
    ids = tokens.among([tokens.ids[item[0]] for item in own])
    if plain == text:
        places = [item.span() for item in tokens.pattern.finditer(text)]
        harmless = places == [item.span() for item in own]
    else:  # a message decides what the template writes
        harmless = tokens.pattern.findall(text) == [item[0] for item in own]
    if harmless and tokens.is_normalized:
        harmless = tokens.among(as_it_is.ids.tolist()) == ids
    if harmless and not respell:
        return as_it_is
    spelled = Counter(tokens.pattern.findall(plain)) - Counter(item[0] for item in own)
    source = marks.shown(tokens.pattern.sub(lambda item: tokens.names[item[0]], hidden))
    written = Written(plain, source, tokens.respelled, tuple(spelled))
    if tokens.among(written.ids.tolist()) != ids:
        raise _not_text(spelled)
    return written


def tokenizer_of_text(tokenizer: BaseTokenizer, text: str) -> BaseTokenizer:
    """What encodes a text that no template wrote, so that none of its ids is a special token's.

    Args:
        tokenizer: The tokenizer of the model.
        text: What somebody said or wrote.

    Returns:
        The tokenizer itself, but for a text that spells special tokens.

    Raises:
        DataError: The tokenizer cannot write what the text spells.
    """
    tokens = turn_tokens(None, tokenizer)
    spelled = tokens.pattern.findall(text)
    if not spelled and not (tokens.is_normalized and tokens.among(tokenizer.encode(text).tolist())):
        return tokenizer
    if tokens.among(tokens.respelled.encode(text).tolist()):
        raise _not_text(spelled)
    return tokens.respelled


def encode_text(tokenizer: BaseTokenizer, text: str) -> np.ndarray:
    """The ids of a text that no template wrote: none of them is a special token's.

    Args:
        tokenizer: Encodes it.
        text: What somebody said or wrote.

    Returns:
        Int32 ids (T,).

    Raises:
        DataError: The tokenizer cannot write what the text spells.
    """
    return tokenizer_of_text(tokenizer, text).encode(text)


def _not_text(spelled: Iterable[str]) -> DataError:
    names = " or ".join(map(repr, islice(dict.fromkeys(spelled), 3)))
    return DataError(f"the tokenizer cannot write {names or 'a special token'} as text")


@dataclass(frozen=True)
class _Marks:
    """Private characters in place of others."""

    hiding: Mapping[int, str]
    showing: Mapping[int, str]
    kept: re.Pattern[str]
    """What is left as it stands, in one group."""
    kept_in_answers: re.Pattern[str]

    def shown(self, text: str) -> str:
        """A text as it would be without marks."""
        return text.translate(self.showing)

    def hidden(self, value: Any, role: str = "", key: str = "") -> Any:
        """Data with marks in all its texts."""
        if isinstance(value, str):
            if value in {"role": ROLES, "type": TYPES}.get(key, ()):
                return value
            kept = self.kept_in_answers if role in ("assistant", "model") else self.kept
            chunks = kept.split(value)  # every other one is kept
            chunks[::2] = [chunk.translate(self.hiding) for chunk in chunks[::2]]
            return "".join(chunks)
        if isinstance(value, Mapping):
            role = str(value.get("role", role))
            return {self._key(k): self.hidden(v, role, str(k)) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.hidden(item, role, key) for item in value]
        return value

    def _key(self, key: Any) -> Any:
        """A key is a name that the template asks for, unless it does not look like one."""
        is_text = isinstance(key, str) and not key.isidentifier()
        return key.translate(self.hiding) if is_text else key


def _hide(
    said: dict[str, Any], text: str, write: Any, template: ChatTemplate, tokens: TurnTokens
) -> tuple[str, _Marks]:
    """The conversation with marks in the messages, and the marks.

    First for all characters of the tokens. Where that changes what the template writes, as it looks
    into messages, for those characters alone with which tokens begin and end, and not within
    the texts that the template names.
    """
    named = [t for t in template.literals if not any(t in token for token in tokens.ids)]
    named = [t for t in named if not tokens.pattern.search(t)]
    free = _private(text + template.source + repr(said), len(tokens.characters) + len(tokens.ends))
    best: tuple[str, _Marks] | None = None
    for characters, kept in ((tokens.characters, []), (tokens.ends, named)):
        hiding = dict(zip(map(ord, characters), map(chr, free), strict=False))
        if len(hiding) < len(characters):
            raise DataError("the messages hold too many characters of private use")
        showing = {ord(mark): chr(code) for code, mark in hiding.items()}
        patterns = (any_of(texts) for texts in (kept, [*kept, *tokens.markup]))
        groups = [re.compile(f"({pattern.pattern})") for pattern in patterns]
        marks = _Marks(hiding, showing, *groups)
        values = marks.hidden(said)
        try:
            best = write(values.pop("messages"), marks=showing, **values), marks
        except DataError:  # the template rejects what it cannot read
            if best is None and kept is named:
                raise
            continue
        if marks.shown(best[0]) == text:
            break
    assert best is not None
    return best


def _has_any(value: Any, characters: Iterable[str]) -> bool:
    """Whether a text in some data has one of the characters."""
    if isinstance(value, str):
        return any(character in value for character in characters)
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        return any(_has_any(item, characters) for item in value)
    return False


def _private(used: str, count: int) -> list[int]:
    """So many private characters that a text does not have; fewer if there are not as many."""
    taken = set(map(ord, set(used)))
    return list(islice((code for code in chain(*PRIVATE) if code not in taken), count))
