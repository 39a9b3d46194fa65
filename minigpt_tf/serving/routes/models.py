"""GET /v1/models, /v1/models/{id} and /info."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ... import __version__
from ..answers.documents import ANSWERED, Model, ModelList
from ..engine.served import Served
from ..errors import json_response
from ..state import state_of

router = APIRouter()


def _described(name: str, model: Served) -> dict[str, Any]:
    owner = model.folder.resolve().parent.name or "minigpt"
    return {"id": name, "object": "model", "created": model.created, "owned_by": owner}


@router.get("/v1/models", response_model=None, responses=ANSWERED[ModelList])
async def list_models(request: Request) -> Response:
    """The models that are served, and their aliases."""
    models = state_of(request).models
    data = [_described(name, model) for name, model in models.items()]
    return json_response({"object": "list", "data": data})


@router.get("/v1/models/{model:path}", response_model=None, responses=ANSWERED[Model])
async def one_model(request: Request, model: str) -> Response:
    """One of them."""
    return json_response(_described(model, state_of(request).find(model)))


@router.get("/info", response_model=None, include_in_schema=False)
async def info(request: Request) -> Response:
    """What a page shows: kinds of models, defaults, labels."""
    state = state_of(request)
    own = {name: model for name, model in state.models.items() if name == model.name}
    return json_response(
        {
            "version": __version__,
            "ready": state.ready,
            "max_tokens": state.config.max_tokens,
            "models": [model.description() for model in own.values()],
            "aliases": {name: m.name for name, m in state.models.items() if name != m.name},
        }
    )
