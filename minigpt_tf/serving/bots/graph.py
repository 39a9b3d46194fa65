"""Meta's Graph API, as far as a WhatsApp bot needs it: sending texts, and marking them as read."""

import asyncio
from typing import Any, Self

import httpx

from ...errors import ConfigError, MiniGPTError

TRIES = 5
"""A message that cannot be sent is tried so often, with longer and longer pauses between."""

LONGEST_PAUSE = 60.0
BUSY_CODES = (4, 80007, 130429, 131048, 131056)
"""Meta's codes of its limits of messages for each second, number, and pair of numbers."""


class GraphError(MiniGPTError):
    """Meta refuses a message, or cannot be reached."""


class GraphApi:
    """Sends from one phone number.

    Args:
        url: Of the API, with its version.
        phone_id: The number's id.
        token: Of the system user.
    """

    def __init__(self, url: str, phone_id: str, token: str) -> None:
        self.phone_id = phone_id
        self._url = f"{url.rstrip('/')}/{phone_id}"
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(headers=headers, timeout=20, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def check(self) -> None:
        """Asks for the number, to find a wrong token before there is a message.

        Raises:
            ConfigError: Meta refuses the token or the id, or cannot be reached.
        """
        try:
            response = await self._http.get(self._url)
        except httpx.HTTPError as error:
            raise ConfigError(f"{self._url}: cannot be reached: {error}") from None
        if response.status_code != 200:
            raise ConfigError(
                "Meta refuses the token or the phone's id: check --token-file or "
                f"MINIGPT_WHATSAPP_TOKEN, and --phone-id ({_reason(response)})"
            )

    async def send(self, receiver: str, text: str) -> None:
        """Sends a message of at most 4,096 characters.

        Args:
            receiver: The phone number.
            text: The message; nothing in it opens a preview.
        """
        body = {"preview_url": False, "body": text}
        await self._post({"to": receiver, "type": "text", "text": body, **INDIVIDUAL})

    async def mark_read(self, message_id: str) -> None:
        """Shows a message as read, and that an answer is being written. Not important."""
        body = {"status": "read", "message_id": message_id, "typing_indicator": {"type": "text"}}
        try:
            await self._http.post(f"{self._url}/messages", json=body | PRODUCT)
        except httpx.HTTPError:
            return

    async def _post(self, body: dict[str, Any]) -> None:
        reason = ""
        for attempt in range(TRIES):
            try:
                response = await self._http.post(f"{self._url}/messages", json=body | PRODUCT)
            except httpx.HTTPError as error:
                reason, pause = f"cannot be reached: {type(error).__name__}", 0.5 * 2**attempt
            else:
                if response.status_code == 200:
                    return
                reason = _reason(response)
                if not _is_passing(response):
                    break
                pause = _seconds(response.headers.get("retry-after"), 0.5 * 2**attempt)
            if attempt + 1 < TRIES:
                await asyncio.sleep(min(LONGEST_PAUSE, pause))
        raise GraphError(reason)


PRODUCT = {"messaging_product": "whatsapp"}
INDIVIDUAL = {"recipient_type": "individual"}


def _error(response: httpx.Response) -> dict[str, Any]:
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


def _reason(response: httpx.Response) -> str:
    return str(_error(response).get("message") or f"status {response.status_code}")


def _is_passing(response: httpx.Response) -> bool:
    status = response.status_code
    return status == 429 or status >= 500 or _error(response).get("code") in BUSY_CODES


def _seconds(header: str | None, otherwise: float) -> float:
    try:
        return float(header) if header else otherwise
    except ValueError:
        return otherwise
