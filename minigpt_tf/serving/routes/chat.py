"""POST /v1/chat/completions."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...retrieval.context import as_plain
from ..admission import CLOSED, Answers, ClientGone
from ..answers.documents import ANSWERED, ChatCompletion
from ..answers.events import EventStream
from ..answers.frames import Chunks
from ..answers.logprobs import Token, chat_form
from ..answers.usage import facts_of, header_of, usage_of
from ..engine.served import Served
from ..engine.tickets import Ticket
from ..errors import Refusal, as_bytes
from ..requests.bodies import ChatRequest
from ..requests.prompts import as_messages, require_generator
from ..requests.sampling import wanted_length
from ..state import call_of, state_of
from ..waiting import whole_response
from .asking import ask_conversation

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
        return await whole_response(state, frames, tickets, headers, bool(body.logprobs))


def _alternatives(body: ChatRequest) -> int:
    """How many most likely tokens are wanted at each place."""
    if body.top_logprobs is None:
        return 0
    if not body.logprobs:
        message = "top_logprobs: needs logprobs=true as well"
        raise Refusal(message, param="top_logprobs", code="needs_logprobs")
    return body.top_logprobs


class ChatFrames(Chunks):
    """Writes the answers to a conversation.

    Args:
        model: Who answers.
        body: The request.
        answers: Of the request.
    """

    def __init__(self, model: Served, body: ChatRequest, answers: Answers) -> None:
        logprobs = bool(body.logprobs)
        super().__init__(model, body, answers, "chat.completion.chunk", "chatcmpl-", logprobs)
        found = answers.found
        self._records = {} if found is None else {"records": as_plain(found)}
        """What the answers are from, in a field of its own; empty without records."""

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
                "logprobs": chat_form(tokens.more(ticket.text, True)) if self._logprobs else None,
                "finish_reason": ticket.finish_reason,
            }
            for index, (ticket, tokens) in enumerate(zip(tickets, self._tokens, strict=True))
        ]
        return {
            "object": "chat.completion",
            **self._common,
            "choices": choices,
            "usage": usage_of(tickets),
            **self._records,
        }

    def begin(self) -> bytes:
        """Who speaks."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        chunks = [self._delta(i, delta) for i in range(len(self._given))]
        if self._records:
            chunks[0] = (
                chunks[0].removesuffix(b"}\n\n") + b"," + as_bytes(self._records)[1:] + b"\n\n"
            )
        return b"".join(chunks)

    def _news(
        self, index: int, start: int, text: str, tokens: Sequence[Token], finish: str | None
    ) -> bytes:
        found = b""
        if text or tokens:
            found = self._delta(index, {"content": text}, chat_form(tokens) if tokens else None)
        if finish is not None:
            found += self._delta(index, {}, finish=finish)
        return found

    def _delta(
        self, index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None
    ) -> bytes:
        return self._chunk(
            {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        )
