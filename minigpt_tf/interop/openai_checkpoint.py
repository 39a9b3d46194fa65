"""GPT-2 as OpenAI published it: a TensorFlow checkpoint, hparams.json and the tokenizer's files."""

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import END_OF_TEXT, ModelConfig
from ..errors import ConfigError, ModelFolderError
from ..storage.json_files import integer, read_object
from ..storage.reading import why_unreadable
from ..storage.regular import check_regular, read_regular
from ..text import gpt2_files
from ..text.tokenizers import ImportedTokenizer
from .families import GPT2
from .huggingface.read_tokenizer import byte_pair_backend, read_byte_pairs
from .license import license_files
from .source import Source
from .tensor_tables import OPENAI_GPT2

SETTINGS_NAME = "hparams.json"
VOCABULARY_NAME, MERGES_NAME = "encoder.json", "vocab.bpe"
CHECKPOINT_NAME = "checkpoint"

DTYPES = ("float32", "float16", "bfloat16", "float64")
"""TensorFlow's types that a weight may have."""


def is_openai(folder: Path) -> bool:
    """Whether the folder looks like one, sound or not."""
    return (folder / SETTINGS_NAME).is_file() or any(folder.glob("*.index"))


@dataclass(frozen=True)
class CheckpointTensor:
    """A variable in a checkpoint (`tensors.Tensor`)."""

    file: Path
    """The checkpoint, without its files' endings."""
    name: str
    dtype: Any
    shape: tuple[int, ...]
    """Without the first axis of size 1 that OpenAI's kernels have."""

    def read(self) -> np.ndarray:
        """The values as float32. Raises ModelFolderError."""
        from ..model.tensorflow_internals import restore

        try:
            tensor = restore(str(self.file), self.name, self.dtype)
            values = np.asarray(tensor)  # shares the tensor's memory, as the reader's does not
        except Exception as error:  # TensorFlow raises many kinds on a damaged file
            raise _damaged(self.file, error) from None
        with np.errstate(over="ignore"):
            return values.reshape(self.shape).astype(np.float32, copy=False)


def open_openai(folder: Path) -> Source:
    """Reads everything but the weights. Raises ModelFolderError, or DataError for the tokenizer."""
    config = _config(folder)
    tokenizer = _tokenizer(folder)
    return Source(
        where=str(folder),
        config=config,
        expressed=config,
        table=OPENAI_GPT2,
        tensors=_tensors(_prefix(folder)),
        tokenizer=tokenizer,
        start_ids=sorted(tokenizer.end_ids) or [0],
        origin={"format": "OpenAI checkpoint", "architecture": GPT2.name, "from": str(folder)},
        files=license_files(folder),
    )


def _config(folder: Path) -> ModelConfig:
    file = folder / SETTINGS_NAME
    if not file.is_file():
        raise ModelFolderError(f"{folder}: has no {SETTINGS_NAME}, so its sizes are unknown")
    values = read_object(file)
    try:
        return ModelConfig(
            vocab_size=integer(values, "n_vocab", file),
            context_length=integer(values, "n_ctx", file),
            embed_dim=integer(values, "n_embd", file),
            num_layers=integer(values, "n_layer", file),
            num_heads=integer(values, "n_head", file),
            dropout=0.1,
            positions="learned",
            norm_placement="before",
            norm_epsilon=1e-5,
            activation="gelu_tanh",
            logits_bias=False,
            tie_embeddings=True,
        )
    except ConfigError as error:
        raise ModelFolderError(f"{file}: {error}") from None


def _tokenizer(folder: Path) -> ImportedTokenizer:
    """From the folder's files, or GPT-2's from wherever it is found."""
    vocabulary, merges = folder / VOCABULARY_NAME, folder / MERGES_NAME
    if vocabulary.is_file() and merges.is_file():
        backend = byte_pair_backend(*read_byte_pairs(vocabulary, merges))
    else:
        backend = byte_pair_backend(*gpt2_files.find())
    end = backend.token_to_id(END_OF_TEXT)
    if end is None:
        return ImportedTokenizer(backend)
    backend.add_special_tokens([END_OF_TEXT])
    return ImportedTokenizer(backend, [end])


def _prefix(folder: Path) -> Path:
    """The checkpoint's path without its endings; of several, the one that `checkpoint` names."""
    names = sorted(file.name.removesuffix(".index") for file in folder.glob("*.index"))
    note = folder / CHECKPOINT_NAME
    text = read_regular(note).decode("utf-8", "replace") if note.is_file() else ""
    named = re.search(r'^model_checkpoint_path: "([^"]*)"', text, re.MULTILINE)
    chosen = Path(named[1]).name if named else ""  # never one of another folder
    if len(names) == 1:
        chosen = names[0]
    if chosen not in names:
        found = ", ".join(names) or "none"
        raise ModelFolderError(
            f"{folder}: expected the files of one checkpoint, model.ckpt.index and its data; found "
            f"{found}"
        )
    return folder / chosen


def _tensors(prefix: Path) -> dict[str, CheckpointTensor]:
    for file in prefix.parent.glob(f"{glob.escape(prefix.name)}.*"):
        check_regular(file)
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes = reader.get_variable_to_shape_map()
        dtypes = reader.get_variable_to_dtype_map()
    except Exception as error:  # TensorFlow raises many kinds on a damaged file
        raise _damaged(prefix, error) from None
    tensors = {}
    for name, shape in shapes.items():
        if dtypes[name].name not in DTYPES:
            raise ModelFolderError(
                f"{prefix}: {name:.80} holds {dtypes[name].name}; known are {', '.join(DTYPES)}"
            )
        squeezed = name.endswith("/w") and len(shape) == 3 and shape[0] == 1
        sizes = tuple(shape[1:] if squeezed else shape)
        tensors[name] = CheckpointTensor(prefix, name, dtypes[name], sizes)
    return tensors


def _damaged(prefix: Path, error: Exception) -> ModelFolderError:
    return ModelFolderError(why_unreadable(prefix, error, "is damaged or no TensorFlow checkpoint"))
