"""Tokens a second at batch 1: the engine beside llama.cpp, transformers and NumPy, in one run.

    pip install --no-binary llama-cpp-python -r benchmarks/requirements.txt
    python benchmarks/decode.py [--rounds 5]

Two shapes, GPT-2 124M and SmolLM2-135M, with the same random weights for all. Every peer runs in a
process of its own, and the processes take turns, so that a change of the machine's speed meets all
alike. Each decodes 100 tokens greedily after a prompt of 8. Prints medians, the ratio to llama.cpp
at the same bits (median of the rounds' ratios), and the share of the machine's streaming read
bandwidth, which is measured in the same rounds; and whether all generate the same tokens.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minigpt_tf.config import ModelConfig
from minigpt_tf.config.presets import model_preset
from minigpt_tf.inference.weights import Weights, weight_shapes
from minigpt_tf.interop.families import family_of
from minigpt_tf.interop.tensors import Table, entries, to_tensor

SHAPES = {
    "GPT-2 124M": model_preset("gpt2"),
    "SmolLM2-135M": ModelConfig(
        vocab_size=49152,
        context_length=2048,
        embed_dim=576,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        ff_dim=1536,
        positions="rotary",
        rope_theta=100000.0,
        norm="rms",
        norm_first=True,
        norm_epsilon=1e-5,
        activation="swiglu",
        use_bias=False,
        qkv_bias=False,
        logits_bias=False,
        tie_embeddings=True,
    ),
}
PROMPT = list(range(100, 108))
TOKENS = 100
CONTEXT = 256
"""What the peers allocate; the engine allocates the whole context."""

Decode = Callable[[list[int]], np.ndarray]
"""Appends tokens; logits after the last one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", choices=SHAPES, help="only this shape")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        print(json.dumps(PEERS[arguments.peer](SHAPES[arguments.shape], arguments.file)))
        return
    for shape in [arguments.shape] if arguments.shape else SHAPES:
        with tempfile.TemporaryDirectory() as scratch:
            compare(shape, Path(scratch), arguments.rounds)


