"""One line of JSON for each request, without what it says."""

import json
import logging
import time

from starlette.types import Scope

from .state import Call, State

LOGGER = logging.getLogger("minigpt_tf.requests")


def finish(state: State, scope: Scope, call: Call, status: int) -> None:
    """Logs and counts a request that has been answered.

    Args:
        state: Of the server.
        scope: Of the request.
        call: What is known of it.
        status: Of the response.
    """
    error = call.facts.pop("exception", None)
    if error is not None:
        logging.getLogger(__name__).error("request %s failed", call.id, exc_info=error)
    route = scope.get("route")
    path = getattr(route, "path", "other")
    model = call.facts.get("model", "unknown")
    state.metrics.requests.labels(path, model, call.key, str(status)).inc()
    if path.startswith("/health") or path == "/metrics":
        return  # asked all the time
    line = {
        "time": round(time.time(), 3),
        "id": call.id,
        "route": path,
        "method": scope["method"],
        "status": status,
        "key": call.key,
        "seconds": round(time.perf_counter() - call.began, 4),
        **call.facts,
    }
    LOGGER.info(json.dumps(line, ensure_ascii=False))
