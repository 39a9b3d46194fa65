"""The answers of a request as chunks of a stream: what chat and completions have in common."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ..admission import Answers
from ..engine.served import Served
from ..engine.tickets import Ticket
from ..errors import as_bytes
from ..requests.bodies import Generated
from ..state import new_id
from .events import DONE, event
from .logprobs import Token, TokensOfText
from .usage import facts_of, usage_of

SCORED_CHARACTERS, MOST_BYTES = 500, 2**16
"""Of an answer with log probabilities, and of all answers together, that are written before the
event loop does something else."""


class Chunks(ABC):
    """Writes answers, each a choice with an index.

    Args:
        model: Who answers.
        body: The request.
        answers: Of the request.
        name: Of the objects.
        prefix: Of their ids.
        logprobs: Whether log probabilities are wanted.
    """

    def __init__(
        self,
        model: Served,
        body: Generated,
        answers: Answers,
        name: str,
        prefix: str,
        logprobs: bool,
    ) -> None:
        self.behind = False
        """Whether `more` has left something for the next call."""
        self._answers, self._logprobs = answers, logprobs
        self._usage = bool(body.stream_options and body.stream_options.include_usage)
        self._common = {
            "id": new_id(prefix),
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": model.fingerprint,
        }
        self._object = {"object": name, **self._common}
        self._head = b"data: " + as_bytes(self._object)[:-1] + b',"choices":['
        self._given = [0] * len(answers.tickets)
        self._ended = [False] * len(answers.tickets)
        self._tokens = [TokensOfText(ticket, model.token_bytes) for ticket in answers.tickets]

    @abstractmethod
    def whole(self, tickets: list[Ticket]) -> dict[str, Any]:
        """The answers as one object.

        Args:
            tickets: All have ended.

        Returns:
            OpenAI's object.
        """

    @abstractmethod
    def begin(self) -> bytes:
        """What stands before all text."""

    @abstractmethod
    def _news(
        self, index: int, start: int, text: str, tokens: Sequence[Token], finish: str | None
    ) -> bytes:
        """The chunks for further text, from a character on, of the answer of an index; or for its
        end."""

    def more(self) -> bytes:
        """New text, and how answers ended. Raises what ended one."""
        found, self.behind = bytearray(), False
        for index, ticket in enumerate(self._answers.tickets):
            if ticket.error is not None:
                raise ticket.error
            if self._ended[index]:
                continue
            if len(found) >= MOST_BYTES:
                self.behind = True
                break
            found += self._more_of(index, ticket)
        return bytes(found)

    def _more_of(self, index: int, ticket: Ticket) -> bytes:
        given, tokens = self._given[index], list[Token]()
        text, ended = ticket.text[given:], ticket.done
        if self._logprobs:
            if len(text) > SCORED_CHARACTERS:
                text, ended, self.behind = text[:SCORED_CHARACTERS], False, True
            tokens = self._tokens[index].more(text, ended)
        if not (text or tokens or ended):
            return b""
        self._given[index] += len(text)
        self._ended[index] = ended
        return self._news(index, given, text, tokens, ticket.finish_reason if ended else None)

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return b"%s%s]}\n\n" % (self._head, as_bytes(choice))

    def end(self) -> bytes:
        """The count of the tokens, if it is wanted, and the mark of the end."""
        tickets = self._answers.tickets
        self._answers.call.facts.update(facts_of(tickets))
        if not self._usage:
            return DONE
        return event({**self._object, "choices": [], "usage": usage_of(tickets)}) + DONE

    def failed(self, error: dict[str, Any]) -> bytes:
        """The error as an event.

        Args:
            error: OpenAI's object.

        Returns:
            Its bytes.
        """
        self._answers.call.facts.update(facts_of(self._answers.tickets))
        return event(error)