def compare(shape: str, scratch: Path, rounds: int) -> None:
    """Measures and prints one shape."""
    files = write_gguf_files(SHAPES[shape], scratch)
    runs: dict[str, list[dict]] = {peer: [] for peer in PEERS}
    for _ in range(rounds):
        for peer, results in runs.items():
            words = [sys.executable, __file__, "--peer", peer, "--shape", shape]
            words += ["--file", str(files.get(peer, ""))]
            done = subprocess.run(words, check=True, capture_output=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    bandwidth = [run["bandwidth"] for run in runs["streaming read"]]
    print(f"\n{shape}: {SHAPES[shape].parameter_count:,} parameters, medians of {rounds} rounds")
    print(f"{'':<22}{'tokens/s':>9}{'min':>7}{'max':>7}{'ratio':>7}  to llama.cpp  of bandwidth")
    for peer, results in runs.items():
        if peer == "streaming read":
            continue
        speeds = [run["speed"] for run in results]
        rival = "llama.cpp q8_0" if peer.endswith(("int8", "q8_0")) else "llama.cpp f32"
        ratio = statistics.median(
            s / run["speed"] for s, run in zip(speeds, runs[rival], strict=True)
        )
        share = statistics.median(
            s * run["bytes"] / b for s, run, b in zip(speeds, results, bandwidth, strict=True)
        )
        row = f"{peer:<22}{statistics.median(speeds):>9.1f}{min(speeds):>7.1f}{max(speeds):>7.1f}"
        print(f"{row}{ratio:>7.2f}  {rival:<14}{share:>11.2f}")
    print(f"streaming read: {statistics.median(bandwidth) / 1e9:.1f} GB/s", end="; ")
    reference = runs["engine float32"][0]["ids"]
    for peer in ("engine int8", "llama.cpp f32", "llama.cpp q8_0", "transformers f32"):
        ids = runs[peer][0]["ids"]
        same = next((i for i in range(TOKENS) if ids[i] != reference[i]), TOKENS)
        print(f"{peer}: first {same} tokens as the engine's in float32", end="; ")
    print(flush=True)


def timed(decode: Decode, weight_bytes: int) -> dict:
    """Decodes once to warm up and once for the figure."""
    for _ in range(2):
        logits = decode(PROMPT)
        ids = [int(logits.argmax())]
        began = time.perf_counter()
        for _ in range(TOKENS):
            ids.append(int(decode(ids[-1:]).argmax()))
        seconds = time.perf_counter() - began
    return {"speed": TOKENS / seconds, "bytes": weight_bytes, "ids": ids}


def random_weights(config: ModelConfig) -> Weights:
    """Normal numbers of GPT-2's spread; scales of norms are 1."""
    random = np.random.default_rng(0)
    weights = {}
    for name, shape in weight_shapes(config).items():
        if name.endswith(("/gamma", "/scale")):
            weights[name] = np.ones(shape, dtype=np.float32)
        elif name.endswith(("/beta", "/bias")):
            weights[name] = np.zeros(shape, dtype=np.float32)
        else:
            weights[name] = random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
    return weights


def weights_in(table: Table, config: ModelConfig) -> Weights:
    """The random weights by the names and in the layout of another tool."""
    ours = random_weights(config)
    wanted = entries(table, config)
    return {entry.name: to_tensor(entry, ours.__getitem__, config) for entry in wanted}


# ---------------------------------------------------------------- the peers


def engine(config: ModelConfig, quantize: str) -> dict:
    from minigpt_tf.inference.engine import Engine
    from minigpt_tf.inference.weight_layout import lay_out_weights

    laid_out = lay_out_weights(random_weights(config), config, "random", quantize)
    runner = Engine(config, laid_out)

    def decode(ids: list[int]) -> np.ndarray:
        return runner.prefill(ids) if len(ids) > 1 else runner.decode_step(ids[0])

    return timed(decode, laid_out.nbytes)


def numpy_products(config: ModelConfig) -> dict:
    """The matrix-vector products alone, by NumPy's BLAS: all else of a step is left out."""
    from minigpt_tf.inference.weight_layout import lay_out_weights

    laid_out = lay_out_weights(random_weights(config), config, "random")
    matrices = [laid_out.matrix(index) for index in range(1, len(laid_out.layout))]
    inputs = [np.ones(m.shape[1], dtype=np.float32) for m in matrices]

    def decode(ids: list[int]) -> np.ndarray:
        return [m @ x for m, x in zip(matrices, inputs, strict=True)][-1]

    return timed(decode, laid_out.nbytes)


def llama_cpp(config: ModelConfig, file: str) -> dict:
    from llama_cpp import llama_cpp as api

    api.llama_backend_init()
    model_options = api.llama_model_default_params()
    model = api.llama_model_load_from_file(file.encode(), model_options)
    options = api.llama_context_default_params()
    options.n_ctx, options.n_threads, options.n_threads_batch = CONTEXT, *[cores()] * 2
    context = api.llama_init_from_model(model, options)

    def decode(ids: list[int]) -> np.ndarray:
        if len(ids) > 1:
            api.llama_memory_clear(api.llama_get_memory(context), True)
        tokens = (api.llama_token * len(ids))(*ids)
        if api.llama_decode(context, api.llama_batch_get_one(tokens, len(ids))):
            raise SystemExit("llama_decode failed")
        logits = api.llama_get_logits_ith(context, -1)
        return np.ctypeslib.as_array(logits, (config.vocab_size,))

    return timed(decode, api.llama_model_size(model))


def transformers(config: ModelConfig, dtype: str) -> dict:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(cores())
    if config.positions == "learned":
        names = GPT2Config(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
        model = GPT2LMHeadModel(names)
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
    names = family_of(config).huggingface
    state = {name: torch.from_numpy(w) for name, w in weights_in(names, config).items()}
    missing = model.load_state_dict(state, strict=False).missing_keys
    if set(missing) - {"lm_head.weight"}:
        raise SystemExit(f"transformers lacks {missing}")
    model = model.eval().to(getattr(torch, dtype))
    cache = None

    @torch.inference_mode()
    def decode(ids: list[int]) -> np.ndarray:
        nonlocal cache
        past = None if len(ids) > 1 else cache
        out = model(torch.tensor([ids]), past_key_values=past, use_cache=True)
        cache = out.past_key_values
        return out.logits[0, -1].float().numpy()

    return timed(decode, sum(p.nbytes for p in model.parameters()))


def streaming_read() -> dict:
    """Bytes a second at which all cores together read 500 MB, each its part, in order."""
    from concurrent.futures import ThreadPoolExecutor

    from numba import njit

    @njit(nogil=True, fastmath=True)
    def total(values):
        result = np.float32(0)
        for i in range(values.size):
            result += values[i]
        return result

    values = np.ones(125_000_000, dtype=np.float32)
    speeds = []
    with ThreadPoolExecutor(cores()) as pool:
        for _ in range(12):
            began = time.perf_counter()
            list(pool.map(total, np.array_split(values, cores())))
            speeds.append(values.nbytes / (time.perf_counter() - began))
    return {"bandwidth": statistics.median(speeds[2:])}


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


PEERS: dict[str, Callable[[ModelConfig, str], dict]] = {
    "streaming read": lambda config, file: streaming_read(),
    "engine float32": lambda config, file: engine(config, "none"),
    "llama.cpp f32": llama_cpp,
    "transformers f32": lambda config, file: transformers(config, "float32"),
    "transformers bf16": lambda config, file: transformers(config, "bfloat16"),
    "NumPy, products only": lambda config, file: numpy_products(config),
    "engine int8": lambda config, file: engine(config, "int8"),
    "llama.cpp q8_0": llama_cpp,
}


# ---------------------------------------------------------------- GGUF files of the same weights


def write_gguf_files(config: ModelConfig, folder: Path) -> dict[str, Path]:
    """A float32 file for llama.cpp, and what its own quantizer makes of it."""
    from llama_cpp import llama_cpp as api

    float32, q8_0 = folder / "f32.gguf", folder / "q8_0.gguf"
    write_gguf(config, float32)
    quiet = api.llama_log_callback(lambda level, text, data: None)
    api.llama_log_set(quiet, None)
    options = api.llama_model_quantize_default_params()
    options.ftype = api.LLAMA_FTYPE_MOSTLY_Q8_0
    if api.llama_model_quantize(str(float32).encode(), str(q8_0).encode(), options):
        raise SystemExit("llama_model_quantize failed")
    api.llama_log_set(api.llama_log_callback(0), None)
    return {"llama.cpp f32": float32, "llama.cpp q8_0": q8_0}


def write_gguf(config: ModelConfig, file: Path) -> None:
    import gguf

    from minigpt_tf.interop.gguf.write_gguf import write_architecture

    family = family_of(config)
    writer = gguf.GGUFWriter(file, family.name)
    write_architecture(writer, config, config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    for name, values in weights_in(family.gguf, config).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
