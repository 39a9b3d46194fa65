"""A Hugging Face folder (config.json, safetensors, tokenizer) as a Source."""

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

import numpy as np

from ...config import ModelConfig
from ...errors import ModelFolderError
from ...storage.json_files import read_object
from ..families import GRANITE, GRANITE_HYBRID, LLAMA, Family
from ..license import license_files, license_name
from ..source import Source
from .read_config import read_config
from .read_safetensors import INDEX_NAME, SINGLE_NAME, StoredTensor, open_folder
from .read_tokenizer import read_chat_template, read_generation, read_tokenizer

CONFIG_NAME = "config.json"
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
"""Weights as PyTorch pickles them."""

HEADS = "lm_head."
HEAD = "lm_head.weight"


def holds_safetensors(folder: Path) -> bool:
    """Whether there are weights that `open_huggingface` reads, sound or not."""
    return any(any(folder.glob(pattern)) for pattern in (INDEX_NAME, "*.safetensors"))


def holds_pickles(folder: Path) -> bool:
    """Whether there are weights that it refuses."""
    return any(any(folder.glob(pattern)) for pattern in PICKLE_PATTERNS)


def open_huggingface(folder: Path, where: str = "") -> Source:
    """Reads everything but the weights.

    Args:
        folder: A folder with config.json, safetensors and the tokenizer's files.
        where: Names the source (unset: by its folder).

    Returns:
        The source of a model folder; its tensors are read later.

    Raises:
        ModelFolderError: The model is unsupported, pickled or damaged.
        DataError: The tokenizer cannot be read.
    """
    where = where or str(folder)
    _refuse_pickles(folder, where)
    file = folder / CONFIG_NAME
    if not file.is_file():
        raise ModelFolderError(f"{folder}: has no {CONFIG_NAME}, so its architecture is unknown")
    values = read_object(file)
    described = read_config(values, file)
    family, config = described.family, described.config
    tensors = _tensors(open_folder(folder), family, described.expressed, folder)
    left_out: list[str] = []
    tokenizer, start_ids = read_tokenizer(folder, values, config.vocab_size, left_out)
    license = license_name(folder)
    return Source(
        where=where,
        config=config,
        expressed=described.expressed,
        table=family.huggingface,
        tensors=tensors,
        factors=described.factors,
        tokenizer=tokenizer,
        start_ids=start_ids,
        chat_template=read_chat_template(folder, left_out),
        generation=read_generation(folder, left_out),
        origin={"format": "Hugging Face", "architecture": family.name, "from": where}
        | ({"license": license} if license else {}),
        left_out=tuple(left_out),
        files=license_files(folder),
    )


def _refuse_pickles(folder: Path, where: str) -> None:
    """Raises ModelFolderError if the only weights are such as can run code."""
    if any((folder / name).is_file() for name in (SINGLE_NAME, INDEX_NAME)):
        return
    pickles = sorted(file.name for pattern in PICKLE_PATTERNS for file in folder.glob(pattern))
    if pickles:
        raise ModelFolderError(only_pickles(where, pickles[0]))
    if (folder / "adapter_config.json").is_file():
        raise ModelFolderError(
            f"{where}: holds an adapter alone: merge it into its model first, with peft's "
            "merge_and_unload, and save that as safetensors"
        )


def only_pickles(where: str, name: str) -> str:
    """Writes the error for a source whose weights are pickled.

    Args:
        where: The source.
        name: The file with the weights.

    Returns:
        The message, with a command that converts the weights.
    """
    convert = (
        "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "
        f"[c.from_pretrained('{where}').save_pretrained('NEW_FOLDER') for c in (M, T)]"
    )
    return (
        f"{where}: its weights are in {name}, a pickle, which can run code when it is loaded and "
        f'is never read here: convert it where you trust it, with python -c "{convert}"'
    )


def _tensors(
    stored: Mapping[str, StoredTensor], family: Family, config: ModelConfig, folder: Path
) -> dict[str, StoredTensor]:
    """The tensors that hold weights, by their names in the family's table."""
    tensors: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        prefix = family.prefix
        full = name if name.startswith((prefix, HEADS)) else prefix + name
        if full in tensors:
            raise ModelFolderError(f"{folder}: holds both {full:.80} and {name:.80}")
        if not family.buffers.fullmatch(full):
            tensors[full] = tensor
    if config.tie_embeddings and HEAD in tensors:
        _drop_tied_head(tensors, family.huggingface.before[0].name, folder)
    if family in (LLAMA, GRANITE, GRANITE_HYBRID) and config.qkv_bias:
        _drop_zero_biases(tensors, config, folder)
    return tensors


def _drop_tied_head(tensors: dict[str, StoredTensor], embedding: str, folder: Path) -> None:
    """Takes the head away that should be the embedding once more, if it is."""
    head = tensors.pop(HEAD)
    if embedding not in tensors:  # of two equal tensors some files keep this one
        tensors[embedding] = head
        return
    same = tensors[embedding].shape == head.shape
    chunks = zip_longest(tensors[embedding].chunks(), head.chunks()) if same else ()
    if not same or not all(np.array_equal(one, other) for one, other in chunks):
        raise ModelFolderError(
            f"{folder}: {HEAD} is not equal to {embedding}, but tie_word_embeddings says that both "
            f"are one: set it to false in {CONFIG_NAME} if the model has a head of its own"
        )


def _drop_zero_biases(tensors: dict[str, StoredTensor], config: ModelConfig, folder: Path) -> None:
    """Takes the output projections' biases away that attention_bias brings, if all are zero."""
    for layer in range(config.num_layers):
        name = f"model.layers.{layer}.self_attn.o_proj.bias"
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != (config.embed_dim,):
            shape = "missing" if tensor is None else f"of shape {tensor.shape}"
            raise ModelFolderError(
                f"{folder}: the tensor {name} is {shape}, attention_bias needs "
                f"({config.embed_dim},)"
            )
        if tensors.pop(name).read().any():
            raise ModelFolderError(
                f"{folder}: attention_bias: {name} is not zero, and a bias there without one in "
                "the feed-forward layers is unsupported"
            )
