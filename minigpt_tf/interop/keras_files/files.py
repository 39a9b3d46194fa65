"""A Keras model file, .h5 or .keras: its configuration, and where its weights lie.

Nothing is loaded: no class is imported, no value of a weight is read before it is asked for.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelFolderError
from ...storage.hdf5 import (
    check_dataset,
    child,
    children,
    datasets,
    open_hdf5,
    text_attribute,
    texts_attribute,
    while_looking,
)
from ...storage.regular import check_regular
from . import architecture
from .architecture import Layer, Refused, read_architecture
from .archive import CONFIG_MEMBER, WEIGHTS_MEMBER, Archive
from .layer_weights import by_layer
from .parts import ATTENTION

LARGEST_CONFIG = 2**25
"""Bytes of a configuration: of some thousand blocks."""

WEIGHTS = "model_weights"

ARCHIVE_PROJECTIONS = ("query_dense", "key_dense", "value_dense", "output_dense")
"""Keras's attributes of an attention's projections, by which a .keras file names them."""


@dataclass(frozen=True)
class FileWeight:
    """A weight in a Keras model file (`interop.tensors.Tensor`)."""

    source: "KerasFile"
    dataset: str
    """Its path in the HDF5 file."""
    name: str
    """Its path in the group of its layer, or of the model that this lies in."""
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def is_bfloat16(self) -> bool:
        """Keras writes those as two opaque bytes."""
        return self.dtype.kind == "V" and self.dtype.itemsize == 2

    @property
    def is_floating(self) -> bool:
        """Whether it holds floating-point numbers that can be read."""
        return self.is_bfloat16 or (self.dtype.kind == "f" and self.dtype.itemsize <= 8)

    def read(self) -> np.ndarray:
        """The values as float32. Raises ModelFolderError."""
        where = self.source.where
        with self.source.open() as file, while_looking(where):
            found = child(file, *self.dataset.split("/"))
            if found is not None:
                check_dataset(found)
            if found is None or found.shape != self.shape or found.dtype != self.dtype:
                raise ModelFolderError(f"{where}: has changed while it was read")
            values = found[...]
        if self.is_bfloat16:
            return (values.view("<u2").astype("<u4") << 16).view("<f4")
        with np.errstate(over="ignore"):
            return values.astype(np.float32, copy=False)


@dataclass
class KerasFile:
    """A Keras model file."""

    path: Path
    archive: Archive | None
    """The .keras file; None for an .h5 file."""
    description: Any = None
    """The configuration, as it stands in the file."""
    model: Layer = field(init=False)
    """The same as a tree of layers."""
    weights: dict[architecture.Path, list[FileWeight]] = field(init=False)
    """By layer, in Keras's order."""

    @property
    def format(self) -> str:
        """Keras's name of the format."""
        return ".h5" if self.archive is None else ".keras"

    @property
    def where(self) -> str:
        """Names the HDF5 file in errors."""
        return str(self.path) if self.archive is None else f"{self.path}, {WEIGHTS_MEMBER}"

    @contextmanager
    def open(self) -> Iterator[Any]:
        """The HDF5 file that the weights lie in, as `open_hdf5` gives it."""
        if self.archive is None:
            with open_hdf5(self.path) as file:
                yield file
        else:
            with (
                self.archive.open(WEIGHTS_MEMBER) as content,
                open_hdf5(self.where, content) as file,
            ):
                yield file


def open_keras_file(path: str | Path) -> KerasFile:
    """A Keras model file, its configuration read and its weights found.

    Args:
        path: An .h5 or a .keras file; told apart by its content.

    Raises:
        ModelFolderError: The file is damaged, contains no Keras model or weights alone, or
            leads out of itself.
    """
    path = Path(path)
    check_regular(path)
    with open(path, "rb") as file:
        zipped = file.read(4) == b"PK\3\4"
    source = KerasFile(path, Archive(path) if zipped else None)
    with source.open() as file, while_looking(source.where):
        source.description = _description(source, file)
        try:
            source.model = read_architecture(source.description)
        except Refused as error:
            raise ModelFolderError(f"{path}: {error}") from None
        find = _weights_of_h5 if source.archive is None else _weights_of_archive
        source.weights = find(source, file)
    return source


def _description(source: KerasFile, file: Any) -> Any:
    if source.archive is not None:
        text: str | bytes | None = source.archive.read(CONFIG_MEMBER, LARGEST_CONFIG)
        if text is None:
            raise ModelFolderError(f"{source.path}: has no {CONFIG_MEMBER}, so no Keras model")
    else:
        text = text_attribute(file, "model_config")
        if text is None or child(file, WEIGHTS) is None:
            raise ModelFolderError(f"{source.path}: {_without_model(file)}")
    if len(text) > LARGEST_CONFIG:
        raise ModelFolderError(f"{source.path}: its architecture is larger than {LARGEST_CONFIG:,}")
    try:
        return json.loads(text)
    except RecursionError:
        raise ModelFolderError(f"{source.path}: its architecture is nested too deeply") from None
    except ValueError as error:
        raise ModelFolderError(
            f"{source.path}: its architecture is damaged: {error!s:.120}"
        ) from None


