"""POST /v1/chat/completions."""

import json
import time
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from .admission import CLOSED, Answers, ClientGone
from .asking import ask_conversation
from .documents import ANSWERED, ChatCompletion
from .errors import Refusal, json_response
from .events import DONE, EventStream, event
from .logprobs import TokensOfText, chat_form
from .prompts import as_messages, require_generator
from .requests import ChatRequest
from .sampling import wanted_length
from .served import Served
from .state import call_of, new_id, state_of
from .tickets import Ticket
from .usage import facts_of, header_of, usage_of

router = APIRouter()


@router.post("/v1/chat/completions", response_model=None, responses=ANSWERED[ChatCompletion])
async def chat_completions(request: Request, body: ChatRequest) -> Response:
    """Answers a conversation."""
    state, call = state_of(request), call_of(request)
    model = state.find(body.model)
    call.facts["model"] = model.name
    state.report_unknown(body.check())
    require_generator(model)
    alternatives = _alternatives(body)
    messages = as_messages(body.messages)
    answers, prompt = await ask_conversation(
        request,
        model,
        body,
        messages,
        wanted_length(body, state.config.max_tokens),
        truncate=bool(body.truncate),
        n=body.n or 1,
        alternatives=alternatives,
    )
    frames = ChatFrames(model, body, answers)
    headers = header_of(prompt.notices())
    if body.stream:
        return EventStream(answers, frames, headers)
    with answers:
        try:
            tickets = await answers.finished(request)
        except ClientGone:
            return CLOSED
        finally:
            call.facts.update(facts_of(answers.tickets))
        return json_response(frames.whole(tickets), headers=headers)


def _alternatives(body: ChatRequest) -> int:
    """How many most likely tokens are wanted at each place."""
    if body.top_logprobs is None:
        return 0
    if not body.logprobs:
        message = "top_logprobs: needs logprobs=true as well"
        raise Refusal(message, param="top_logprobs", code="needs_logprobs")
    return body.top_logprobs


class ChatFrames:
    """Writes the answers to a conversation.

    Args:
        model: Who answers.
        body: The request.
        answers: Of the request.
    """

    def __init__(self, model: Served, body: ChatRequest, answers: Answers) -> None:
        self._answers = answers
        self._logprobs = bool(body.logprobs)
        self._usage = bool(body.stream_options and body.stream_options.include_usage)
        self._common = {
            "id": new_id("chatcmpl-"),
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": model.fingerprint,
        }
        head = {"object": "chat.completion.chunk", **self._common}
        self._head = json.dumps(head, ensure_ascii=False)[:-1].encode("utf-8", "replace")
        self._given = [0] * len(answers.tickets)
        self._ended = [False] * len(answers.tickets)
        self._tokens = [TokensOfText(ticket, model.token_bytes) for ticket in answers.tickets]

    def whole(self, tickets: list[Ticket]) -> dict[str, Any]:
        """The answers as one object.

        Args:
            tickets: All have ended.

        Returns:
            OpenAI's ChatCompletion.
        """
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": ticket.text, "refusal": None},
                "logprobs": chat_form(tokens.more(ticket.text)) if self._logprobs else None,
                "finish_reason": ticket.finish_reason,
            }
            for index, (ticket, tokens) in enumerate(zip(tickets, self._tokens, strict=True))
        ]
        return {
            "object": "chat.completion",
            **self._common,
            "choices": choices,
            "usage": usage_of(tickets),
        }

    def begin(self) -> bytes:
        """Who speaks."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return b"".join(self._chunk(i, delta) for i in range(len(self._given)))

    def more(self) -> bytes:
        """New text, and how answers ended."""
        return b"".join(self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        for index, ticket in enumerate(self._answers.tickets):
            if ticket.error is not None:
                raise ticket.error
            if self._ended[index]:
                continue
            text = ticket.text[self._given[index] :]
            tokens = self._tokens[index].more(text) if self._logprobs else []
            if text or tokens:
                self._given[index] += len(text)
                yield self._chunk(index, {"content": text}, chat_form(tokens) if tokens else None)
            if ticket.done:
                self._ended[index] = True
                yield self._chunk(index, {}, finish=ticket.finish_reason)

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        text = json.dumps(choice, ensure_ascii=False).encode("utf-8", "replace")
        return b'data: %s, "choices": [%s]}\n\n' % (self._head, text)

    def end(self) -> bytes:
        """The count of the tokens, if it is wanted, and the mark of the end."""
        tickets = self._answers.tickets
        self._answers.call.facts.update(facts_of(tickets))
        if not self._usage:
            return DONE
        head = {"object": "chat.completion.chunk", **self._common}
        return event({**head, "choices": [], "usage": usage_of(tickets)}) + DONE

    def failed(self, error: dict[str, Any]) -> bytes:
        """The error as an event.

        Args:
            error: OpenAI's object.

        Returns:
            Its bytes.
        """
        self._answers.call.facts.update(facts_of(self._answers.tickets))
        return event(error)
