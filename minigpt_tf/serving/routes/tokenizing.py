"""POST /tokenize and /detokenize."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..answers.documents import ANSWERED, Detokenized, Tokens
from ..engine.served import Served
from ..errors import Refusal, json_response
from ..requests.bodies import DetokenizeRequest, TokenizeRequest
from ..requests.prompts import as_messages, encode_messages, require_generator
from ..state import call_of, state_of
from ..waiting import off_loop

router = APIRouter()


@router.post("/tokenize", response_model=None, responses=ANSWERED[Tokens])
async def tokenize(request: Request, body: TokenizeRequest) -> Response:
    """The token ids of a text or of a conversation."""
    state = state_of(request)
    model = state.find(body.model)
    call_of(request).facts["model"] = model.name
    state.report_unknown(body.check())
    require_generator(model)
    if (body.prompt is None) == (body.messages is None):
        message = "prompt: give it, or messages, and not both"
        raise Refusal(message, param="prompt", code="prompt_or_messages")
    return await off_loop(state, _tokenized, model, body)


def _tokenized(model: Served, body: TokenizeRequest) -> Response:
    assert model.generator is not None
    tokenizer = model.generator.tokenizer
    if body.messages is not None:
        begins = body.add_generation_prompt is not False
        ids = encode_messages(model, as_messages(body.messages), begins).ids
    else:
        ids = tokenizer.encode(body.prompt or "").tolist()
        prefix = list(tokenizer.prefix_ids)
        if body.add_special_tokens is not False and ids[: len(prefix)] != prefix:
            ids = prefix + ids
    texts = None
    if body.return_token_strs:
        texts = [tokenizer.decode([token_id]) for token_id in ids]
    return json_response(
        {
            "count": len(ids),
            "max_model_len": model.engine.config.context_length,
            "tokens": ids,
            "token_strs": texts,
        }
    )


@router.post("/detokenize", response_model=None, responses=ANSWERED[Detokenized])
async def detokenize(request: Request, body: DetokenizeRequest) -> Response:
    """The text of token ids."""
    state = state_of(request)
    model = state.find(body.model)
    call_of(request).facts["model"] = model.name
    state.report_unknown(body.check())
    require_generator(model)
    return await off_loop(state, _detokenized, model, body)


def _detokenized(model: Served, body: DetokenizeRequest) -> Response:
    assert model.generator is not None
    tokenizer = model.generator.tokenizer
    wrong = [i for i in body.tokens if not 0 <= i < tokenizer.vocab_size]
    if wrong:
        raise Refusal(
            f"tokens: token id {wrong[0]} is outside the vocabulary of {tokenizer.vocab_size}",
            param="tokens",
            code="unknown_token",
        )
    return json_response({"prompt": tokenizer.decode(body.tokens)})
