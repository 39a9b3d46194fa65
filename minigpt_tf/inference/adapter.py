"""Adapter files: the low-rank updates that LoRA learned, and the base that they belong to.

One safetensors file: for each updated kernel, by its name in `inference.weights`, the factors
"NAME:a" (inputs, rank) and "NAME:b" (rank, outputs); rank, alpha and the base's fingerprint are its
metadata.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from ..config import MODEL_NAME, ModelConfig
from ..errors import ModelFolderError
from ..storage.reading import open_safetensors
from ..storage.replacing import sha256_of
from .weights import Weights, open_weights, weight_shapes

FORMAT = "minigpt_tf adapter 1"


@dataclass(frozen=True)
class Adapter:
    """Low-rank updates of kernels by name: alpha / rank * A B is added to each."""

    factors: dict[str, tuple[np.ndarray, np.ndarray]]
    rank: int
    alpha: float
    base: str
    """`fingerprint` of the base's weights."""

    def update(self, name: str) -> np.ndarray:
        """What is added to a kernel.

        Args:
            name: The kernel, as in `inference.weights`.

        Returns:
            float32 (inputs, outputs).
        """
        a, b = self.factors[name]
        return np.float32(self.alpha / self.rank) * (a @ b)

    def merged(self, base: Mapping[str, np.ndarray]) -> Weights:
        """The base's weights with the updates added."""
        return {
            name: np.array(values, dtype=np.float32) for name, values in self.over(base).items()
        }

    def over(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """The same without copies: an updated kernel is computed each time it is read.

        `base`: arrays, or the datasets of an open file."""
        updated = {name: UpdatedKernel(base[name], self, name) for name in self.factors}
        return {**base, **updated}


@dataclass(frozen=True)
class UpdatedKernel:
    """A kernel of the base with its low-rank update, which is read as an array."""

    base: Any
    adapter: Adapter
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """As the base's."""
        return self.base.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """A new array, float32 if no dtype is given."""
        values = np.array(self.base, dtype=np.float32)
        values += self.adapter.update(self.name).reshape(values.shape)
        return values.astype(dtype or np.float32, copy=False)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.__array__()[index]


def fingerprint(path: Path) -> str:
    """SHA-256 of a base's model.h5."""
    return sha256_of(path / MODEL_NAME)


def save_adapter(file: Path, adapter: Adapter) -> None:
    """Writes an adapter.

    Args:
        file: Where to; replaced if it exists.
        adapter: What `load_adapter` reads again.
    """
    tensors: dict[str, np.ndarray] = {}
    for name, (a, b) in adapter.factors.items():
        tensors |= {f"{name}:a": np.ascontiguousarray(a), f"{name}:b": np.ascontiguousarray(b)}
    metadata = {"format": FORMAT, "rank": adapter.rank, "alpha": adapter.alpha}
    metadata |= {"base": adapter.base}
    described = {name: json.dumps(value) for name, value in metadata.items()}
    file.write_bytes(save(tensors, described))  # save_file's is its owner's alone


def load_adapter(file: Path, config: ModelConfig) -> Adapter:
    """Reads a file of LoRA's matrices, as fine-tuning writes it beside the merged model.

    Args:
        file: Its adapter.safetensors.
        config: Architecture of the model that it was trained on.

    Returns:
        The matrices, and which base they belong to.

    Raises:
        ModelFolderError: The file is missing, damaged, or for another architecture.

    Example:
        >>> import minigpt_tf as mg
        >>> from pathlib import Path
        >>> mg.load_adapter(Path("adapter.safetensors"), mg.ModelConfig())
        Traceback (most recent call last):
        minigpt_tf.errors.ModelFolderError: adapter.safetensors: no such adapter
    """
    if not file.exists():
        raise ModelFolderError(f"{file}: no such adapter")
    with open_safetensors(file, "an adapter") as archive:
        metadata = archive.metadata() or {}
        values = {name: json.loads(text) for name, text in metadata.items()}
        tensors = {name: archive.get_tensor(name) for name in list(archive.keys())}
    rank, alpha, base = (values.get(name) for name in ("rank", "alpha", "base"))
    sound = values.get("format") == FORMAT and isinstance(base, str)
    if not sound or type(rank) is not int or rank < 1 or not isinstance(alpha, (int, float)):
        raise ModelFolderError(f"{file}: is not an adapter of this version of minigpt_tf")
    return Adapter(_factors(tensors, rank, config, file), rank, float(alpha), str(base))


def _factors(
    tensors: dict[str, np.ndarray], rank: int, config: ModelConfig, file: Path
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The factors by kernel; raises ModelFolderError that names one which does not fit."""
    shapes = weight_shapes(config)
    factors = {}
    for name in sorted({name.rpartition(":")[0] for name in tensors}):
        a, b = tensors.get(f"{name}:a"), tensors.get(f"{name}:b")
        shape = shapes.get(name, ())
        fits = (
            a is not None
            and b is not None
            and name.endswith("/kernel")
            and a.ndim == b.ndim == 2
            and a.shape[1] == b.shape[0] == rank
            and a.shape[0] * b.shape[1] == np.prod(shape, dtype=int)
        )
        if not fits or a is None or b is None or not (_is_finite(a) and _is_finite(b)):
            raise ModelFolderError(f"{file}: {name or 'a tensor'} does not fit the model")
        factors[name] = (np.asarray(a, np.float32), np.asarray(b, np.float32))
    if not factors:
        raise ModelFolderError(f"{file}: contains no low-rank updates")
    return factors


def _is_finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())


def merge(base: Path, config: ModelConfig, adapter: Adapter) -> Weights:
    """The weights of a base model with an adapter's low-rank updates added.

    Args:
        base: The base's model folder.
        config: Its architecture.
        adapter: From `load_adapter`.

    Returns:
        Float32 arrays by the names of `inference.weights`.

    Raises:
        ModelFolderError: The adapter was trained on another base, or the base is damaged.

    Example:
        >>> import minigpt_tf as mg
        >>> tokenizer = mg.Tokenizer()
        >>> tokenizer.fit_on_texts(["who is hardy"])
        >>> model = mg.build_gpt_model(4, 8, embed_dim=8, num_heads=2, ff_dim=8, num_layers=1)
        >>> folder = mg.save_model_folder(model, tokenizer, "models/mine")
        >>> from minigpt_tf.inference.adapter import Adapter
        >>> other = Adapter({}, 1, 1.0, "another base's fingerprint")
        >>> mg.merge(folder, mg.load_folder(folder).model, other)
        Traceback (most recent call last):
        minigpt_tf.errors.ModelFolderError: models/mine: is not the base that the adapter was ...
    """
    if fingerprint(base) != adapter.base:
        raise ModelFolderError(
            f"{base}: is not the base that the adapter was trained on: name that one"
        )
    with open_weights(base / MODEL_NAME, config) as datasets:
        return adapter.merged(datasets)
