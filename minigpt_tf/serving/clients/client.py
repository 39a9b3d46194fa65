"""A client of any API as OpenAI's: models, and answers that are streamed."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from ...config.bots import ClientConfig
from ...errors import MiniGPTError

Message = Mapping[str, str]
"""role and content."""

TRIES = 3
LONGEST_PAUSE = 30.0
"""A request that the server refuses because it is busy is sent so often, after so many seconds."""


class ApiError(MiniGPTError):
    """The API cannot be reached, or refuses a request.

    Args:
        message: What is wrong.
        code: The API's word for it; empty if it has none.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class ApiModel:
    """A model of the API."""

    name: str
    kind: str = "chat"
    """"chat" or "text": it continues texts."""
    defaults: Mapping[str, Any] | None = None
    """Of sampling, if the API says them."""


def models_of(listed: Mapping[str, Any], info: Mapping[str, Any]) -> list[ApiModel]:
    """The models that write text.

    Args:
        listed: The answer of /v1/models.
        info: The answer of /info, by which `minigpt serve` says what its models are; of another
            server empty.

    Returns:
        The models, in the API's order.
    """
    facts = {model["id"]: model for model in info.get("models") or []}
    facts |= {alias: facts[name] for alias, name in (info.get("aliases") or {}).items()}
    found = []
    for entry in listed.get("data") or []:
        known = facts.get(entry["id"], {})
        kind = known.get("kind", "chat")
        if kind != "classifier":
            found.append(ApiModel(entry["id"], kind, known.get("defaults")))
    return found


def info_url(url: str) -> str:
    """Where `minigpt serve` says what its models are.

    Args:
        url: Of the API, which ends in /v1.

    Returns:
        Another address of the same server.
    """
    return f"{url.rstrip('/').removesuffix('/v1')}/info"


def request_of(
    model: ApiModel, messages: Sequence[Message], settings: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The request of a streamed answer.

    Args:
        model: Who answers.
        messages: The conversation. A model that continues texts gets only the last one's text.
        settings: Fields such as temperature; those that are None are left out.

    Returns:
        The path below the API's address, and the body.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    body = {"model": model.name, **given, "stream": True}
    if model.kind == "text":
        return "completions", body | {"prompt": messages[-1]["content"]}
    return "chat/completions", body | {"messages": list(messages)}


def text_of(line: str) -> str | None:
    """The text in a line of an event stream.

    Args:
        line: Without its end.

    Returns:
        The text, perhaps empty; None if the stream is complete.

    Raises:
        ApiError: The server reports an error.

    Example:
        >>> text_of('data: {"choices": [{"delta": {"content": "Hi"}}]}')
        'Hi'
    """
    if not line.startswith("data:"):
        return ""  # a comment, or the end of an event
    data = line[5:].strip()
    if data == "[DONE]":
        return None
    event = _parsed(data)
    if event.get("error"):
        raise _error_of(event)
    choice = (event.get("choices") or [{}])[0]
    return (choice.get("delta") or {}).get("content") or choice.get("text") or ""


def _parsed(data: str | bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except ValueError:
        raise ApiError("the API's answer is not JSON") from None
    return parsed if isinstance(parsed, dict) else {}


def _error_of(body: Mapping[str, Any], status: int | None = None) -> ApiError:
    error = body.get("error")
    if isinstance(error, Mapping):
        return ApiError(str(error.get("message") or error), str(error.get("code") or ""))
    return ApiError(str(error) if error else f"the API answers with status {status}")


def refusal_of(status: int, content: bytes) -> ApiError:
    """The error of a response.

    Args:
        status: Of the response.
        content: Its body.

    Returns:
        The API's own sentence, if it has one.
    """
    try:
        return _error_of(_parsed(content), status)
    except ApiError:
        return ApiError(f"the API answers with status {status}")


def headers_of(key: str | None) -> dict[str, str]:
    """Headers with the API's key, if there is one."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def info_of(response: httpx.Response) -> dict[str, Any]:
    """The answer of /info; empty if the server is another one."""
    try:
        return _parsed(response.content) if response.status_code == 200 else {}
    except ApiError:
        return {}


class ApiClient:
    """Talks to an API; used as an asynchronous context.

    Args:
        config: Where the API is, and how long it may be silent.
        key: Its key.
    """

    def __init__(self, config: ClientConfig, key: str | None = None) -> None:
        self.url = config.api.rstrip("/")
        timeout = httpx.Timeout(config.api_seconds, connect=10)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self._http = httpx.AsyncClient(
            timeout=timeout, headers=headers_of(key), limits=limits, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def models(self) -> list[ApiModel]:
        """The models that write text."""
        try:
            listed = await self._http.get(f"{self.url}/models")
            info = await self._http.get(info_url(self.url))
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if listed.status_code != 200:
            raise refusal_of(listed.status_code, listed.content)
        return models_of(_parsed(listed.content), info_of(info))

    async def stream(
        self, model: ApiModel, messages: Sequence[Message], settings: Mapping[str, Any]
    ) -> AsyncGenerator[str, None]:
        """An answer as it is generated. Closing the iterator ends it on the server too."""
        path, body = request_of(model, messages, settings)
        for attempt in range(1, TRIES + 1):
            request = self._http.build_request("POST", f"{self.url}/{path}", json=body)
            try:
                response = await self._http.send(request, stream=True)
            except httpx.HTTPError as error:
                raise self._unreachable(error) from None
            try:
                if response.status_code in (429, 503) and attempt < TRIES:
                    pause = _pause_of(response)
                elif response.status_code != 200:
                    raise refusal_of(response.status_code, await response.aread())
                else:
                    async for text in self._texts(response):
                        yield text
                    return
            except httpx.HTTPError as error:
                raise self._unreachable(error) from None
            finally:
                await response.aclose()
            await asyncio.sleep(pause)

    @staticmethod
    async def _texts(response: httpx.Response) -> AsyncGenerator[str, None]:
        async for line in response.aiter_lines():
            text = text_of(line)
            if text is None:
                return
            if text:
                yield text
        raise ApiError("the answer broke off")

    def _unreachable(self, error: httpx.HTTPError) -> ApiError:
        reason = "it does not answer in time" if isinstance(error, httpx.TimeoutException) else ""
        return ApiError(f"{self.url}: {reason or 'it cannot be reached'}")


def _pause_of(response: httpx.Response) -> float:
    """Seconds to wait, as a server that is busy asks for."""
    try:
        return min(LONGEST_PAUSE, max(0.0, float(response.headers.get("retry-after", "1"))))
    except ValueError:  # a date
        return 1.0
