"""Random tiny checkpoints of every family, with tensors that NumPy makes from their names.

`CASES` are configurations of transformers' own classes; `golden.json` has what transformers made of
them, for machines without it.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.interop.checkpoints import VOCABULARY, byte_tokenizer

GOLDEN = Path(__file__).with_name("golden.json")
CONTEXT = 37
LONG, GREEDY = 107, 100
"""A context in which so many greedy tokens are compared."""

_SIZES = {"vocab_size": VOCABULARY, "num_hidden_layers": 3, "num_attention_heads": 4}
_SIZES |= {"max_position_embeddings": CONTEXT, "bos_token_id": 258, "eos_token_id": 258}
_ROTARY = {**_SIZES, "hidden_size": 28, "intermediate_size": 45, "num_key_value_heads": 2}
_ROTARY |= {"head_dim": 10, "pad_token_id": None}
_NARROW = {name: value for name, value in _ROTARY.items() if name != "head_dim"}
_NARROW |= {"hidden_size": 24}
_GRANITE = {"embedding_multiplier": 12.0, "logits_scaling": 5.0, "residual_multiplier": 0.22}
_GRANITE |= {"attention_multiplier": 0.4}
LLAMA32 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0}
LLAMA32 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}

CASES = {
    "llama3.2": ("Llama", {**_ROTARY, "rope_parameters": LLAMA32, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2", {**_ROTARY, "sliding_window": 8, "use_sliding_window": False}),
    "qwen2-tied": ("Qwen2", {**_ROTARY, "tie_word_embeddings": True, "num_key_value_heads": 1}),
    "mistral": ("Mistral", {**_ROTARY, "sliding_window": None}),
    "mistral-wide-window": ("Mistral", {**_ROTARY, "sliding_window": CONTEXT}),
    "granite": ("Granite", {**_NARROW, **_GRANITE, "tie_word_embeddings": True}),
    "granite-untied": ("Granite", {**_NARROW, **_GRANITE, "num_key_value_heads": 4}),
    "granitemoehybrid": (
        "GraniteMoeHybrid",
        {
            **_NARROW,
            **_GRANITE,
            "shared_intermediate_size": 45,
            "num_local_experts": 0,
            "position_embedding_type": "rope",
            "layer_types": ["full_attention"] * 3,
            "mamba_n_heads": 8,
            "tie_word_embeddings": True,
        },
    ),
    "phi3": ("Phi3", {**_NARROW, "sliding_window": None}),
    "mistral-window": ("Mistral", {**_ROTARY, "sliding_window": 9}),
    "phi3-window": ("Phi3", {**_NARROW, "sliding_window": 8}),
    "qwen2-window": (
        "Qwen2",
        {**_ROTARY, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", {**_ROTARY, "tie_word_embeddings": True}),
    "qwen3-window": (
        "Qwen3",
        {**_ROTARY, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    "smollm3": ("SmolLM3", {**_NARROW, "num_hidden_layers": 5, "no_rope_layer_interval": 4}),
    "olmo2": ("Olmo2", {**_NARROW, "rms_norm_eps": 1e-5}),
    "gemma": ("Gemma", {**_ROTARY, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2", {**_ROTARY, "sliding_window": 7, "query_pre_attn_scalar": 10}),
    "gemma2-wide": (
        "Gemma2",
        {
            **_ROTARY,
            "sliding_window": CONTEXT,
            "query_pre_attn_scalar": 14,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": None,
        },
    ),
    "gemma3": (
        "Gemma3",
        {
            **_ROTARY,
            "num_hidden_layers": 7,
            "sliding_window": 11,
            "query_pre_attn_scalar": 10,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
    ),
    "opt": ("OPT", {**_SIZES, "hidden_size": 24, "ffn_dim": 45}),
    "opt-gelu": (
        "OPT",
        {
            **_SIZES,
            "hidden_size": 28,
            "ffn_dim": 32,
            "activation_function": "gelu",
            "tie_word_embeddings": False,
        },
    ),
}
"""Name -> what transformers' classes begin with, and the fields of the configuration."""
NORMS_FROM_ZERO = ("Gemma", "Gemma2", "Gemma3")
"""Families whose norms scale by 1 + weight."""


def tensor(name, shape, seed=0, from_zero=False):
    """Numbers of a spread that makes the logits peaked; no bias and no scale is trivial."""
    random = np.random.default_rng([zlib.crc32(name.encode()), seed])
    values = random.standard_normal(shape).astype(np.float32)
    if "norm" in name and len(shape) == 1 and name.endswith("weight"):
        return np.float32(0.2) * values + np.float32(0 if from_zero else 1)
    if len(shape) == 1:
        return np.float32(0.2) * values
    return values * np.float32(0.5 if "embed" in name or "head" in name else 0.25)


def write_checkpoint(folder, config, tensors):
    """A Hugging Face folder."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def from_transformers(case, folder, seed=0, **overrides):
    """The model of a case with our numbers, by transformers; saved in the folder."""
    torch = pytest.importorskip("torch", reason="needs torch")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    kind, fields = CASES[case]
    config_class = getattr(transformers, f"{kind}{_text(kind)}Config")
    model = getattr(transformers, f"{kind}ForCausalLM")(config_class(**{**fields, **overrides}))
    zero = kind in NORMS_FROM_ZERO
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = tensor(name, tuple(parameter.shape), seed, zero)
            parameter.copy_(torch.from_numpy(values))
    model.save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return model.eval()


def long_fields(case):
    """Overrides for `from_transformers`: the case with the long context, a wide window as wide."""
    fields = CASES[case][1]
    return {name: LONG for name, value in fields.items() if value == CONTEXT}


def _text(kind):
    return "Text" if kind == "Gemma3" else ""


def from_golden(case, folder):
    """The same checkpoint without transformers, and the logits that it gave: ids, logits."""
    kept = json.loads(GOLDEN.read_text())[case]
    zero = CASES[case][0] in NORMS_FROM_ZERO
    tensors = {name: tensor(name, shape, 0, zero) for name, shape in kept["tensors"].items()}
    write_checkpoint(folder, kept["config"], tensors)
    return kept["ids"], np.array(kept["logits"], dtype=np.float32)


def make_golden():
    """Writes golden.json: `python -m tests.interop.family_checkpoints`."""
    import tempfile

    import torch
    from safetensors.numpy import load_file

    golden = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "hf"
            model = from_transformers(case, folder)
            config = json.loads((folder / "config.json").read_text())
            stored = load_file(folder / "model.safetensors")
        ids = np.random.default_rng(5).integers(0, VOCABULARY, CONTEXT).tolist()
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].float().numpy()
        golden[case] = {
            "config": config,
            "tensors": {name: list(values.shape) for name, values in stored.items()},
            "ids": ids,
            "logits": [[round(float(v), 6) for v in row[::37]] for row in logits[::6]],
        }
    GOLDEN.write_text(
        "{\n" + ",\n".join(f"{json.dumps(c)}: {json.dumps(v)}" for c, v in golden.items()) + "\n}\n"
    )


if __name__ == "__main__":
    make_golden()
