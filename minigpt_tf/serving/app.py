"""The application: routes, guards, errors."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from .. import __version__
from . import chat, classify, completions, health, models, tokenizing
from .errors import add_handlers
from .guards import Guards
from .page_files import page_routes
from .state import State


def make_app(state: State) -> ASGIApp:
    """Puts the application together.

    Args:
        state: Of the server.

    Returns:
        What an ASGI server calls.
    """
    app = FastAPI(
        title="minigpt serve",
        version=__version__,
        summary="Models of minigpt_tf behind the API of OpenAI.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.minigpt = state
    for module in (chat, completions, classify, tokenizing, models, health):
        app.include_router(module.router)
    files = page_routes()
    app.router.routes += files
    add_handlers(app)
    return Guards(app, state, {route.path for route in files})
