"""The peer of training.py and quality.py: a GPT of a given shape in PyTorch, and its training step.

transformers' GPT-2 stands for nanoGPT: the same layers, the same losses. With the folder of a
nanoGPT checkout its own model.py is taken instead.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from minigpt_tf.config import ModelConfig
from minigpt_tf.machine import usable_cores


def build(config: ModelConfig, nanogpt: Path | None) -> Callable:
    """A function (x, y) -> logits for ids (B, T), a torch module: of transformers or nanoGPT."""
    torch.manual_seed(1337)
    torch.set_num_threads(usable_cores())
    sizes = {"n_layer": config.num_layers, "n_head": config.num_heads, "n_embd": config.embed_dim}
    if nanogpt is not None:
        spec = importlib.util.spec_from_file_location("nanogpt_model", nanogpt / "model.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sizes |= {"block_size": config.context_length, "vocab_size": config.vocab_size}
        settings = {"dropout": config.dropout, "bias": config.use_bias}
        model = module.GPT(module.GPTConfig(**sizes, **settings))
        model.logits = lambda x, y: model(x, y)[0]
        return model
    from transformers import GPT2Config, GPT2LMHeadModel

    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout)
    sizes |= {"vocab_size": config.vocab_size, "n_positions": config.context_length}
    ends = {"bos_token_id": None, "eos_token_id": None}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **dropout, **ends, use_cache=False))
    model.logits = lambda x, y: model(x).logits
    return model


def loss_of(model: Callable, x: np.ndarray, y: np.ndarray, dtype: str) -> torch.Tensor:
    """Mean cross-entropy over ids (B, T), under autocast for bfloat16."""
    x, y = (torch.from_numpy(ids.astype(np.int64)) for ids in (x, y))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
        logits = model.logits(x, y)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())


def adamw(model: Callable, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW as nanoGPT sets it up: matrices decay, the rest does not."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99))


def train_step(model, optimizer, x: np.ndarray, y: np.ndarray, dtype: str) -> float:
    """One step with gradients clipped to norm 1; the loss before it."""
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(model, x, y, dtype)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()
