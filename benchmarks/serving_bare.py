"""The engine alone: tokens a second of B sequences, without sampling, scheduler and HTTP."""

import time

from minigpt_tf.config import EngineConfig
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.inference.key_value_cache import Cache


def speed(model: str, quantize: str, streams: int, prompt: int, tokens: int) -> dict[str, float]:
    """Decodes B sequences together.

    Args:
        model: Folder.
        quantize: As in EngineConfig.
        streams: B.
        prompt: Tokens before.
        tokens: To decode.

    Returns:
        Tokens of all sequences a second.
    """
    engine = TextGenerator.load(model, EngineConfig(quantize=quantize, speculate="off")).engine
    cache = Cache(engine.config, streams)
    for row in range(streams):
        engine.prefill(list(range(100 + row, 100 + row + prompt)), cache, row)
    ids = [200 + row for row in range(streams)]
    engine.decode_batch(ids, cache)
    began = time.perf_counter()
    for _ in range(tokens):
        engine.decode_batch(ids, cache)
    return {"rate": streams * tokens / (time.perf_counter() - began)}
