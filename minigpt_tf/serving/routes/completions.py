"""POST /v1/completions."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...config import SamplingConfig
from ...inference.prompt import Prompt
from ..admission import CLOSED, Answers, ClientGone
from ..answers.documents import ANSWERED, Completion
from ..answers.events import EventStream
from ..answers.frames import Chunks
from ..answers.logprobs import Token, completion_form
from ..answers.scoring import PromptScores, prompt_scores, tokens_of_prompt
from ..answers.usage import facts_of, header_of, usage_of
from ..engine.served import Served
from ..engine.tickets import Ticket
from ..requests.bodies import CompletionRequest
from ..requests.prompts import require_generator, text_prompt
from ..requests.sampling import sampling_of, wanted_length
from ..state import call_of, state_of
from ..waiting import limited, off_loop, whole_response

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
    n = body.n or 1
    answers = Answers(state, call, model, len(body.prompt) * n)
    scores: list[PromptScores] = []
    try:
        prompts, samplings = await off_loop(state, _encoded, model, body, limit)
        if state.config.log_contents:
            call.facts["prompts"] = [prompt.text for prompt in prompts]
        if body.echo and body.logprobs is not None:
            for prompt in prompts:
                turns = prompt_scores(model.engine, prompt.ids, body.logprobs)
                scores.append(await answers.work(request, turns))
        answers.ask(prompts, samplings, n, body.logprobs or 0)
        write = functools.partial(CompletionFrames, model, body, answers, prompts, scores)
        frames = await off_loop(state, write) if body.echo else write()
    except ClientGone:
        answers.close()
        return CLOSED
    except BaseException:
        answers.close()
        raise
    headers = header_of(dict.fromkeys(n for prompt in prompts for n in prompt.notices()))
    if body.stream:
        return EventStream(answers, frames, headers)
    with answers:
        try:
            tickets = await answers.finished(request)
        except ClientGone:
            return CLOSED
        finally:
            call.facts.update(facts_of(answers.tickets))
        return await whole_response(state, frames, tickets, headers, body.logprobs is not None)


def _encoded(
    model: Served, body: CompletionRequest, limit: int
) -> tuple[list[Prompt], list[SamplingConfig]]:
    """The ids of the prompts, and how the answers to each are sampled."""
    sampling = sampling_of(model, body, limit)  # before anything is encoded
    room = limited(model, limit) if body.truncate else None
    prompts, samplings = [], []
    for given in body.prompt:
        prompt = text_prompt(model, given, room)
        left = model.engine.config.context_length - len(prompt.ids)
        prompts.append(prompt)
        shorter = replace(sampling, max_new_tokens=left) if left < limit else sampling
        samplings.append(shorter)
    return prompts, samplings


class CompletionFrames(Chunks):
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
        logprobs = body.logprobs is not None
        super().__init__(model, body, answers, "text_completion", "cmpl-", logprobs)
        self._echoes: list[tuple[str, list[Token]]] = []
        for place, prompt in enumerate(prompts):
            echo: tuple[str, list[Token]] = ("", [])
            if body.echo:
                known = scores[place] if scores else None
                echo = tokens_of_prompt(model, prompt, known)
            self._echoes += [echo] * (body.n or 1)
        self._begin = b"".join(
            self._choice(index, text, 0, tokens)
            for index, (text, tokens) in enumerate(self._echoes)
            if body.stream and (text or tokens)
        )

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
                every = tokens + self._tokens[index].more(ticket.text, True)
                logprobs = completion_form(every, 0)
            choices.append(
                {
                    "index": index,
                    "text": echoed + ticket.text,
                    "logprobs": logprobs,
                    "finish_reason": ticket.finish_reason,
                }
            )
        return {**self._object, "choices": choices, "usage": usage_of(tickets)}

    def begin(self) -> bytes:
        """The prompts, where they are wanted."""
        return self._begin

    def _news(
        self, index: int, start: int, text: str, tokens: Sequence[Token], finish: str | None
    ) -> bytes:
        return self._choice(index, text, len(self._echoes[index][0]) + start, tokens, finish)

    def _choice(
        self, index: int, text: str, start: int, tokens: Sequence[Token], finish: str | None = None
    ) -> bytes:
        logprobs = completion_form(tokens, start) if tokens else None
        return self._chunk(
            {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
        )
