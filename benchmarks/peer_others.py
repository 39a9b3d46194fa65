"""transformers, NumPy and the bare memory, each in a process of its own (`peers.run`)."""

import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from peers import resident_bytes
from shapes import read_gguf, tensors_of
from tasks import one_stream, seconds

from minigpt_tf.config import ModelConfig
from minigpt_tf.config.settings import from_dict
from minigpt_tf.inference.weight_layout import lay_out_weights
from minigpt_tf.interop.families import family_of
from minigpt_tf.machine import usable_cores

COPIES, COPY = 4, 2**28
"""Arrays that are read in turn, and bytes of one: each is larger than the caches, so that it has
left them when its turn comes again."""
SIDE = 3072
"""Rows and columns of the matrices whose product NumPy computes."""


def transformers_decode(config: dict, file: str, dtype: str) -> dict[str, Any]:
    """One stream with transformers, on PyTorch."""
    import torch

    torch.set_num_threads(usable_cores())
    model = _transformers_model(from_dict(ModelConfig, config, "config"), Path(file))
    model = model.eval().to(getattr(torch, dtype))
    cache = None

    @torch.inference_mode()
    def append(ids: list[int]) -> np.ndarray:
        nonlocal cache
        past = None if len(ids) > 1 else cache
        out = model(torch.tensor([ids]), past_key_values=past, use_cache=True)
        cache = out.past_key_values
        return out.logits[0, -1].float().numpy()

    size = sum(p.nbytes for p in model.parameters())
    return one_stream(append, size) | {"memory": size, "process": resident_bytes()}


def _transformers_model(config: ModelConfig, file: Path) -> Any:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    model: Any
    if config.positions == "learned":
        model = GPT2LMHeadModel(GPT2Config(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0))
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.embed_dim,
                intermediate_size=config.ff_dim,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                num_key_value_heads=config.num_kv_heads,
                rms_norm_eps=config.norm_epsilon,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
                tie_word_embeddings=True,
            )
        )
    weights = tensors_of(read_gguf(file, config), family_of(config).huggingface, config)
    state = {name: torch.from_numpy(values) for name, values in weights.items()}
    missing = model.load_state_dict(state, strict=False).missing_keys
    if set(missing) - {"lm_head.weight"}:
        raise SystemExit(f"transformers lacks {missing}")
    return model


def numpy_decode(config: dict, file: str) -> dict[str, Any]:
    """The matrix-vector products alone, by NumPy's BLAS: all else of a step is left out."""
    model = from_dict(ModelConfig, config, "config")
    laid_out = lay_out_weights(read_gguf(Path(file), model), model, file)
    matrices = [laid_out.matrix(index) for index in range(1, len(laid_out.layout))]
    inputs = [np.ones(m.shape[1], dtype=np.float32) for m in matrices]

    def append(ids: list[int]) -> np.ndarray:
        return [m @ x for m, x in zip(matrices, inputs, strict=True)][-1]

    result = one_stream(append, laid_out.nbytes)
    return {name: result[name] for name in ("speed", "bytes")}


def numpy_product() -> dict[str, Any]:
    """Operations a second of NumPy's product of two square float32 matrices."""
    square = np.random.default_rng(0).standard_normal((SIDE, SIDE), dtype=np.float32)
    best = min(seconds(lambda: square @ square) for _ in range(4))
    return {"rate": 2 * SIDE**3 / best}


def streaming_read() -> dict[str, Any]:
    """Bytes a second at which all cores together read arrays, each its part, in order."""
    from numba import njit

    @njit(nogil=True, fastmath=True)
    def total(values):
        result = np.float32(0)
        for i in range(values.size):
            result += values[i]
        return result

    arrays = [np.ones(COPY // 4, dtype=np.float32) for _ in range(COPIES)]
    parts = [np.array_split(array, usable_cores()) for array in arrays]
    with ThreadPoolExecutor(usable_cores()) as pool:
        times = [
            seconds(lambda part=part: list(pool.map(total, part)))
            for _ in range(6)
            for part in parts
        ]
    return {"bandwidth": COPY / statistics.median(times[COPIES:])}
