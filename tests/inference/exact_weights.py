"""Weights whose values are exactly those of a storage below 32 bits, and GGUF's ways to round."""

from contextlib import contextmanager

import numpy as np
import pytest

from minigpt_tf.inference import weight_layout
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.weight_layout import lay_out_weights
from minigpt_tf.inference.weights import weight_shapes


def bfloat16(values):
    """float32 values cut to bfloat16."""
    return (values.view(np.uint32) & 0xFFFF0000).view(np.float32)


def q8_0(values):
    """GGUF's Q8_0 (ggml's reference), as values."""
    blocks = values.reshape(-1, 32)
    d = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    q = np.rint(blocks / np.where(d > 0, d, 1))
    return (q * d.astype(np.float16).astype(np.float32)).reshape(values.shape).astype(np.float32)


def q4_0(values):
    """GGUF's Q4_0, as values."""
    blocks = values.reshape(-1, 32)
    far = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)
    d = far / np.float32(-8)
    q = np.clip(np.floor(blocks / np.where(d != 0, d, 1) + 8.5), 0, 15) - 8
    return (q * d.astype(np.float16).astype(np.float32)).reshape(values.shape).astype(np.float32)


def q4_1(values):
    """GGUF's Q4_1, as values."""
    blocks = values.reshape(-1, 32)
    low = blocks.min(axis=1, keepdims=True)
    d = (blocks.max(axis=1, keepdims=True) - low) / np.float32(15)
    q = np.clip(np.floor((blocks - low) / np.where(d > 0, d, 1) + 0.5), 0, 15)
    d, low = (part.astype(np.float16).astype(np.float32) for part in (d, low))
    return (q.astype(np.float32) * d + low).reshape(values.shape)


QUANTIZED = {"bfloat16": bfloat16, "q8_0": q8_0, "q4_0": q4_0, "q4_1": q4_1}


def _rows(quantized, rows):
    """(outputs, inputs) in blocks along the inputs; the last block is filled up with zeros."""
    filled = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 32)))
    return quantized(np.ascontiguousarray(filled, dtype=np.float32))[:, : rows.shape[1]]


def exact_weights(weights, kind):
    """Named weights, of which matrices have exactly the values of a kind of QUANTIZED."""
    result = {}
    for name, weight in weights.items():
        part, last = name.split("/")[-2:]
        quantized = QUANTIZED[kind]
        if last == "embeddings" and part != "position_encoding":
            weight = _rows(quantized, weight)
        elif part == "attention_output" and last == "kernel":  # (N, H, D): a block ends with a head
            if kind == "q4_1":  # with zeros behind the head's end, which Q4_1 cannot hold
                quantized = q4_0
            weight = np.stack([_rows(quantized, head.T).T for head in weight])
        elif last == "kernel":
            weight = _rows(quantized, weight.reshape(len(weight), -1).T).T.reshape(weight.shape)
        result[name] = np.ascontiguousarray(weight)
    return result


@contextmanager
def compact_from(parameters):
    """Models of so many parameters and more are stored in fewer bits, where these are exact."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_layout, "COMPACT_FROM", parameters)
        yield


def engines(config, weights, threads=1):
    """The same weights as float32, and stored in as few bits as hold them."""
    made = []
    for parameters in (2**62, 0):
        with compact_from(parameters):
            made.append(Engine(config, lay_out_weights(weights, config, "test"), threads=threads))
    return made


def random_weights(config, random=None, size=0.3):
    random = random or np.random.default_rng(0)
    return {
        name: (size * random.standard_normal(shape)).astype(np.float32)
        for name, shape in weight_shapes(config).items()
    }


def same_bits(found, expected):
    return np.array_equal(found.view(np.uint32), expected.view(np.uint32))


def token_by_token(engine, ids):
    """Logits (T, V) after each token, one at a time."""
    first = engine.prefill(ids[:1])
    return np.stack([first, *(engine.decode_step(token_id) for token_id in ids[1:])])
