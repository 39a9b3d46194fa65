"""OpenAI's own client, sync and async: each object is one of its types, and no field is more."""

import asyncio

import httpx
import pytest

openai = pytest.importorskip("openai")

from openai.types import Completion, Model  # noqa: E402
from openai.types.chat import ChatCompletion, ChatCompletionChunk  # noqa: E402
from openai.types.responses import Response  # noqa: E402
from pydantic import BaseModel  # noqa: E402

USER = [{"role": "user", "content": "who is Hardy"}]
SETTINGS = {"model": "talk", "temperature": 1.1, "seed": 3}


def strict(value, where=""):
    """Checks that an object has no field that its type does not declare, all the way down."""
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{where}: {type(value).__name__}: {value.model_extra}"
        for name in type(value).model_fields:
            strict(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for item in value:
            strict(item, where)
    elif isinstance(value, dict):
        strict(list(value.values()), where)
    return value


def checked(kind, value):
    """The same, and that it is valid as it came: strictly, without a guess at any type."""
    sent = value.model_dump_json(exclude_unset=True)
    return strict(kind.model_validate_json(sent, strict=True))


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_models(client):
    names = [checked(Model, model).id for model in client.models.list()]
    assert names == ["talk", "words", "gpt-4o"]
    assert checked(Model, client.models.retrieve("words")).object == "model"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("none")
    assert error.value.code == "model_not_found"


def test_chat(client, server):
    options = {"n": 2, "stop": ["zz"], "max_completion_tokens": 12, "logit_bias": {"5": -1}}
    answer = client.chat.completions.create(
        messages=USER, logprobs=True, top_logprobs=5, **options, **SETTINGS
    )
    checked(ChatCompletion, answer)
    chunks = client.chat.completions.create(
        messages=USER,
        logprobs=True,
        top_logprobs=5,
        stream=True,
        stream_options={"include_usage": True},
        **options,
        **SETTINGS,
    )
    texts, logprobs = ["", ""], [[], []]
    for chunk in chunks:
        checked(ChatCompletionChunk, chunk)
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            logprobs[choice.index] += choice.logprobs.content if choice.logprobs else []
    assert texts == [choice.message.content for choice in answer.choices]
    assert logprobs == [choice.logprobs.content for choice in answer.choices]
    details = {"prompt_tokens_details": None}
    used, wanted = chunk.usage.model_copy(update=details), answer.usage.model_copy(update=details)
    assert used == wanted


def test_completions(client, server):
    ids = server.post("/tokenize", model="talk", prompt="who is").json()["tokens"]
    for prompt, more in (
        ("who is", {"echo": True}),
        (["who is", "he"], {"logprobs": 2}),
        (ids, {"logprobs": 0}),
        ([ids, ids], {"echo": True, "stop": "zz"}),
    ):
        settings = {"prompt": prompt, "max_tokens": 4, **more, **SETTINGS}
        answer = client.completions.create(**settings)
        checked(Completion, answer)
        chunks = client.completions.create(stream=True, **settings)
        texts = [""] * len(answer.choices)
        for chunk in chunks:
            strict(chunk)  # their type has no null for a text that has not ended, OpenAI sends it
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        assert texts == [choice.text for choice in answer.choices]


def test_responses(client, server):
    settings = {"model": "talk", "temperature": 0, "max_output_tokens": 8}
    answer = client.responses.create(input="who is Hardy", instructions="Be short.", **settings)
    checked(Response, answer)
    assert answer.status == "incomplete" and answer.usage.output_tokens == 8
    said = [{"role": "developer", "content": "Be short."}, *USER]
    assert answer.output_text == server.say(messages=said, temperature=0, max_tokens=8)
    again = client.responses.create(input=said, store=False, **settings)
    assert again.output_text == answer.output_text
    turns = [*said, {"role": "assistant", "content": [{"type": "output_text", "text": "a"}]}, *USER]
    checked(Response, client.responses.create(input=turns, **settings))
    with client.responses.stream(input=said, **settings) as stream:
        kinds, text = [], ""
        for event in stream:
            strict(event)
            kinds.append(event.type)
            text += event.delta if event.type == "response.output_text.delta" else ""
    assert text == answer.output_text == event.response.output_text
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.incomplete"


def test_raw_events_of_responses_are_strict(client):
    events = client.responses.create(
        input="who is Hardy", model="talk", max_output_tokens=5, stream=True
    )
    numbers = []
    for event in events:
        strict(type(event).model_validate_json(event.model_dump_json(exclude_unset=True)))
        numbers.append(event.sequence_number)
    assert numbers == list(range(len(numbers)))


def test_what_responses_do_not_have(client, server):
    for settings in (
        {"previous_response_id": "resp_1"},
        {"tools": [{"type": "web_search"}]},
        {"text": {"format": {"type": "json_object"}}},
        {"input": [{"type": "function_call_output", "call_id": "a", "output": "b"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]},
    ):
        with pytest.raises(openai.BadRequestError) as error:
            client.responses.create(**{"model": "talk", "input": "a", **settings})
        assert error.value.param in settings


def test_errors_are_the_client_s(client):
    def create(**settings):
        body = {"model": "talk", "messages": USER, **settings}
        client.chat.completions.create(**body)

    with pytest.raises(openai.BadRequestError) as error:
        create(top_p=3)
    assert error.value.param == "top_p"
    with pytest.raises(openai.BadRequestError) as error:
        create(messages=[{"role": "user", "content": "a " * 999}], stream=True)
    assert error.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as error:
        create(model="none")
    assert error.value.code == "model_not_found"


def test_raw_responses_have_an_id(client):
    raw = client.chat.completions.with_raw_response.create(messages=USER, max_tokens=1, **SETTINGS)
    assert raw.headers["x-request-id"] == raw.parse()._request_id


def test_many_at_once(server):
    """The async client: 12 at once give what each gives alone."""

    async def ask(client, seed):
        stream = await client.chat.completions.create(
            model="talk", messages=USER, seed=seed, max_tokens=15, temperature=1.2, stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            return await asyncio.gather(*(ask(client, seed) for seed in range(12)))

    texts = asyncio.run(all_of_them())
    alone = [server.say(seed=seed, max_tokens=15, temperature=1.2) for seed in range(12)]
    assert texts == alone


def test_the_calls_of_a_web_interface(server):
    """As open-webui makes them: fields of others, and no error that is not JSON."""
    body = {
        "model": "talk",
        "stream": True,
        "stream_options": {"include_usage": True},
        "reasoning": {"effort": "low"},
        "max_tokens": 3,
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}],
            }
        ],
    }
    assert server.stream("/v1/chat/completions", headers={"Authorization": "Bearer x"}, **body)
    found = httpx.post(f"{server.url}/v1/chat/completions", json={**body, "model": "none"})
    assert found.status_code == 404 and found.headers["content-type"] == "application/json"
