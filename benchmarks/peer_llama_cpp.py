"""llama.cpp as the benchmarks measure it, in a process of its own (`peers.run`)."""

import itertools
import time
from typing import Any

import numpy as np
from llama_cpp import Llama
from llama_cpp import llama_cpp as api
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding
from peers import resident_bytes
from tasks import (
    ANSWER_TOKENS,
    PROMPT_TOKENS,
    STREAMS,
    Decode,
    batch_rate,
    one_stream,
    prompt_seconds,
)

from minigpt_tf.machine import usable_cores

CONTEXT = 256
"""Tokens of a sequence for which there is room."""


def decode(file: str) -> dict[str, Any]:
    """One stream."""
    model, append, _ = load(file, CONTEXT)
    size = api.llama_model_size(model)
    result = one_stream(append, size)
    built = api.llama_print_system_info().decode()
    return result | {"memory": size, "process": resident_bytes(), "built": built}


def prompts(file: str) -> dict[str, Any]:
    """A long prompt."""
    _, append, vocab_size = load(file, PROMPT_TOKENS + 24)
    return {"seconds": prompt_seconds(append, vocab_size)}


def batches(file: str) -> dict[str, Any]:
    """Several streams in one llama_batch with as many sequences; without sampling."""
    model = _load_model(file)
    return {"rates": {streams: _batch_rate(model, streams) for streams in STREAMS}}


def answers(file: str, prompts: list[list[int]]) -> dict[str, Any]:
    """Whole answers, prompts included; all of the longest length."""
    _, append, _ = load(file, max(map(len, prompts)) + ANSWER_TOKENS + 8)
    append(prompts[0])
    ids, began = [], time.perf_counter()
    for prompt in prompts:
        answer = [int(append(prompt).argmax())]
        for _ in range(ANSWER_TOKENS - 1):
            answer.append(int(append(answer[-1:]).argmax()))
        ids.append(answer)
    return {"speed": len(prompts) * ANSWER_TOKENS / (time.perf_counter() - began), "ids": ids}


def answers_with_lookup(file: str, prompts: list[list[int]]) -> dict[str, Any]:
    """The same with llama-cpp-python's speculation, which looks n-grams up in the text so far; two
    guesses, as its documentation advises on a CPU."""
    draft = LlamaPromptLookupDecoding(num_pred_tokens=2)
    threads = {"n_threads": usable_cores(), "n_threads_batch": usable_cores()}
    length = max(map(len, prompts)) + ANSWER_TOKENS + 8
    model = Llama(file, n_ctx=length, draft_model=draft, verbose=False, **threads)
    greedy = {"temp": 0.0, "top_k": 1, "repeat_penalty": 1.0}
    ids, began = [], time.perf_counter()
    for prompt in prompts:
        ids.append(list(itertools.islice(model.generate(prompt, **greedy), ANSWER_TOKENS)))
    rate = sum(map(len, ids)) / (time.perf_counter() - began)
    return {"speed": rate, "ids": [[int(token) for token in answer] for answer in ids]}


def load(file: str, length: int) -> tuple[Any, Decode, int]:
    """The model, a function that appends tokens to its one sequence, and V."""
    model = _load_model(file)
    context = _context(model, length, 1)
    vocab_size = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))

    def append(ids: list[int]) -> np.ndarray:
        if len(ids) > 1:
            api.llama_memory_clear(api.llama_get_memory(context), True)
        tokens = (api.llama_token * len(ids))(*ids)
        if api.llama_decode(context, api.llama_batch_get_one(tokens, len(ids))):
            raise SystemExit("llama_decode failed")
        logits = api.llama_get_logits_ith(context, -1)
        return np.ctypeslib.as_array(logits, (vocab_size,))

    return model, append, vocab_size


def _load_model(file: str) -> Any:
    api.llama_backend_init()
    model = api.llama_model_load_from_file(file.encode(), api.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp cannot read {file}")
    return model


def _context(model: Any, length: int, sequences: int) -> Any:
    options = api.llama_context_default_params()
    options.n_ctx, options.n_seq_max = length * sequences, sequences
    options.n_threads = options.n_threads_batch = usable_cores()
    return api.llama_init_from_model(model, options)


def _batch_rate(model: Any, streams: int) -> float:
    context = _context(model, CONTEXT, streams)
    vocab_size = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
    batch = api.llama_batch_init(8 * streams, 0, 1)
    positions = [0] * streams

    def append(given: list[list[int]]) -> np.ndarray:
        last, n = [], 0
        for sequence, ids in enumerate(given):
            for token in ids:
                batch.token[n], batch.pos[n] = token, positions[sequence]
                batch.n_seq_id[n], batch.seq_id[n][0], batch.logits[n] = 1, sequence, 0
                positions[sequence] += 1
                n += 1
            batch.logits[n - 1] = 1
            last.append(n - 1)
        batch.n_tokens = n
        if api.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")
        rows = [api.llama_get_logits_ith(context, index) for index in last]
        return np.stack([np.ctypeslib.as_array(row, (vocab_size,)) for row in rows])

    rate = batch_rate(streams, append, lambda ids: append([[token] for token in ids]))
    api.llama_batch_free(batch)
    api.llama_free(context)
    return rate
