"""The engine as the benchmarks measure it, in a process of its own (`peers.run`)."""

import dataclasses
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers import resident_bytes
from shapes import read_gguf
from tasks import (
    ANSWER_TOKENS,
    BATCH_STEPS,
    PROMPT,
    STREAMS,
    batch_rate,
    median_seconds,
    one_stream,
    prompt_seconds,
    seconds,
)

from minigpt_tf.config import EngineConfig, ModelConfig, SamplingConfig
from minigpt_tf.config.settings import from_dict
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.inference.key_value_cache import Cache
from minigpt_tf.inference.panels import Storage, empty_panels, write_panels
from minigpt_tf.inference.prompt import Prompt
from minigpt_tf.inference.samplers import make_sampler
from minigpt_tf.inference.weight_layout import (
    EngineWeights,
    lay_out_weights,
    layout_size,
    make_layout,
)

SHORT_PROMPTS = (1, 2, 4, 8, 9, 12, 16, 24, 32, 48)


def decode(config: dict, file: str, scratch: str, weights: str = "exact") -> dict[str, Any]:
    """One stream; and what nine tokens in one pass cost, with the logits of each."""
    engine = load(config, file, scratch, weights)

    def append(ids: list[int]) -> np.ndarray:
        return engine.prefill(ids) if len(ids) > 1 else engine.decode_step(ids[0])

    result = one_stream(append, engine.weights.nbytes)
    engine.all_logits(list(range(9)))
    pairs = [
        (seconds(lambda: engine.all_logits([1])), seconds(lambda: engine.all_logits([*range(9)])))
        for _ in range(15)
    ]
    one, nine = (float(np.median(column)) for column in zip(*pairs, strict=True))
    of_weights = engine.weights
    kept = (of_weights.panels, of_weights.biases, of_weights.norms, of_weights.positions)
    stored = {of_weights.storage(index).name for index in range(len(of_weights.layout))}
    return result | {
        "nine": nine / one,
        "memory": sum(array.nbytes for array in kept),
        "process": resident_bytes(),
        "stored": sorted(stored),
    }


def batches(config: dict, file: str, scratch: str, weights: str = "exact") -> dict[str, Any]:
    """Several streams, greedy by NumPy, and with the sampler at its default settings."""
    engine = load(config, file, scratch, weights)
    rates, sampled = {}, {}
    for streams in STREAMS:
        cache = Cache(engine.config, streams)

        def start(prompts: list[list[int]], cache: Cache = cache) -> np.ndarray:
            return np.stack([engine.prefill(ids, cache, row) for row, ids in enumerate(prompts)])

        def step(ids: list[int], cache: Cache = cache) -> np.ndarray:
            return engine.decode_batch(ids, cache)

        rates[streams] = batch_rate(streams, start, step)
        sampled[streams] = _sampled_rate(engine, cache, streams)
    return {"rates": rates, "sampled": sampled}


def _sampled_rate(engine: Engine, cache: Cache, streams: int) -> float:
    nothing = np.zeros(0, dtype=np.int64)
    samplers = [make_sampler(SamplingConfig(seed=n), nothing, 0, 8) for n in range(streams)]
    answers = [[10 + number, *PROMPT[1:]] for number in range(streams)]
    logits = [engine.prefill(ids, cache, row) for row, ids in enumerate(answers)]
    began = 0.0
    for number in range(BATCH_STEPS + 2):
        if number == 2:
            began = time.perf_counter()
        for ids, sample, row in zip(answers, samplers, logits, strict=True):
            ids.append(sample(row, ids)[0])
        logits = list(engine.decode_batch([ids[-1] for ids in answers], cache))
    return streams * BATCH_STEPS / (time.perf_counter() - began)


def prompts(config: dict, file: str, scratch: str, weights: str = "exact") -> dict[str, Any]:
    """A long prompt, and short ones."""
    engine = load(config, file, scratch, weights)
    long = prompt_seconds(engine.prefill, engine.config.vocab_size)
    short = {n: median_seconds(lambda n=n: engine.prefill([*range(n)]), 7) for n in SHORT_PROMPTS}
    return {"seconds": long, "short": short}


def answers(model: str, speculate: str, prompts: list[str]) -> dict[str, Any]:
    """Whole answers of a model folder, prompts included."""
    generator = TextGenerator.load(model, EngineConfig(speculate=speculate))
    greedy = SamplingConfig(greedy=True, max_new_tokens=ANSWER_TOKENS)
    whole = [prepared(generator, text) for text in prompts]
    generator.generate(whole[0], greedy, max_new_tokens=20)
    began = time.perf_counter()
    ids = [generator.generate(prompt, greedy).ids for prompt in whole]
    rate = sum(map(len, ids)) / (time.perf_counter() - began)
    return {"speed": rate, "ids": ids, "prompts": [prompt.ids for prompt in whole]}


def prepared(generator: TextGenerator, text: str) -> Prompt:
    """A question to a model that chats, or a text to continue."""
    if generator.chat_template is None:
        return generator.prepare(text)
    return generator.prepare_chat([{"role": "user", "content": text}])


def load(config: dict, file: str, scratch: str, weights: str) -> Engine:
    """An engine with the values of a GGUF file.

    Args:
        config: The architecture.
        file: Its values, in float32, are the weights.
        scratch: A folder where they are kept in the engine's layout for the next process.
        weights: "exact" (as a model folder is read), "float32" (the same values in 32 bits),
            "int8" (rounded to 8 bits), or "int4": the file has 4 bits already, so that both sides
            of the comparison have the same values, and products take their inputs as int8.

    Returns:
        The engine, warm.
    """
    model = from_dict(ModelConfig, config, "config")
    kept = Path(scratch) / f"{Path(file).stem}.{weights}.pickle"
    if not kept.exists():
        quantize = "int8" if weights == "int8" else "none"
        laid_out = lay_out_weights(read_gguf(Path(file), model), model, file, quantize)
        if weights == "float32":
            laid_out = _as_float32(laid_out, model)
        if weights == "int4":
            laid_out = dataclasses.replace(laid_out, integers=True)
        kept.write_bytes(pickle.dumps(laid_out, protocol=5))
    laid_out = pickle.loads(kept.read_bytes())
    panels = empty_panels(laid_out.panels.size)
    panels[:] = laid_out.panels
    engine = Engine(model, dataclasses.replace(laid_out, panels=panels))
    engine.warm_up()
    return engine


def _as_float32(laid_out: EngineWeights, config: ModelConfig) -> EngineWeights:
    layout = make_layout(config)
    panels = empty_panels(layout_size(layout)[0])
    wide = dataclasses.replace(laid_out, panels=panels, layout=layout)
    for index in range(len(layout) - config.tie_embeddings):
        write_panels(laid_out.matrix(index), Storage.FLOAT32, wide.panels_of(index))
    return wide
