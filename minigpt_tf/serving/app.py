"""The application: routes, guards, errors."""

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from .. import __version__
from .description import add_description
from .errors import add_handlers
from .guards import Guards
from .page_files import page_routes
from .routes import chat, classify, completions, health, models, responses, tokenizing
from .state import State

ROUTES = (chat, completions, responses, classify, tokenizing, models, health)
"""The modules that have routes."""


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
    add_description(app, state)
    for module in ROUTES:
        app.include_router(module.router)
    files = page_routes()
    app.router.routes += files
    add_handlers(app)
    posts = {
        route.path
        for module in ROUTES
        for route in module.router.routes
        if isinstance(route, APIRoute) and "POST" in (route.methods or ())
    }
    return Guards(app, state, posts, {route.path for route in files})
