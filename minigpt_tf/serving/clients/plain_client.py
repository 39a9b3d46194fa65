"""The same client without asyncio, for a script that runs from top to bottom."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from .client import (
    ApiError,
    ApiModel,
    Message,
    headers_of,
    info_of,
    info_url,
    models_of,
    refusal_of,
    request_of,
    text_of,
)

SECONDS = httpx.Timeout(300, connect=10)
"""How long the API may be silent."""


def read_models(url: str, key: str | None) -> list[ApiModel]:
    """The models that write text.

    Args:
        url: Of the API.
        key: Its key, if it has one.

    Returns:
        The models, in the API's order.

    Raises:
        ApiError: The API cannot be reached, or refuses.
    """
    url = url.rstrip("/")
    try:
        with httpx.Client(headers=headers_of(key), timeout=10, trust_env=False) as http:
            listed, info = http.get(f"{url}/models"), http.get(info_url(url))
    except httpx.HTTPError:
        raise ApiError(f"{url}: no answer. Is the server running?") from None
    if listed.status_code != 200:
        raise refusal_of(listed.status_code, listed.content)
    return models_of(listed.json(), info_of(info))


def read_answer(
    url: str,
    key: str | None,
    model: ApiModel,
    messages: Sequence[Message],
    settings: Mapping[str, Any],
    notice: Callable[[str], object],
) -> Iterator[str]:
    """An answer as it is generated. Closing the iterator ends it on the server too.

    Args:
        url: Of the API.
        key: Its key, if it has one.
        model: Who answers.
        messages: The conversation.
        settings: Fields such as temperature.
        notice: Called with what the server wants a person to know.

    Yields:
        Texts.

    Raises:
        ApiError: The API cannot be reached, refuses, or fails.
    """
    path, body = request_of(model, messages, settings)
    address = f"{url.rstrip('/')}/{path}"
    options: dict[str, Any] = {"headers": headers_of(key), "timeout": SECONDS, "trust_env": False}
    try:
        with httpx.stream("POST", address, json=body, **options) as response:
            if response.status_code != 200:
                raise refusal_of(response.status_code, response.read())
            if said := response.headers.get("x-notice"):
                notice(said)
            for line in response.iter_lines():
                if (text := text_of(line)) is None:
                    return
                yield text
    except httpx.HTTPError as error:
        raise ApiError(f"{url}: the answer broke off ({type(error).__name__})") from None
    raise ApiError("the answer broke off")
