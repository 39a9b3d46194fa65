"""The head of a classifier: a linear layer on the hidden state of a text's last token.

One safetensors file beside the model: "kernel" (D, C) and "bias" (C,), and the names of the C
labels in its metadata. Nothing in it can run code.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from ..errors import ModelFolderError
from ..inference.weights import check_finite
from ..storage.model_folder import HEAD_NAME
from ..storage.reading import open_safetensors

FORMAT = "minigpt_tf classifier 1"


@dataclass(frozen=True)
class Head:
    """What turns hidden states into scores of labels: D is the model's width, C labels."""

    kernel: np.ndarray
    """(D, C) float32."""
    bias: np.ndarray
    """(C,) float32."""
    labels: list[str]
    """The names of the C labels."""

    def scores(self, hidden: np.ndarray) -> np.ndarray:
        """Scores of hidden states.

        Args:
            hidden: (..., D).

        Returns:
            A score for each label, (..., C).
        """
        return hidden @ self.kernel + self.bias


def save_head(folder: Path, kernel: np.ndarray, bias: np.ndarray, labels: Sequence[str]) -> None:
    """Writes the head's file.

    Args:
        folder: where to.
        kernel: (D, C) float32.
        bias: (C,) float32.
        labels: the names of the C labels.
    """
    tensors = {"kernel": np.ascontiguousarray(kernel), "bias": np.ascontiguousarray(bias)}
    metadata = {"format": FORMAT, "labels": json.dumps(list(labels))}
    (folder / HEAD_NAME).write_bytes(save(tensors, metadata))  # save_file's is its owner's alone


def load_head(folder: Path, embed_dim: int) -> Head:
    """Reads the head of a model folder.

    Args:
        folder: the model folder.
        embed_dim: the width of its model, D.

    Returns:
        The head.

    Raises:
        ModelFolderError: the head is missing, damaged, or another model's.
    """
    file = folder / HEAD_NAME
    if not file.is_file():
        raise ModelFolderError(
            f"{folder}: is not a classifier ({HEAD_NAME} is missing): minigpt finetune --method "
            "classify makes one"
        )
    with open_safetensors(file, "a classifier's head") as archive:
        metadata = archive.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise ModelFolderError(f"{file}: is not of this version of minigpt_tf")
        labels = json.loads(metadata["labels"])
        kernel, bias = (archive.get_tensor(name) for name in ("kernel", "bias"))
    named = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not named or len(set(labels)) != len(labels) or len(labels) < 2:
        raise ModelFolderError(f"{file}: is damaged: its labels must be a list of different names")
    expected = {"kernel": (embed_dim, len(labels)), "bias": (len(labels),)}
    for name, tensor in (("kernel", kernel), ("bias", bias)):
        if tensor.shape != expected[name] or tensor.dtype != np.float32:
            raise ModelFolderError(
                f"{file}: {name} is {tensor.dtype} {tensor.shape}, the model beside it and its "
                f"{len(labels)} labels need float32 {expected[name]}"
            )
        check_finite(tensor, name, str(file))
    return Head(kernel, bias, labels)
