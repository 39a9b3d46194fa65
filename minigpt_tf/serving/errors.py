"""Errors as OpenAI's API gives them: one object, with the sentence that the command line prints."""

import json
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_jsonable_python
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ..errors import ConfigError, MiniGPTError

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "server_error",
}
"""The error's type by its status; all others are invalid_request_error."""

ADVICE = {
    404: ("not_found", "no such path: the API's are in /openapi.json"),
    405: ("method_not_allowed", "this path does not have the method"),
}
"""Code and sentence of what the framework refuses."""


class Refusal(MiniGPTError):
    """A request that is not answered.

    Args:
        message: What is wrong, where, and what to do.
        status: Of the response.
        code: A word for programs.
        param: The field of the request.
        headers: Of the response.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param
        self.headers = headers or {}


def error_object(error: Exception, request_id: str = "") -> dict[str, Any]:
    """What a client gets for an error.

    Args:
        error: Any; of one that is not ours nothing is shown.
        request_id: To find it in the log.

    Returns:
        {"error": {"message", "type", "param", "code"}}
    """
    if not isinstance(error, MiniGPTError):
        message = f"the server failed: its log has request {request_id}"
        error = Refusal(message, 500, code="internal_error")
    status = getattr(error, "status", 500)
    return {
        "error": {
            "message": " ".join(str(error).split()),
            "type": TYPES.get(status, "invalid_request_error"),
            "param": getattr(error, "param", None),
            "code": getattr(error, "code", None),
        }
    }


def as_bytes(content: Any) -> bytes:
    """JSON in UTF-8.

    Args:
        content: Plain data; half of a surrogate pair in it becomes a question mark.

    Returns:
        The text.
    """
    return _JSON.encode(content).encode("utf-8", "replace")


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def json_response(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A response of JSON.

    Args:
        content: Plain data.
        status: Of the response.
        headers: Further ones.

    Returns:
        The response.
    """
    return Response(as_bytes(content), status, headers, media_type="application/json")


def refused(error: Exception, request_id: str = "") -> Response:
    """The response for an error.

    Args:
        error: As for `error_object`.
        request_id: As there.

    Returns:
        The response, with the status that the error has.
    """
    status = getattr(error, "status", 500)
    headers = getattr(error, "headers", None)
    return json_response(error_object(error, request_id), status, headers)


def of_setting(error: MiniGPTError, names: dict[str, str] | None = None) -> Refusal:
    """The refusal for a setting that is out of range, or a prompt that the model cannot take.

    Args:
        error: Such as ConfigError("top_p=2.0: must be ...").
        names: What the request calls settings that have another name in it.

    Returns:
        The same sentence, with the field named.
    """
    message = str(error)
    found = re.match(r"(\w+)[=:]", message)
    param = found[1] if found and isinstance(error, ConfigError) else None
    if param in (names or {}):
        message = (names or {})[param] + message.removeprefix(param)
        param = (names or {})[param]
    code = None if isinstance(error, ConfigError) else "unusable_input"
    return Refusal(message, param=param, code=code)


def path_of(location: tuple[int | str, ...]) -> str:
    """A place in a request as text.

    Args:
        location: Such as ("body", "messages", 0, "content").

    Returns:
        Such as "messages[0].content".
    """
    path = ""
    for step in location[1:] if location[:1] in (("body",), ("query",), ("path",)) else location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path.removeprefix(".")


def of_validation(error: RequestValidationError) -> Refusal:
    """The refusal for a body of the wrong form.

    Args:
        error: What the framework found.

    Returns:
        The first thing that is wrong, and where.
    """
    first = error.errors()[0]
    if first["type"] == "json_invalid" or not first.get("loc"):
        return Refusal("the body is not JSON", code="invalid_json")
    path, message = path_of(first["loc"]), first["msg"]
    if first["type"] == "missing":
        return Refusal(f"{path or 'body'}: is missing", param=path or None, code="missing_field")
    given = repr(to_jsonable_python(first.get("input"), fallback=str))[:60]
    message = message.removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return Refusal(f"{path or 'body'}={given}: {message}", param=path or None)


def add_handlers(app: FastAPI) -> None:
    """Makes every error of an application one of OpenAI's form.

    Args:
        app: The application.
    """

    def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, MiniGPTError)
        if not isinstance(error, Refusal):
            error = of_setting(error)
        return refused(error)

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return refused(of_validation(error))

    def of_framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code, message = ADVICE.get(error.status_code, (None, str(error.detail)))
        headers = dict(error.headers or {})
        return refused(Refusal(message, error.status_code, code=code, headers=headers))

    def bug(request: Request, error: Exception) -> Response:
        return refused(error, request.scope["minigpt.call"].id)

    app.add_exception_handler(Exception, bug)
    app.add_exception_handler(MiniGPTError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, of_framework)
