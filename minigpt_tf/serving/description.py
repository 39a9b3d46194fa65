"""/openapi.json: the API's description, with the names of the models that are served."""

import copy
from typing import Any

from fastapi import FastAPI

from .state import State

KINDS = {
    "ChatRequest": ("chat",),
    "ResponsesRequest": ("chat",),
    "CompletionRequest": ("chat", "text"),
    "TokenizeRequest": ("chat", "text"),
    "DetokenizeRequest": ("chat", "text"),
    "ClassifyRequest": ("classifier",),
}
"""Which kinds of models take a request."""


def add_description(app: FastAPI, state: State) -> None:
    """Makes the description name the models.

    Args:
        app: The application.
        state: Has the models, once they are loaded.
    """
    plain = app.openapi

    def described() -> dict[str, Any]:
        found = copy.deepcopy(plain())
        schemas = found["components"]["schemas"]
        for request, kinds in KINDS.items():
            names = [name for name, model in state.models.items() if model.kind in kinds]
            if names:
                schemas[request]["properties"]["model"]["enum"] = names
        (parameter,) = found["paths"]["/v1/models/{model}"]["get"]["parameters"]
        if state.models:
            parameter["schema"]["enum"] = list(state.models)
        return found

    app.openapi = described  # type: ignore[method-assign]
