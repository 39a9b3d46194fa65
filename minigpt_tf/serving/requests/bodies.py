"""The requests of the API: their fields, and which of them are supported."""

from typing import Any, Literal

from pydantic import Field

from ...config.serving import MOST_CHOICES
from ...config.settings import LARGEST_INTEGER
from .fields import (
    MOST_MESSAGES,
    Bias,
    Body,
    Content,
    Int,
    Prompts,
    Stop,
    Text,
    Texts,
    extension,
    not_served,
    supported,
    without_effect,
)

MOST_ALTERNATIVES = 20
"""Of a token, with log probabilities."""
NO_TOOLS = "the models here call no tools"
NO_SCHEMAS = "answers are plain text"
LIMIT: dict[str, Any] = {"minimum": 0, "maximum": LARGEST_INTEGER}
"""Bounds of a number of tokens."""


class StreamOptions(Body):
    """What a stream has beside the answer."""

    include_usage: bool | None = supported(None, "a last chunk counts the tokens")
    include_obfuscation: bool | None = without_effect("there is nothing to hide")


class Sampled(Body):
    """How an answer is sampled: fields of several requests."""

    model: Text = supported(..., "name of a model, as /v1/models lists them")
    temperature: float | None = supported(
        None, "below 1 safer, above 1 wilder, 0 the most likely", minimum=0, maximum=1000
    )
    top_p: float | None = supported(
        None,
        "choose among the most likely tokens of this probability together",
        exclusiveMinimum=0,
        maximum=1,
    )
    top_k: Int | None = extension(None, "choose among so many tokens (0: all)", **LIMIT)
    min_p: float | None = extension(
        None, "drop tokens less likely than this fraction of the most likely", minimum=0, maximum=1
    )
    seed: Int | None = supported(
        None, "same seed, same text, whatever else is served; its lowest 31 bits count"
    )
    user: Any = without_effect("the API key says who asks")
    safety_identifier: Any = without_effect("the API key says who asks")
    prompt_cache_key: Any = without_effect("prompts of one API key share what they have in common")
    metadata: Any = without_effect("nothing is stored")
    store: Any = without_effect("nothing is stored")
    service_tier: Any = without_effect("all requests are served in the order they come")


class Generated(Sampled):
    """Fields of the two requests for text that have them in common."""

    stream: bool | None = supported(None, "send the answer as it comes")
    stream_options: StreamOptions | None = supported(None, "include_usage: count the tokens")
    stop: Stop = supported((), "texts before which the answer ends")
    n: Int | None = supported(
        None, "answers; the one at index k has seed + k", minimum=1, maximum=MOST_CHOICES
    )
    logit_bias: Bias = supported({}, "added to the logits of token ids")
    presence_penalty: float | None = supported(
        None, "lowers the logits of tokens that the answer has", minimum=-2, maximum=2
    )
    frequency_penalty: float | None = supported(
        None, "the same, times how often it has them", minimum=-2, maximum=2
    )
    repetition_penalty: float | None = extension(
        None, "divides the logits of tokens in prompt and answer", minimum=0.01, maximum=100
    )
    truncate: bool | None = extension(
        None, "drop the beginning of what is too long for the context, instead of refusing it"
    )


class ChatMessage(Body):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"] = supported(
        ..., "developer is system"
    )
    content: Content = supported(None, "a text, or a list of text parts")
    name: Any = without_effect("chat templates do not write names")
    refusal: Any = without_effect("an assistant's refusal is what it said")
    tool_calls: Any = not_served(NO_TOOLS, [])
    function_call: Any = not_served(NO_TOOLS)
    audio: Any = not_served("the models here read text alone")


class ChatRequest(Generated):
    """The body of POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(
        ...,
        min_length=1,
        max_length=MOST_MESSAGES,
        description="the conversation; a last message of the assistant is continued",
        json_schema_extra={"x-support": "supported"},
    )
    max_tokens: Int | None = supported(None, "length of the answer at most", **LIMIT)
    max_completion_tokens: Int | None = supported(None, "the same by its newer name", **LIMIT)
    logprobs: bool | None = supported(None, "log probability of each token of the answer")
    top_logprobs: Int | None = supported(
        None, "most likely tokens at each place", minimum=0, maximum=MOST_ALTERNATIVES
    )
    tools: Any = not_served(NO_TOOLS, [])
    tool_choice: Any = not_served(NO_TOOLS, "none", "auto")
    parallel_tool_calls: Any = without_effect(NO_TOOLS)
    functions: Any = not_served(NO_TOOLS, [])
    function_call: Any = not_served(NO_TOOLS, "none", "auto")
    response_format: Any = not_served(NO_SCHEMAS, {"type": "text"})
    modalities: Any = not_served(NO_SCHEMAS, ["text"], [])
    audio: Any = not_served(NO_SCHEMAS)
    prediction: Any = without_effect("guesses change the speed alone")
    reasoning_effort: Any = without_effect("the models here do not reason apart from the answer")
    verbosity: Any = without_effect("the models here have no such setting")
    web_search_options: Any = not_served("the server reaches no other machine")


class CompletionRequest(Generated):
    """The body of POST /v1/completions."""

    prompt: Prompts = supported([""], "a text, texts, token ids, or lists of them")
    max_tokens: Int | None = supported(None, "length of the answer at most", **LIMIT)
    max_completion_tokens: Int | None = extension(None, "the same by chat's name", **LIMIT)
    echo: bool | None = supported(None, "begin the text with the prompt")
    logprobs: Int | None = supported(
        None,
        "log probabilities, and so many most likely tokens at each place; with echo the prompt's",
        minimum=0,
        maximum=MOST_ALTERNATIVES,
    )
    best_of: Any = not_served("n answers are generated, and all are returned", 1)
    suffix: Any = not_served("the models here continue a text at its end", "")


class TokenizeRequest(Body):
    """The body of POST /tokenize."""

    model: Text = supported(..., "name of a model")
    prompt: Text | None = extension(None, "a text")
    messages: list[ChatMessage] | None = Field(
        None,
        min_length=1,
        max_length=MOST_MESSAGES,
        description="or a conversation",
        json_schema_extra={"x-support": "extension"},
    )
    add_special_tokens: bool | None = extension(
        None, "begin with the ids that the model expects before every text (default: true)"
    )
    add_generation_prompt: bool | None = extension(
        None, "end where the answer to the conversation begins (default: true)"
    )
    return_token_strs: bool | None = extension(None, "the text of each token as well")


class DetokenizeRequest(Body):
    """The body of POST /detokenize."""

    model: Text = supported(..., "name of a model")
    tokens: list[Int] = Field(
        ...,
        max_length=2**20,
        description="token ids",
        json_schema_extra={"x-support": "extension"},
    )


class ClassifyRequest(Body):
    """The body of POST /v1/classify."""

    model: Text = supported(..., "name of a classifier")
    input: Texts = extension(..., "a text, or a list of texts")
    user: Any = without_effect("the API key says who asks")
