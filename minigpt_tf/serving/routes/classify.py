"""POST /v1/classify: labels of texts, by a model that `finetune --method classify` made."""

import time
from collections.abc import Generator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...classification.classifier import Classifier
from ...records.truncation import Row
from ..admission import CLOSED, Answers, ClientGone
from ..answers.documents import ANSWERED, Labels
from ..errors import Refusal, json_response
from ..requests.bodies import ClassifyRequest
from ..state import call_of, new_id, state_of
from ..waiting import off_loop

router = APIRouter()

TURN = 64
"""Tokens of a text between two steps of other models' answers."""


@router.post("/v1/classify", response_model=None, responses=ANSWERED[Labels])
async def classify(request: Request, body: ClassifyRequest) -> Response:
    """Labels texts."""
    state, call = state_of(request), call_of(request)
    model = state.find(body.model)
    call.facts["model"] = model.name
    state.report_unknown(body.check())
    if model.classifier is None:
        raise Refusal(
            f"{model.name} is not a classifier: it writes texts, by /v1/chat/completions or "
            "/v1/completions",
            param="model",
            code="wrong_model",
        )
    if state.config.log_contents:
        call.facts["input"] = body.input
    with Answers(state, call, model) as answers:
        try:
            rows = await off_loop(state, _rows, model.classifier, body.input)
            data = await answers.work(request, _labels(model.classifier, body.input, rows))
        except ClientGone:
            return CLOSED
    return json_response(
        {
            "id": new_id("classify-"),
            "object": "list",
            "created": int(time.time()),
            "model": body.model,
            "data": data,
        }
    )


def _rows(classifier: Classifier, texts: list[str]) -> list[Row]:
    """The texts' tokens."""
    return [classifier.row(text) for text in texts]


def _labels(
    classifier: Classifier, texts: list[str], rows: list[Row]
) -> Generator[None, None, Any]:
    """The labels, a few tokens at a time."""
    data = []
    for index, (text, row) in enumerate(zip(texts, rows, strict=True)):
        for hidden in classifier.engine.hidden_in_turns(row.ids, TURN):  # noqa: B007  the last
            yield
        guess = classifier.guess(text, row, hidden)
        data.append(
            {
                "index": index,
                "label": guess.label,
                "probabilities": guess.probabilities,
                "dropped_tokens": guess.dropped,
            }
        )
    return data
