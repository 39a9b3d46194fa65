"""The peer of training.py and quality.py: a GPT of a given shape in PyTorch, and its training step.

transformers' GPT-2 stands for nanoGPT: the same layers, the same losses. With the folder of a
nanoGPT checkout its own model.py is taken instead.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from minigpt_tf.config import ModelConfig
from minigpt_tf.machine import usable_cores


class NanoGPT(torch.nn.Module):
    """nanoGPT's own model: ids and targets (B, T) -> mean loss."""

    def __init__(self, config: ModelConfig, checkout: Path) -> None:
        super().__init__()
        code = _load(checkout / "model.py")
        sizes = {"n_layer": config.num_layers, "n_head": config.num_heads}
        sizes |= {"n_embd": config.embed_dim, "vocab_size": config.vocab_size}
        settings = {"block_size": config.context_length, "dropout": config.dropout}
        self.model = code.GPT(code.GPTConfig(**sizes, **settings, bias=config.use_bias))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.model(x, y)[1]


class TransformersGPT2(torch.nn.Module):
    """The same of transformers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout)
        sizes = {"n_layer": config.num_layers, "n_head": config.num_heads}
        sizes |= {"n_embd": config.embed_dim, "vocab_size": config.vocab_size}
        ends = {"bos_token_id": None, "eos_token_id": None, "use_cache": False}
        settings = {"n_positions": config.context_length}
        self.model = GPT2LMHeadModel(GPT2Config(**sizes, **settings, **rates, **ends))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(self.model(x).logits.flatten(0, 1), y.flatten())


def _load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("nanogpt_model", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(config: ModelConfig, nanogpt: Path | None) -> torch.nn.Module:
    """A module that gives the mean loss of ids and targets (B, T), of transformers or nanoGPT."""
    torch.manual_seed(1337)
    torch.set_num_threads(usable_cores())
    return TransformersGPT2(config) if nanogpt is None else NanoGPT(config, nanogpt)


def loss_of(model: torch.nn.Module, x: np.ndarray, y: np.ndarray, dtype: str) -> torch.Tensor:
    """Mean cross-entropy over ids (B, T), under autocast for bfloat16."""
    x, y = (torch.from_numpy(ids.astype(np.int64)) for ids in (x, y))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
        return model(x, y)


def adamw(model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW as nanoGPT sets it up: matrices decay, the rest does not."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99))


def train_step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    x: np.ndarray,
    y: np.ndarray,
    dtype: str,
) -> float:
    """One step with gradients clipped to norm 1; the loss before it."""
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(model, x, y, dtype)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()
