"""POST /v1/responses: the newer form of a chat, for text; nothing of it is kept."""

import time
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response as HTTPResponse

from ...text.chat_template import message
from ..admission import CLOSED, Answers, ClientGone
from ..answers.documents import ANSWERED, Response
from ..answers.events import EventStream, event
from ..answers.usage import facts_of, header_of, usage_of
from ..errors import json_response
from ..requests.prompts import require_generator
from ..requests.responses_request import ResponsesRequest
from ..requests.sampling import wanted_length
from ..state import call_of, new_id, state_of
from .asking import ask_conversation

router = APIRouter()


@router.post("/v1/responses", response_model=None, responses=ANSWERED[Response])
async def create_response(request: Request, body: ResponsesRequest) -> HTTPResponse:
    """Answers a conversation in the form of the Responses API."""
    state, call = state_of(request), call_of(request)
    model = state.find(body.model)
    call.facts["model"] = model.name
    state.report_unknown(body.check())
    require_generator(model)
    said = [("system", body.instructions)] if body.instructions else []
    said += [("system" if role == "developer" else role, text) for role, text in body.input]
    answers, prompt = await ask_conversation(
        request,
        model,
        body,
        [message(role, text) for role, text in said],
        wanted_length(body, state.config.max_tokens),
        truncate=body.truncation == "auto",
    )
    frames = ResponseFrames(body, answers)
    headers = header_of(prompt.notices())
    if body.stream:
        return EventStream(answers, frames, headers)
    with answers:
        try:
            await answers.finished(request)
        except ClientGone:
            return CLOSED
        finally:
            call.facts.update(facts_of(answers.tickets))
        return json_response(frames.whole(), headers=headers)


class ResponseFrames:
    """Writes an answer as the events of the Responses API.

    Args:
        body: The request.
        answers: Of the request: one.
    """

    def __init__(self, body: ResponsesRequest, answers: Answers) -> None:
        self._body, self._answers = body, answers
        (self._ticket,) = answers.tickets
        self._id, self._message_id = new_id("resp_"), new_id("msg_")
        self._created = time.time()
        self._number, self._given = 0, 0
        self.behind = False

    def whole(self, status: str = "", error: dict[str, Any] | None = None) -> dict[str, Any]:
        """The response as one object.

        Args:
            status: Of it (unset: that of an answer that has ended).
            error: What ended it, if it failed.

        Returns:
            OpenAI's Response.
        """
        body, sampling = self._body, self._ticket.request.answer.sampling
        stopped = self._ticket.finish_reason == "stop"
        status = status or ("completed" if stopped else "incomplete")
        limit = {"reason": "max_output_tokens"} if status == "incomplete" else None
        ended = status in ("completed", "incomplete")
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": error,
            "incomplete_details": limit,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "model": body.model,
            "output": [self._message(status)] if ended else [],
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "temperature": 0.0 if sampling.greedy else sampling.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": sampling.top_p,
            "truncation": body.truncation or "disabled",
            "usage": self._usage() if ended else None,
            "metadata": body.metadata if isinstance(body.metadata, dict) else {},
        }

    def _usage(self) -> dict[str, Any]:
        counts = usage_of([self._ticket])
        cached = counts["prompt_tokens_details"]["cached_tokens"]
        return {
            "input_tokens": counts["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": counts["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counts["total_tokens"],
        }

    def _content(self, text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _message(self, status: str) -> dict[str, Any]:
        content = [] if status == "in_progress" else [self._content(self._ticket.text)]
        return {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _event(self, kind: str, **values: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return event({"type": kind, "sequence_number": number, **values}, kind)

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._message_id, "output_index": 0, "content_index": 0}

    def begin(self) -> bytes:
        """What stands before all text."""
        response = self.whole("in_progress")
        return b"".join(
            [
                self._event("response.created", response=response),
                self._event("response.in_progress", response=response),
                self._event(
                    "response.output_item.added", output_index=0, item=self._message("in_progress")
                ),
                self._event("response.content_part.added", **self._place(), part=self._content("")),
            ]
        )

    def more(self) -> bytes:
        """New text."""
        if self._ticket.error is not None:
            raise self._ticket.error
        text = self._ticket.text[self._given :]
        self._given += len(text)
        if not text:
            return b""
        return self._event("response.output_text.delta", **self._place(), delta=text, logprobs=[])

    def end(self) -> bytes:
        """The whole text once more, in the forms that clients look at."""
        self._answers.call.facts.update(facts_of([self._ticket]))
        return b"".join(self._ends())

    def _ends(self) -> Iterator[bytes]:
        response, text = self.whole(), self._ticket.text
        status = response["status"]
        yield self._event("response.output_text.done", **self._place(), text=text, logprobs=[])
        yield self._event("response.content_part.done", **self._place(), part=self._content(text))
        yield self._event("response.output_item.done", output_index=0, item=self._message(status))
        yield self._event(f"response.{status}", response=response)

    def failed(self, error: dict[str, Any]) -> bytes:
        """The error as the events that clients know.

        Args:
            error: OpenAI's object.

        Returns:
            Their bytes.
        """
        self._answers.call.facts.update(facts_of([self._ticket]))
        details = error["error"]
        why = {"code": "server_error", "message": details["message"]}
        named = {name: details[name] for name in ("message", "code", "param")}
        return self._event("error", **named) + self._event(
            "response.failed", response=self.whole("failed", why)
        )