def _without_model(file: Any) -> str:
    """What an .h5 file without a model is."""
    if not {"layers", "vars", WEIGHTS, "_layer_checkpoint_dependencies"} & set(file) and (
        texts_attribute(file, "layer_names") is None
    ):
        return "contains no Keras model"
    sizes = [d.size for name, d in datasets(file) if not name.startswith("optimizer")]
    return (
        f"holds weights alone ({sum(sizes):,} numbers in {len(sizes)} arrays), not the layers that "
        'they belong to: save the whole model by model.save("gpt.h5")'
    )


def _found(source: KerasFile, dataset: Any, name: str) -> FileWeight:
    path = dataset.name.removeprefix("/")
    return FileWeight(source, path, name, tuple(dataset.shape), dataset.dtype)


# ---------------------------------------------------------------- .h5: a list for each layer


def _weights_of_h5(source: KerasFile, file: Any) -> dict[architecture.Path, list[FileWeight]]:
    group = child(file, WEIGHTS)
    layers = {layer.name: layer for layer in source.model.layers or ()}
    found: dict[architecture.Path, list[FileWeight]] = {}
    for name in layers:  # in the model's order
        found[(name,)] = []
    for name, part in _h5_layers(group, layers):
        weights = _listed(source, part)
        layer = layers.get(name)
        if layer is not None and layer.layers is not None:
            found |= by_layer(layer, weights)
        elif name == "top_level_model_weights":
            found[()] = weights
        else:
            found[(name,)] = weights
    return {path: weights for path, weights in found.items() if weights}


def _h5_layers(group: Any, layers: dict[str, Layer]) -> Iterator[tuple[str, Any]]:
    """(layer's name, its group); a name of tf.keras 2 may have slashes."""
    nested = {name.split("/")[0]: name for name in layers if "/" in name}
    for name, part in children(group):
        if name not in nested:
            yield name, part
    for name in nested.values():
        part = child(group, *name.split("/"))
        if part is not None:
            yield name, part


def _listed(source: KerasFile, group: Any) -> list[FileWeight]:
    """The weights of a layer's group in their order."""
    names = texts_attribute(group, "weight_names")
    if names is None:
        raise ModelFolderError(f"{source.where}: {group.name} does not list its weights")
    found = dict(datasets(group)) if names else {}
    missing = [name for name in names if name not in found]
    if missing:
        raise ModelFolderError(f"{source.where}: {group.name} lacks the weight {missing[0]:.80}")
    return [_found(source, found[name], name) for name in names]


# ---------------------------------------------------------------- .keras: groups as the layers nest


def _weights_of_archive(source: KerasFile, file: Any) -> dict[architecture.Path, list[FileWeight]]:
    found: dict[architecture.Path, list[FileWeight]] = {}
    if source.model.layers is None:  # a class of its own: by its attributes
        for name, group in children(file):
            if name not in ("optimizer", "metrics"):
                found[(name,)] = _below(source, group)
    waiting = [(source.model, file)]
    while waiting:
        layer, group = waiting.pop()
        if layer.layers is None:
            if layer is not source.model:
                found[layer.path] = _of_layer(source, layer, group)
            continue
        container = child(group, "layers")
        if container is not None:
            waiting += reversed(list(_paired(layer.layers, dict(children(container)))))
    return {path: weights for path, weights in found.items() if weights}


def _paired(layers: list[Layer], groups: dict[str, Any]) -> Iterator[tuple[Layer, Any]]:
    """Each layer with its group: by the name that new files note, else by class and order."""
    noted = {}
    for group in groups.values():
        variables = child(group, "vars")
        name = None if variables is None else text_attribute(variables, "name")
        noted[name] = group
    counts: dict[str, int] = {}
    for layer in layers:
        name = _snake_case(layer.class_name)
        count = counts[name] = counts.get(name, -1) + 1
        group = noted.get(layer.name, groups.get(f"{name}_{count}" if count else name))
        if group is not None:
            yield layer, group


def _snake_case(class_name: str) -> str:
    """As `keras.src.utils.naming.to_snake_case`."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _of_layer(source: KerasFile, layer: Layer, group: Any) -> list[FileWeight]:
    if layer.kind not in ATTENTION:
        return _below(source, group)
    weights = []
    for name in ARCHIVE_PROJECTIONS:
        part = child(group, name) or child(group, f"_{name}")  # as public attribute or as private
        weights += [] if part is None else _below(source, part)
    return weights


def _below(source: KerasFile, group: Any) -> list[FileWeight]:
    """All weights in a group: its own in their order, then those of the parts of a custom layer."""
    found = [(name, d) for name, d in datasets(group) if "seed_generator" not in name]
    found.sort(key=lambda item: (item[0].count("/"), _numbered(item[0])))
    return [_found(source, dataset, name) for name, dataset in found]


def _numbered(name: str) -> list[Any]:
    """A key by which 10 comes after 9."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in name.split("/")]
