"""The objects that the API answers with, for its description in /openapi.json.

Responses are not checked against them as they are sent: no answer fails because of its form.
Tests check them.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Object(BaseModel):
    """An object of a response."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetails(Object):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorObject(Object):
    """An error, of any status from 400 on."""

    error: ErrorDetails


class TokenDetails(Object):
    """Of a prompt."""

    cached_tokens: int


class Usage(Object):
    """How many tokens a request took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: TokenDetails


class TopLogprob(Object):
    """A token that might have come."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token that came."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Object):
    """Of an answer."""

    content: list[TokenLogprob]
    refusal: None


class AssistantMessage(Object):
    """An answer."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Object):
    """One of the answers."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]


class RecordEntry(Object):
    """An entry of the server's records that the model saw."""

    source: str
    text: str
    score: float


class ChatCompletion(Object):
    """The answers to a conversation. `records` is there where the model has records."""

    object: Literal["chat.completion"]
    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    records: list[RecordEntry] = []


class CompletionLogprobs(Object):
    """Of a text."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(Object):
    """One of the texts."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(Object):
    """The texts that continue the prompts."""

    object: Literal["text_completion"]
    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage


class Response(BaseModel):
    """The answer to POST /v1/responses, as OpenAI's SDKs know it."""

    object: Literal["response"]
    id: str
    status: Literal["completed", "incomplete", "in_progress", "failed"]
    output: list[dict[str, Any]]


class Model(Object):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Object):
    """All of them."""

    object: Literal["list"]
    data: list[Model]


class Tokens(Object):
    """A text as token ids."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(Object):
    """The text of token ids."""

    prompt: str


class Label(Object):
    """What a classifier says of a text."""

    index: int
    label: str
    probabilities: dict[str, float]
    dropped_tokens: int


class Labels(Object):
    """What it says of all texts."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[Label]


class Health(Object):
    """How the server is."""

    status: str


_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorObject, "description": text}
    for status, text in {
        400: "The request is wrong",
        401: "The API key is missing or wrong",
        403: "The host or the web site is not allowed",
        404: "There is no such model",
        408: "The body took too long",
        413: "The body is too large",
        415: "The body is not JSON",
        429: "The API key's limit is reached",
        500: "The server failed",
        503: "The server is busy, loading or shutting down",
        504: "The answer took too long",
    }.items()
}
_ERRORS[422] = {"model": ErrorObject, "description": "Not used: it is 400"}


class _Answered(dict[type[BaseModel], dict[int | str, dict[str, Any]]]):
    """The responses of a route by the object it answers with."""

    def __missing__(self, kind: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
        streams = kind in (ChatCompletion, Completion, Response)
        content: dict[str, Any] = {"text/event-stream": {}}
        extra = {"content": content} if streams else {}
        self[kind] = {200: {"model": kind, "description": "The answer", **extra}, **_ERRORS}
        return self[kind]


ANSWERED = _Answered()
"""The responses of a route by the object it answers with."""
