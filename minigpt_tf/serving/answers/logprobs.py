"""Log probabilities of an answer, in the forms that chat and completions have for them."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.tickets import Ticket
from ..engine.token_text import TokenBytes

LEAST = -9999.0
"""What JSON has for a logarithm of zero."""


@dataclass(frozen=True)
class Token:
    """A token of an answer or a prompt, with its probability."""

    data: bytes
    """What it adds to the text."""
    logprob: float | None
    """None for a token that was given: the first of a text."""
    others: list[tuple[bytes, float]]
    """The most likely tokens at its place."""


def text_of(data: bytes) -> str:
    """The bytes of a token as text.

    Args:
        data: Perhaps half a character.

    Returns:
        The text, with U+FFFD for what is not a character.
    """
    return data.decode("utf-8", "replace")


class TokensOfText:
    """The tokens of an answer, each with the text that it belongs to.

    A token is given once the text that it adds has been given: the text of a stop string is never
    given, and neither are its tokens.

    Args:
        ticket: The answer's.
        token_bytes: Of the model.
    """

    def __init__(self, ticket: Ticket, token_bytes: TokenBytes) -> None:
        self._ticket, self._token_bytes = ticket, token_bytes
        self._next, self._given = 0, 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._characters = 0

    def more(self, text: str, last: bool) -> list[Token]:
        """Tokens that belong to further text.

        Args:
            text: What follows the text of the calls before.
            last: Whether the answer has ended with it.

        Returns:
            The tokens, perhaps none.
        """
        self._given += len(text)
        answer = self._ticket.request.answer
        generation = self._ticket.generation
        every = last and generation is not None and generation.finish_reason != "stop"
        found = []
        while self._next < self._ticket.tokens:
            place = len(answer.ids) - len(answer.new_ids) + self._next
            data = self._token_bytes.of(answer.ids[max(0, place - 8) : place], answer.ids[place])
            before = self._decoder.getstate()
            characters = self._characters + len(self._decoder.decode(data))
            is_half = bool(self._decoder.getstate()[0])
            if not every and characters + is_half > self._given:
                self._decoder.setstate(before)
                break
            self._characters = characters
            found.append(self._token(self._next, place, data))
            self._next += 1
        return found

    def _token(self, index: int, place: int, data: bytes) -> Token:
        request = self._ticket.request
        answer = request.answer
        before = answer.ids[max(0, place - 8) : place]
        others = [
            (self._token_bytes.of(before, token_id), logprob)
            for token_id, logprob in request.alternatives.get(index, [])
        ]
        return Token(data, answer.logprobs[index], others)


def chat_form(tokens: Sequence[Token]) -> dict[str, Any]:
    """Log probabilities as chat completions have them.

    Args:
        tokens: In order.

    Returns:
        {"content": [...], "refusal": None}
    """

    def one(data: bytes, logprob: float | None) -> dict[str, Any]:
        value = LEAST if logprob is None else max(logprob, LEAST)
        return {"token": text_of(data), "logprob": value, "bytes": list(data)}

    content = [
        {
            **one(token.data, token.logprob),
            "top_logprobs": [one(data, logprob) for data, logprob in token.others],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def name_of(data: bytes) -> str:
    """The bytes of a token as OpenAI's completions write them.

    Args:
        data: Perhaps half a character.

    Returns:
        The text, or the bytes by number.
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _by_name(others: Sequence[tuple[bytes, float]]) -> dict[str, float] | None:
    return {name_of(d): max(value, LEAST) for d, value in reversed(others)} or None


def completion_form(tokens: Sequence[Token], start: int) -> dict[str, Any]:
    """Log probabilities as completions have them.

    Args:
        tokens: In order.
        start: Characters before the first of them.

    Returns:
        Four lists of the same length.
    """
    texts, offsets, wanted = [], [], False
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")
    for token in tokens:
        offsets.append(start)
        texts.append(name_of(token.data))
        start += len(decoder.decode(token.data))
        wanted = wanted or bool(token.others)
    return {
        "tokens": texts,
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_by_name(token.others) for token in tokens] if wanted else None,
        "text_offset": offsets,
    }
