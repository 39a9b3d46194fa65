"""GET /health, /health/live, /health/ready and /metrics."""

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from ..answers.documents import ANSWERED, Health
from ..errors import json_response
from ..state import State, state_of

STUCK = 60.0
"""Seconds of one step of the engine after which it counts as stuck."""

router = APIRouter()


def is_live(state: State) -> bool:
    """Whether the engine's thread runs, or need not yet.

    Args:
        state: Of the server.

    Returns:
        False if it has ended, or does not get on.
    """
    return state.worker is None or state.worker.stuck_for() < STUCK


def _status(state: State) -> str:
    if not is_live(state):
        return "stuck"
    if state.draining:
        return "shutting down"
    return "ok" if state.ready else "loading"


@router.get("/health", response_model=None, responses=ANSWERED[Health])
@router.get("/health/ready", response_model=None, responses=ANSWERED[Health])
async def ready(request: Request) -> Response:
    """Whether requests are answered."""
    status = _status(state_of(request))
    return json_response({"status": status}, 200 if status == "ok" else 503)


@router.get("/health/live", response_model=None, responses=ANSWERED[Health])
async def live(request: Request) -> Response:
    """Whether the server gets on; if not, it must be started again."""
    state = state_of(request)
    return json_response({"status": _status(state)}, 200 if is_live(state) else 503)


@router.get("/metrics", response_model=None, include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(state_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)
