"""POST /v1/completions."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..inference.prompt import Prompt
from .admission import CLOSED, Answers, ClientGone
from .documents import ANSWERED, Completion
from .errors import json_response
from .events import DONE, EventStream, event
from .logprobs import Token, TokensOfText, completion_form
from .prompts import require_generator, text_prompt
from .requests import CompletionRequest
from .sampling import sampling_of, wanted_length
from .scoring import PromptScores, prompt_scores, tokens_of_prompt
from .served import Served
from .state import call_of, new_id, state_of
from .tickets import Ticket
from .usage import facts_of, header_of, usage_of
from .waiting import in_thread, limited

router = APIRouter()


@router.post("/v1/completions", response_model=None, responses=ANSWERED[Completion])
async def completions(request: Request, body: CompletionRequest) -> Response:
    """Continues texts."""
    state, call = state_of(request), call_of(request)
    model = state.find(body.model)
    call.facts["model"] = model.name
    state.report_unknown(body.check())
    require_generator(model)
    limit = wanted_length(body, state.config.max_tokens)
    sampling = sampling_of(model, body, limit)  # before anything is encoded
    room = limited(model, limit) if body.truncate else None
    prompts, samplings = [], []
    for given in body.prompt:
        prompt = await in_thread(len(given), text_prompt, model, given, room)
        left = model.engine.config.context_length - len(prompt.ids)
        prompts.append(prompt)
        shorter = replace(sampling, max_new_tokens=left) if left < limit else sampling
        samplings.append(shorter)
    if state.config.log_contents:
        call.facts["prompts"] = [prompt.text for prompt in prompts]
    headers = header_of(dict.fromkeys(n for prompt in prompts for n in prompt.notices()))
    answers = Answers(state, call, model)
    scores: list[PromptScores] = []
    try:
        if body.echo and body.logprobs is not None:
            for prompt in prompts:
                turns = prompt_scores(model.engine, prompt.ids, body.logprobs)
                scores.append(await answers.work(request, turns))
        answers.ask(prompts, samplings, body.n or 1, body.logprobs or 0)
    except ClientGone:
        answers.close()
        return CLOSED
    except BaseException:
        answers.close()
        raise
    frames = CompletionFrames(model, body, answers, prompts, scores)
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


class CompletionFrames:
    """Writes the texts that continue prompts.

    Args:
        model: Who writes them.
        body: The request.
        answers: Of the request: n for each prompt.
        prompts: What they continue.
        scores: Of the prompts' tokens, where they are wanted.
    """

    def __init__(
        self,
        model: Served,
        body: CompletionRequest,
        answers: Answers,
        prompts: Sequence[Prompt],
        scores: Sequence[PromptScores],
    ) -> None:
        self._answers = answers
        self._logprobs = body.logprobs is not None
        self._usage = bool(body.stream_options and body.stream_options.include_usage)
        self._common = {
            "id": new_id("cmpl-"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": model.fingerprint,
        }
        self._head = json.dumps(self._common, ensure_ascii=False)[:-1].encode("utf-8", "replace")
        n = body.n or 1
        self._echoes: list[tuple[str, list[Token]]] = []
        for place, prompt in enumerate(prompts):
            echo: tuple[str, list[Token]] = ("", [])
            if body.echo:
                known = scores[place] if scores else None
                echo = tokens_of_prompt(model, prompt, known)
            self._echoes += [echo] * n
        self._given = [0] * len(answers.tickets)
        self._ended = [False] * len(answers.tickets)
        self._tokens = [TokensOfText(ticket, model.token_bytes) for ticket in answers.tickets]

    def whole(self, tickets: list[Ticket]) -> dict[str, Any]:
        """The texts as one object.

        Args:
            tickets: All have ended.

        Returns:
            OpenAI's Completion.
        """
        choices = []
        for index, ticket in enumerate(tickets):
            echoed, tokens = self._echoes[index]
            logprobs = None
            if self._logprobs:
                every = tokens + self._tokens[index].more(ticket.text)
                logprobs = completion_form(every, 0)
            choices.append(
                {
                    "index": index,
                    "text": echoed + ticket.text,
                    "logprobs": logprobs,
                    "finish_reason": ticket.finish_reason,
                }
            )
        return {**self._common, "choices": choices, "usage": usage_of(tickets)}

    def begin(self) -> bytes:
        """The prompts, where they are wanted."""
        chunks = []
        for index, (text, tokens) in enumerate(self._echoes):
            if text or tokens:
                logprobs = completion_form(tokens, 0) if self._logprobs else None
                chunks.append(self._chunk(index, text, logprobs))
        return b"".join(chunks)

    def more(self) -> bytes:
        """New text, and how texts ended."""
        return b"".join(self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        for index, ticket in enumerate(self._answers.tickets):
            if ticket.error is not None:
                raise ticket.error
            if self._ended[index]:
                continue
            given = self._given[index]
            text = ticket.text[given:]
            tokens = self._tokens[index].more(text) if self._logprobs else []
            if text or tokens or ticket.done:
                self._given[index] += len(text)
                self._ended[index] = ticket.done
                start = len(self._echoes[index][0]) + given
                logprobs = completion_form(tokens, start) if tokens else None
                finish = ticket.finish_reason if ticket.done else None
                yield self._chunk(index, text, logprobs, finish)

    def _chunk(
        self, index: int, text: str, logprobs: Any = None, finish: str | None = None
    ) -> bytes:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
        line = json.dumps(choice, ensure_ascii=False).encode("utf-8", "replace")
        return b'data: %s, "choices": [%s]}\n\n' % (self._head, line)

    def end(self) -> bytes:
        """The count of the tokens, if it is wanted, and the mark of the end."""
        tickets = self._answers.tickets
        self._answers.call.facts.update(facts_of(tickets))
        if not self._usage:
            return DONE
        return event({**self._common, "choices": [], "usage": usage_of(tickets)}) + DONE

    def failed(self, error: dict[str, Any]) -> bytes:
        """The error as an event.

        Args:
            error: OpenAI's object.

        Returns:
            Its bytes.
        """
        self._answers.call.facts.update(facts_of(self._answers.tickets))
        return event(error)
