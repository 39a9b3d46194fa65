"""As much of Meta's Graph API as the WhatsApp bot uses, and Meta's side of a webhook."""

import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOKEN, SECRET, VERIFY, PHONE = "EAAtoken", "app-secret", "verify-word", "1055"


@dataclass
class FakeGraph:
    """What the bot has sent."""

    sent: list[tuple[float, dict]] = field(default_factory=list)
    faults: list[object] = field(default_factory=list)
    """For the next texts: a status, or "drop"."""
    url: str = ""
    webhook: str = ""

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/{phone}", self.about),
                Route("/{phone}/messages", self.send, methods=["POST"]),
            ]
        )

    @staticmethod
    def refused(request: Request) -> Response | None:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            error = {"message": "Invalid OAuth access token.", "code": 190}
            return JSONResponse({"error": error}, 401)
        return None

    async def about(self, request: Request) -> Response:
        return self.refused(request) or JSONResponse({"id": request.path_params["phone"]})

    async def send(self, request: Request) -> Response:
        if refused := self.refused(request):
            return refused
        body = await request.json()
        self.sent.append((time.monotonic(), body))
        if body.get("type") == "text" and self.faults:
            fault = self.faults.pop(0)
            self.sent.pop()
            if fault == "drop":
                return Response(b"", headers={"content-length": "9"})
            error = {"message": "limit hit", "code": 130429 if fault == 400 else 1}
            return JSONResponse({"error": error}, fault, headers={"retry-after": "0.1"})
        return JSONResponse({"messages": [{"id": "wamid.x"}]})

    def texts(self, receiver: str = "4917") -> list[str]:
        return [
            body["text"]["body"]
            for _, body in self.sent
            if body.get("type") == "text" and body["to"] == receiver
        ]

    def write(self, text: str | None, wamid: str, sender: str = "4917", phone: str = PHONE, **more):
        """A user writes: Meta calls the webhook. Gives its response."""
        message = {"from": sender, "id": wamid, "timestamp": "1", "type": "text"}
        message |= {"text": {"body": text}} if text is not None else {"type": "image", "image": {}}
        value = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "1", "phone_number_id": phone},
            "messages": [message],
            "statuses": [{"id": "wamid.old", "status": "delivered"}],
        }
        entry = {"id": "0", "changes": [{"field": "messages", "value": value}]}
        body = json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()
        return self.call(body, **more)

    def call(self, body: bytes, signature: str | None = None):
        made = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": made if signature is None else signature}
        return httpx.post(self.webhook, content=body, headers=headers, timeout=10)
